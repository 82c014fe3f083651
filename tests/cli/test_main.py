"""The command line as a whole. Most commands run in this process: a process of its own takes seconds."""

import builtins
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from npllm.cli import options
from npllm.cli.main import COMMANDS, build_parser, main
from npllm.cli.options import with_option_names
from npllm.utils.signals import raise_on_signals, signal_behind

ROOT = Path(__file__).parent.parent.parent
WORDS = "one two three four five six seven eight nine ten. " * 30


def npllm(capsys, *arguments):
    """Run a command in this process and return (status, standard output, standard error)."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        status = stopped.code
    return status, *capsys.readouterr()


def start(*arguments, **settings):
    """Start a command in a process of its own."""
    environment = os.environ | {"PYTHONUTF8": "1", "PYTHONPATH": str(ROOT)} | settings.pop("environment", {})
    command = [sys.executable, "-m", "npllm", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=environment, **pipes, **settings)


def test_without_a_command_the_commands_are_printed(capsys):
    status, out, _ = npllm(capsys)
    assert status == 0
    assert out == npllm(capsys, "--help")[1]
    for name in COMMANDS:
        assert name in out
    assert npllm(capsys, "--version")[1].startswith("npllm ")


def test_bpe_without_a_command_prints_its_commands(capsys):
    status, out, _ = npllm(capsys, "bpe")
    assert status == 0
    assert "usage: npllm bpe" in out
    assert "encode" in out and "train" in out


def test_the_readme_of_the_folder_lists_every_command_and_links_to_it():
    text = (ROOT / "npllm" / "cli" / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `npllm (\w+)[^|]*\|[^|]*\| \[(\w+)\.py\]\((\w+)\.py\) \|$", text, re.MULTILINE)
    names = list(COMMANDS)
    assert listed == [(name, name, name) for name in names]


def test_an_unknown_command_or_option_is_a_usage_error(capsys):
    for arguments in (["fly"], ["tour", "--fly"]):
        status, _, error = npllm(capsys, *arguments)
        assert status == 2
        assert "usage: npllm" in error and "fly" in error


def test_every_help_names_the_defaults(capsys):
    for name in COMMANDS:
        status, out, _ = npllm(capsys, name, "--help")
        assert status == 0
        assert "readme" not in out
    assert "(default: 2000, with --init-from 200)" in " ".join(npllm(capsys, "train", "--help")[1].split())
    assert "seed of all random numbers (default: 0)" in npllm(capsys, "tour", "--help")[1]


def test_tour(tmp_path, capsys):
    (tmp_path / "text.txt").write_text(WORDS)
    figures = tmp_path / "figures"
    status, out, error = npllm(capsys, "tour", "--text", tmp_path / "text.txt", "--steps", 3, "--figures", figures)
    assert (status, error) == (0, "")
    assert out.startswith("BLAS threads: 1\n")
    assert "16  generation" in out
    assert "\x1b[" not in out, "no colours where there is no terminal"
    names = ["attention.png", "loss.png", "merges.png", "positions.png", "windows.png"]
    assert sorted(path.name for path in figures.iterdir()) == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist; it must be a text file"),
        (b"", "is empty; it must"),
        (bytes(range(256)), "is binary"),
        (b"too short", "the text has 8 characters besides whitespace"),
    ],
)
def test_a_text_that_cannot_be_used(tmp_path, content, message, capsys):
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    status, _, error = npllm(capsys, "tour", "--text", tmp_path / "text.txt")
    assert status == 1
    assert error.startswith("npllm: ")
    assert message in error
    assert "Traceback" not in error


def test_a_folder_for_figures_is_checked_before_the_work(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "figures"):
        status, out, error = npllm(capsys, "tour", "--figures", folder)
        assert (status, out) == (1, "")
        assert "it must be a folder" in error


def test_a_folder_without_permission_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(options.os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(PermissionError, match="--out is .*new, but .* is not writable"):
        options.check_output_folder("--out", str(tmp_path / "new"))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("d_model is 8 and num_heads 3; num_heads must divide d_model",
         "--d-model is 8 and --num-heads 3; --num-heads must divide --d-model"),
        ("num_steps is 0; it must be at least 1", "--num-steps is 0; it must be at least 1"),
        ("attention_dropout is 2; it must be less than 1", "--dropout is 2; it must be less than 1"),
        ("the text has 5 tokens; with context_length 8 it must have 9",
         "the text has 5 tokens; with --context-length 8 it must have 9"),
        ("seed is -1; it must be at least 0", "--seed is -1; it must be at least 0"),
        ("the seed is at fault", "the seed is at fault"),
        ("head_dim is 7; it must be even", "head_dim is 7; it must be even"),
        ("run.json is damaged: d_model is 7", "run.json is damaged: d_model is 7"),
    ],
)  # fmt: skip
def test_errors_name_the_option_and_not_the_field(message, expected):
    assert with_option_names(message, build_parser().parse_args(["train", "--out", "x"])) == expected


def test_tokenize(capsys):
    status, out, _ = npllm(capsys, "tokenize", "Hello, world!  日本")
    assert status == 0
    assert "15496" in out, "GPT-2's Hello"
    assert "<|unk|>" in out
    assert "Hello│,│·world│!│·│" in out
    assert npllm(capsys, "tokenize", " ")[0] == 1


def test_tokenize_reads_standard_input(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hello"))
    assert "15496" in npllm(capsys, "tokenize", "-")[1]


def test_data(capsys):
    for arguments in (["data"], ["data", "list"]):
        status, out, _ = npllm(capsys, *arguments)
        assert status == 0
        assert "the-verdict" in out
    status, out, error = npllm(capsys, "data", "fetch", "no-such-text")
    assert status == 1
    assert "story, the-verdict, tinyshakespeare" in (out + error).replace("\n", " ")


def test_running_out_of_memory_is_an_error_without_traceback(capsys, monkeypatch):
    def run(console, options):
        raise MemoryError("Unable to allocate 64.0 GiB")

    monkeypatch.setattr("npllm.cli.attention.run", run)
    status, _, error = npllm(capsys, "attention")
    assert (status, error) == (1, "npllm: not enough memory: Unable to allocate 64.0 GiB\n")


def test_a_terminal_without_unicode_gets_question_marks():
    process = start("tokenize", "naïve 日本", environment={"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"})
    out, error = process.communicate(timeout=120)
    assert (process.returncode, error) == (0, "")
    assert "?" in out


def test_a_reader_that_closes_the_pipe_is_no_error():
    command = f"{sys.executable} -m npllm data | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_ctrl_c_ends_a_command_without_a_traceback():
    def default_signal():  # a shell's background jobs ignore SIGINT
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = start("tour", "--steps", "1000000", preexec_fn=default_signal)
    for line in process.stdout:
        if "training a GPT" in line:
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.strip() == "interrupted"


def test_importing_npllm_needs_only_numpy():
    code = (
        "import sys\n"
        "import npllm.attention, npllm.batching, npllm.before_transformers, npllm.functional, npllm.models\n"
        "import npllm.tokenizers, npllm.training, npllm.generation, npllm.utils.corpora, npllm.lessons.bigram\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120, cwd=ROOT
    )
    loaded = set(done.stdout.split())
    assert "numpy" in loaded
    others = {"torch", "tiktoken", "transformers", "tokenizers", "rich", "matplotlib", "regex", "filelock",
              "threadpoolctl"}  # fmt: skip
    assert not loaded & others


def test_a_current_folder_that_was_removed_is_named(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for arguments in ("generate --model run", "bpe encode text.txt --out x", "train --text text.txt --out run"):
        command = f'mkdir gone && cd gone && rmdir ../gone && "{sys.executable}" -m npllm {arguments}'
        done = subprocess.run(
            command, shell=True, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment
        )
        assert "Traceback" not in done.stderr
        assert done.returncode == 1, done.stderr
        assert "the current folder was removed" in done.stderr


@pytest.mark.parametrize("variable", ["NPLLM_DATA", "NPLLM_MODELS"])
def test_the_folder_of_an_unknown_user_is_searched_without_a_traceback(capsys, monkeypatch, variable):
    monkeypatch.setenv(variable, "~nobody-of-this-name/folder")
    for command in ("data", "models"):
        assert npllm(capsys, command)[0] == 0


def test_another_error_that_an_interruption_became_is_the_interruption(capsys, monkeypatch):
    def run(console, options):  # as an extension module whose import was interrupted
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    monkeypatch.setattr("npllm.cli.tokenize.run", run)
    assert npllm(capsys, "tokenize", "x")[::2] == (130, "interrupted\n")


def test_another_error_is_not_hidden(monkeypatch):
    def run(console, options):
        raise ImportError("initialization failed")

    monkeypatch.setattr("npllm.cli.tokenize.run", run)
    with pytest.raises(ImportError, match="initialization failed"):
        main(["tokenize", "x"])


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_during_the_import_of_matplotlib_is_raised_after_it(monkeypatch, name):
    number = getattr(signal, name)
    imported = []

    def import_module(module, *arguments):
        if module == "matplotlib.figure":
            os.kill(os.getpid(), number)
            imported.append(module)
        return original(module, *arguments)

    original = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", import_module)
    with raise_on_signals(), pytest.raises(KeyboardInterrupt) as caught:
        options.has_matplotlib()
    assert signal_behind(caught.value) == number
    assert imported
