"""The commands as a user runs them: in a process of their own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from npllm.cli.main import main

ROOT = Path(__file__).parent.parent.parent
WORDS = "one two three four five six seven eight nine ten. " * 30


def npllm(*arguments, cwd=None, **environment):
    """Run the command and return (status, standard output, standard error)."""
    done = subprocess.run(
        [sys.executable, "-m", "npllm", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"PYTHONUTF8": "1", "PYTHONPATH": str(ROOT)} | environment,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def test_without_a_command_it_says_which_there_are():
    status, out, _ = npllm()
    assert status == 0
    assert out == npllm("--help")[1]
    for command in (
        "tour",
        "tokenize",
        "data",
        "bpe",
        "verify",
        "attention",
        "train",
        "generate",
        "word2vec",
        "seq2seq",
    ):
        assert command in out
    assert npllm("--version")[1].startswith("npllm ")


def test_tour(tmp_path):
    (tmp_path / "text.txt").write_text(WORDS)
    status, out, error = npllm("tour", "--text", "text.txt", "--steps", 20, "--figures", "figures", cwd=tmp_path)
    assert (status, error) == (0, "")
    assert "16  generation" in out
    assert "\x1b[" not in out, "no colours where there is no terminal"
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "attention.png", "loss.png", "merges.png", "positions.png", "windows.png"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist; it must be a text file"),
        (b"", "is empty; it must hold some text"),
        (b" \n ", "holds only blanks"),
        (bytes(range(256)), "is binary"),
        (b"too short", "the text has 8 characters besides whitespace"),
    ],
)
def test_tour_of_what_is_no_text(tmp_path, content, message):
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    status, _, error = npllm("tour", "--text", "text.txt", cwd=tmp_path)
    assert status == 1
    assert error.startswith("npllm: ")
    assert message in error
    assert "Traceback" not in error


def test_tokenize():
    status, out, _ = npllm("tokenize", "Hello, world!  日本")
    assert status == 0
    assert "15496" in out, "GPT-2's Hello"
    assert "<|unk|>" in out
    assert "Hello│,│·world│!│·│" in out
    assert npllm("tokenize", " ")[0] == 1


def test_tokenize_reads_standard_input():
    done = subprocess.run(
        [sys.executable, "-m", "npllm", "tokenize", "-"],
        input="Hello",
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert "15496" in done.stdout


def test_a_terminal_without_unicode_gets_question_marks_and_no_traceback():
    status, out, error = npllm("tokenize", "naïve 日本", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert (status, error) == (0, "")
    assert "?" in out


def test_data():
    for arguments in (["data"], ["data", "list"]):
        status, out, _ = npllm(*arguments)
        assert status == 0
        assert "the-verdict" in out
    status, out, error = npllm("data", "fetch", "no-such-text")
    assert status == 1
    assert "the known texts: story, the-verdict, tinyshakespeare" in (out + error).replace("\n", " ")


def test_bpe(tmp_path):
    (tmp_path / "text.txt").write_text(WORDS)
    status, out, error = npllm("bpe", "train", "text.txt", "--vocab-size", 270, "--out", "v", cwd=tmp_path)
    assert (status, error) == (0, "")
    assert "270 tokens" in out
    status, out, error = npllm("bpe", "encode", "text.txt", "--out", "ids.bin", "--vocabulary", "v", cwd=tmp_path)
    assert (status, error) == (0, "")
    assert "wrote the ids to ids.bin" in out
    status, out, _ = npllm("bpe")
    assert status == 0
    assert "encode" in out and "train" in out


def test_verify(capsys):
    assert main(["verify"]) == 0
    assert "pieces equal to PyTorch" in capsys.readouterr().out


def test_verify_without_torch_says_how_to_get_it(monkeypatch, capsys):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    assert main(["verify"]) == 1
    assert 'pip install -e ".[test]" -c .ci/constraints.txt' in capsys.readouterr().err


def test_a_reader_that_stops_early_is_no_error(tmp_path):
    command = f"{sys.executable} -m npllm data | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_ctrl_c_ends_it_without_a_traceback():
    process = subprocess.Popen(
        [sys.executable, "-m", "npllm", "tour", "--steps", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    for line in process.stdout:
        if "training a GPT" in line:
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error.strip() == "interrupted"


def test_importing_npllm_needs_numpy_alone():
    code = (
        "import sys\n"
        "import npllm.attention, npllm.batching, npllm.before_transformers, npllm.functional, npllm.models\n"
        "import npllm.tokenizers, npllm.training, npllm.generation, npllm.utils.corpora, npllm.lessons.bigram\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT
    )
    loaded = set(done.stdout.split())
    assert "numpy" in loaded
    assert not loaded & {
        "torch",
        "tiktoken",
        "transformers",
        "tokenizers",
        "rich",
        "matplotlib",
        "regex",
        "filelock",
        "threadpoolctl",
    }
