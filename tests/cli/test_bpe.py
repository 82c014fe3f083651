"""`npllm bpe train` and `npllm bpe encode`, in this process. tests/batching/test_file_encoding.py kills processes."""

import io
import os
import threading
import tracemalloc

import pytest
from rich.console import Console

from npllm.batching import open_token_file
from npllm.cli import bpe as bpe_command
from npllm.cli.bpe import FILES, OPENAI_FILES, encode_text_file, load_vocabulary, train_vocabulary
from npllm.cli.main import main
from npllm.tokenizers import BPETokenizer, text_blocks, train_bpe
from npllm.tokenizers.byte_pair.pretokenize import PATTERNS
from npllm.utils import corpora
from tests.tokenizers.peers import gpt2
from tests.utils.test_terminal import console

TEXT = "the ferry left at nine, and nobody on it spoke<|endoftext|>she counted the lamps on the far side.\r\n" * 12


@pytest.fixture
def text_file(tmp_path):
    (tmp_path / "text.txt").write_bytes(TEXT.encode())
    return str(tmp_path / "text.txt")


def bpe(*arguments):
    """Run the command."""
    return main(["bpe", *map(str, arguments)])


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("tie_break", ["first", "id"])
def test_the_vocabulary_is_that_of_train_bpe(tmp_path, text_file, monkeypatch, pattern, tie_break):
    monkeypatch.setattr(text_blocks, "BLOCK", 100)
    (tmp_path / "other.txt").write_text(corpora.read("story"), encoding="utf-8")
    options = ["--special-token", "<|endoftext|>", "--special-token", "<|end|>"]
    options += ["--pattern", pattern, "--tie-break", tie_break]
    out = tmp_path / "vocabulary"
    assert bpe("train", text_file, tmp_path / "other.txt", "--vocab-size", 400, "--out", out, *options) == 0
    special = ["<|endoftext|>", "<|end|>"]
    expected = train_bpe([TEXT, corpora.read("story")], 400, PATTERNS[pattern], special, tie_break=tie_break)
    learned = load_vocabulary(out)
    assert (learned.ranks, learned.pattern, learned.special_tokens) == (
        expected.ranks, expected.pattern, {"<|endoftext|>": 398, "<|end|>": 399}
    )  # fmt: skip
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES + OPENAI_FILES)
    assert BPETokenizer.load(out / "vocabulary.tiktoken", pattern).ranks == expected.ranks
    for one in (BPETokenizer.load(out), BPETokenizer.load(out / "tokenizer.json")):
        assert (one.ranks, one.special_tokens) == (expected.ranks, expected.special_tokens)


def test_the_report_of_train(tmp_path, text_file, capsys):
    assert (
        bpe("train", text_file, "--vocab-size", 300, "--special-token", "<|endoftext|>", "--out", tmp_path / "v") == 0
    )
    out = capsys.readouterr().out
    merges = [merge.token for merge in _merges(300)]
    assert "merges  " + "  ".join(token.decode().replace(" ", "·") for token in merges[:6]) + "  …" in out
    assert "300 tokens, 1 of them special" in out
    assert "no further pairs" not in out
    assert bpe("train", text_file, "--vocab-size", 3000, "--out", tmp_path / "w") == 0
    out = capsys.readouterr().out
    assert f"{load_vocabulary(tmp_path / 'w').vocab_size} tokens, 0 of them special" in out
    assert "the text has no further pairs to merge; --vocab-size was 3,000" in out


def _merges(vocab_size):
    merges = []
    train_bpe(TEXT, vocab_size, special_tokens=["<|endoftext|>"], on_merge=merges.append)
    return merges


def test_progress_bars(tmp_path, text_file):
    shown = Console(file=io.StringIO(), width=100, force_terminal=True)
    train_vocabulary(shown, [text_file], 300, tmp_path / "v", ["<|endoftext|>"])
    assert f"{len(TEXT):,} bytes" in shown.file.getvalue()
    assert "43 merges" in shown.file.getvalue()
    shown = Console(file=io.StringIO(), width=100, force_terminal=True)
    assert encode_text_file(shown, text_file, tmp_path / "ids.bin", tmp_path / "v", "as-tokens") == 0
    assert f"{len(TEXT):,} bytes" in shown.file.getvalue()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_train_reads_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(TEXT.encode()))
    writer.start()
    train_vocabulary(console(), [pipe], 300, tmp_path / "v")
    writer.join()
    assert load_vocabulary(tmp_path / "v").ranks == train_bpe(TEXT, 300).ranks


def test_memory_does_not_grow_with_the_text(tmp_path):
    story, peaks = corpora.read("story"), []
    for size in (1_000_000, 8_000_000):
        text = tmp_path / f"{size}.txt"
        text.write_text(story * (size // len(story)), encoding="utf-8")
        tracemalloc.start()
        train_vocabulary(console(), [text], 300, tmp_path / str(size))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.parametrize("name", FILES + OPENAI_FILES)
def test_a_folder_with_a_vocabulary_is_not_overwritten(tmp_path, text_file, name, capsys):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / name).write_bytes(b"mine")
    assert bpe("train", text_file, "--vocab-size", 300, "--out", tmp_path / "v") == 1
    assert f"already contains a vocabulary, {name}; --out must be another folder" in capsys.readouterr().err
    assert [path.read_bytes() for path in (tmp_path / "v").iterdir()] == [b"mine"]


def test_a_format_that_cannot_hold_the_vocabulary_is_reported(tmp_path, text_file, capsys):
    assert bpe("train", text_file, "--vocab-size", 300, "--special-token", "e", "--out", tmp_path / "v") == 0
    assert "OpenAI's format cannot distinguish the special token 'e' from a token" in capsys.readouterr().out
    assert load_vocabulary(tmp_path / "v").special_tokens == {"e": load_vocabulary(tmp_path / "v").vocab_size - 1}
    assert not (tmp_path / "v" / "encoder.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vocab-size", "256", "--special-token", "x"], "--vocab-size is 256; it must be at least 257"),
        (["--vocab-size", "300", "--special-token", ""], "--special-token is ''; it must be a text of at least"),
        (["--vocab-size", "300", "--special-token", "\udcff"], r"--special-token is '\udcff'; it must be a text"),
        (["--vocab-size", "300", *["--special-token", "x"] * 2], "--special-token is 'x' more than once"),
        (["nowhere.txt", "--vocab-size", "300"], "nowhere.txt does not exist; it must be a text file"),
        (["--vocab-size", "300", "--out", "setup.cfg"], "--out is setup.cfg; it must be a folder"),
        (["--vocab-size", "300", "--out", "v.json"], "--out is v.json; it must be a folder"),
    ],
)
def test_errors_of_train(tmp_path, text_file, arguments, message, capsys):
    assert bpe("train", "--out", tmp_path / "v", text_file, *arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "v").exists() or not list((tmp_path / "v").iterdir())


def test_encode_with_gpt2s_vocabulary(tmp_path, text_file, capsys):
    out = tmp_path / "ids.bin"
    assert bpe("encode", text_file, "--out", out, "--special-tokens", "as-tokens") == 0
    ids = gpt2().encode(TEXT, allowed_special="all")
    assert open_token_file(out).tolist() == ids
    printed = capsys.readouterr().out
    assert f"{len(ids):,} ids, {len(TEXT) / len(ids):.2f} bytes per id; " in printed
    assert f"wrote the ids to {out}" in printed
    assert bpe("encode", text_file, "--out", out, "--special-tokens", "as-text") == 1
    assert "already exists; choose another name, or overwrite it (--overwrite)" in capsys.readouterr().err
    assert bpe("encode", text_file, "--out", out, "--special-tokens", "as-text", "--overwrite") == 0
    assert open_token_file(out).tolist() == gpt2().encode(TEXT, disallowed_special=())


def test_encode_refuses_special_tokens_by_default(tmp_path, text_file, capsys):
    assert bpe("encode", text_file, "--out", tmp_path / "ids.bin") == 1
    error = capsys.readouterr().err
    assert f"has the special token '<|endoftext|>' at byte {TEXT.index('<|'):,}" in error
    assert "--special-tokens" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt"]


def test_the_defaults_of_train_are_those_of_train_bpe(tmp_path, text_file):
    assert bpe("train", text_file, "--vocab-size", 300, "--out", tmp_path / "v") == 0
    learned, expected = load_vocabulary(tmp_path / "v"), train_bpe(TEXT, 300)
    assert (learned.ranks, learned.pattern, learned.special_tokens) == (expected.ranks, expected.pattern, {})


def test_as_tokens_is_refused_for_a_vocabulary_without_special_tokens(tmp_path, text_file, capsys):
    train_bpe(TEXT, 300).save(tmp_path / "v.json")
    arguments = ["encode", text_file, "--out", tmp_path / "ids.bin", "--vocabulary", tmp_path / "v.json"]
    with pytest.raises(SystemExit, match="2"):
        bpe(*arguments, "--special-tokens", "as-tokens")
    assert "v.json has no special tokens" in capsys.readouterr().err
    assert not (tmp_path / "ids.bin").exists()
    assert bpe(*arguments) == 0
    assert open_token_file(tmp_path / "ids.bin").tolist() == train_bpe(TEXT, 300).encode(TEXT)


@pytest.mark.parametrize("name", ["", "vocabulary.json", "tokenizer.json", "vocabulary.tiktoken"])
def test_encode_with_a_vocabulary_of_train(tmp_path, text_file, name):
    vocabulary = tmp_path / "v"
    options = ["--special-token", "<|endoftext|>", "--pattern", "o200k", "--tie-break", "id"]
    assert bpe("train", text_file, "--vocab-size", 300, "--out", vocabulary, *options) == 0
    out = tmp_path / "ids.bin"
    options = ["--special-tokens", "as-tokens"]
    if name == "vocabulary.tiktoken":  # it holds neither the special tokens nor the pattern
        options = ["--pattern", "o200k"]
    assert bpe("encode", text_file, "--out", out, "--vocabulary", vocabulary / name, *options) == 0
    tokenizer = BPETokenizer.load(vocabulary / (name or "vocabulary.json"), "o200k")
    assert open_token_file(out).tolist() == tokenizer.encode(TEXT, allowed_special="all")


def test_encode_resumes_after_ctrl_c(tmp_path, text_file, monkeypatch, capsys):
    from npllm.batching import file_encoding as encoding

    monkeypatch.setattr(text_blocks, "BLOCK", 100)
    monkeypatch.setattr(encoding, "SAVE_INTERVAL", 200)
    original, calls = encoding.read_text_blocks, []

    def interrupted(*arguments, **options):
        for block in original(*arguments, **options):
            yield block
            calls.append(block)
            if len(calls) == 6:
                raise KeyboardInterrupt

    monkeypatch.setattr(encoding, "read_text_blocks", interrupted)
    arguments = ["encode", text_file, "--out", tmp_path / "ids.bin", "--special-tokens", "as-tokens"]
    assert bpe(*arguments) == 130
    assert (
        f"interrupted after {sum(len(block.data) for block in calls):,} of {len(TEXT):,} bytes"
        in capsys.readouterr().out
    )
    assert bpe(*arguments) == 0
    assert "resumed after " in capsys.readouterr().out
    assert open_token_file(tmp_path / "ids.bin").tolist() == gpt2().encode(TEXT, allowed_special="all")


def test_errors_of_encode(tmp_path, text_file, capsys):
    ranks = str(tmp_path / "ranks.tiktoken")
    train_bpe(TEXT, 260).save(ranks)
    for arguments, message in [
        (["nowhere.txt"], "nowhere.txt does not exist; it must be a text file"),
        ([text_file, "--vocabulary", "nowhere"], "there is no file or folder nowhere"),
        ([text_file, "--vocabulary", text_file], "text.txt begins with"),
        ([text_file, "--vocabulary", ranks], "ranks.tiktoken holds tokens and ranks without the pattern"),
    ]:
        assert bpe("encode", *arguments, "--out", tmp_path / "ids.bin") == 1
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
    assert bpe() == 0
    assert "encode" in capsys.readouterr().out


def test_decode_gives_the_text_that_was_encoded(tmp_path, text_file, monkeypatch, capsys):
    monkeypatch.setattr(bpe_command, "NUM_DECODED", 7)  # ids in a part; some characters are in two parts
    assert bpe("encode", text_file, "--out", tmp_path / "ids.bin", "--special-tokens", "as-tokens") == 0
    assert bpe("decode", "--tokens", tmp_path / "ids.bin", "--out", tmp_path / "back.txt") == 0
    assert (tmp_path / "back.txt").read_bytes() == TEXT.encode()
    capsys.readouterr()
    ids = gpt2().encode("naïve 🦊 日本")
    assert bpe("decode", *ids) == 0
    assert capsys.readouterr().out == "naïve 🦊 日本\n"
    assert bpe("decode", *ids[:-1]) == 0
    assert capsys.readouterr().out.endswith("\ufffd\n"), "an incomplete character"


def test_decode_with_another_vocabulary(tmp_path, capsys):
    tokenizer = train_bpe(TEXT, 300)
    for name in ("vocabulary.json", "v.tiktoken"):
        tokenizer.save(tmp_path / name)
        assert bpe("decode", *tokenizer.encode("the lamps"), "--vocabulary", tmp_path / name) == 0
        assert capsys.readouterr().out == "the lamps\n"


def test_errors_of_decode(tmp_path, text_file, capsys):
    ids = tmp_path / "ids.bin"
    train_bpe(TEXT, 300).save(tmp_path / "vocabulary.json")
    arguments = ["--vocabulary", tmp_path / "vocabulary.json", "--special-tokens", "as-text"]
    assert bpe("encode", text_file, *arguments, "--out", ids) == 0
    capsys.readouterr()
    for arguments in ([], ["1", "--tokens", "x"]):
        with pytest.raises(SystemExit):
            bpe("decode", *arguments)
        assert "give either ids or --tokens FILE" in capsys.readouterr().err
    for arguments, message in [
        (["60000"], "id 60000 is not in the vocabulary"),
        (["--tokens", text_file], "is not a token file"),
        (["--tokens", "nowhere"], "there is no file nowhere"),
        (["--tokens", tmp_path], "is a folder; it must be a file"),
        (["--tokens", ids], "has ids of a vocabulary of size 300; the tokenizer has vocabulary size 50257"),
    ]:
        assert bpe("decode", *arguments) == 1
        assert message in capsys.readouterr().err.replace("\n", " ")


def test_training_that_is_interrupted_while_it_saves_leaves_nothing(tmp_path, text_file, monkeypatch):
    def save(self, path):
        if os.path.isdir(path):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("npllm.tokenizers.bpe.BPETokenizer.save", save)
        train_vocabulary(console(), [text_file], 300, tmp_path / "out" / "v")
    assert os.listdir(tmp_path / "out") in ([], ["v"]) and not list((tmp_path / "out").rglob("*.*"))
    train_vocabulary(console(), [text_file], 300, tmp_path / "out" / "v")
    assert load_vocabulary(tmp_path / "out" / "v").vocab_size == 300


def test_of_two_trainings_in_one_folder_one_wins(tmp_path, text_file, monkeypatch):
    """The second one, which ends while the first one saves, is refused, and its files are not mixed with the others."""
    save, inner = BPETokenizer.save, []

    def save_and_train_again(self, path):
        if not inner:
            inner.append(True)
            train_vocabulary(console(), [text_file], 290, tmp_path / "v")
        save(self, path)

    monkeypatch.setattr("npllm.tokenizers.bpe.BPETokenizer.save", save_and_train_again)
    with pytest.raises(FileExistsError, match="already contains a vocabulary"):
        train_vocabulary(console(), [text_file], 300, tmp_path / "v")
    assert load_vocabulary(tmp_path / "v").vocab_size == 290
    assert os.listdir(tmp_path).count("v") == 1 and not list(tmp_path.glob(".npllm-*"))


def test_other_files_in_the_folder_are_kept(tmp_path, text_file):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "notes").write_text("kept")
    train_vocabulary(console(), [text_file], 300, tmp_path / "v")
    assert load_vocabulary(tmp_path / "v").vocab_size == 300
    assert (tmp_path / "v" / "notes").read_text() == "kept"
