"""Standard streams that cannot be written to, and text with control characters."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from npllm.cli.main import main
from npllm.cli.output import PrintableConsole, standard_streams

ROOT = Path(__file__).parent.parent.parent
HOSTILE = "a\x1b]0;title\x07b\x9b31mc\u202ed"


def shell(command):
    """Run `npllm` in a shell; return (exit status, standard error)."""
    command = command.replace("npllm", f"{sys.executable} -m npllm", 1)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, env=environment)
    return done.returncode, done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
@pytest.mark.parametrize("arguments", ["data", "--help"])
def test_a_full_disk_behind_standard_output_is_named(arguments):
    status, error = shell(f"npllm {arguments} >/dev/full")
    assert (status, error) == (1, "npllm: standard output: No space left on device\n")


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_closed_streams_are_like_dev_null():
    assert shell("npllm data <&- >&- 2>&-") == (0, "")
    assert shell("npllm tokenize - <&-") == (1, "npllm: standard input is closed; it must be a text\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
def test_an_error_message_that_cannot_be_written_does_not_change_the_exit_status():
    assert shell("npllm tokenize ' ' 2>/dev/full") == (1, "")


def test_the_streams_are_restored():
    before = sys.stdout, sys.stderr
    with standard_streams():
        assert sys.stdout is not before[0]
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("terminal", [False, True])
def test_control_characters_are_printed_as_escape_sequences(terminal):
    console = PrintableConsole(
        file=io.StringIO(), force_terminal=terminal, width=200, color_system="standard" if terminal else None
    )
    console.print(HOSTILE, style="red", markup=False)
    out = console.file.getvalue()
    assert ("\x1b[31m" in out) == terminal, "the console's own colours are kept"
    plain = out.replace("\x1b[31m", "").replace("\x1b[0m", "")
    assert all(character.isprintable() for character in plain.rstrip("\n"))
    assert "\\x1b]0;title" in plain


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--out", HOSTILE, "--resume"],
        ["train", "--out", "x", "--text", HOSTILE],
        ["generate", "--model", HOSTILE],
        ["tokenize", "--file", HOSTILE],
        ["bpe", "train", HOSTILE, "--vocab-size", "300", "--out", "x"],
        ["data", "fetch", HOSTILE],
        ["models", "fetch", HOSTILE],
        ["tokenize", "a", "--vocabulary", HOSTILE],
        ["train", "--out", "x", f"--{HOSTILE}"],
        [HOSTILE],
        ["tour", "--seed", HOSTILE],
    ],
)
def test_messages_do_not_contain_the_control_characters_of_an_argument(tmp_path, arguments, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments)
    except SystemExit as stopped:
        status = stopped.code
    out, error = capsys.readouterr()
    assert status in (1, 2)
    assert "title" in out + error
    assert all(character.isprintable() or character == "\n" for character in out + error)
