"""Encoding text files to token files: interrupted anywhere and resumed, the file has the bytes of a single call."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from npllm.batching import encode_file, file_encoding, open_token_file
from npllm.batching.partial_token_file import FORMAT, VERSION, PartialTokenFile
from npllm.batching.token_file import HEADER_SIZE, read_header
from npllm.tokenizers import BPETokenizer, GPT2Tokenizer, text_blocks, train_bpe
from npllm.tokenizers.byte_pair.added_tokens import AddedToken
from npllm.tokenizers.byte_pair.pre_tokenizers import NUMERIC, Split
from npllm.tokenizers.byte_pair.pretokenize import PATTERNS
from npllm.utils import corpora
from npllm.utils.checked_json import read_checked_json, write_checked_json
from npllm.utils.file_errors import FileError
from tests.tokenizers.peers import gpt2, trained

ROOT = Path(__file__).parent.parent.parent
TEXT = "The ferry's lamps: naïve, 日本。 12 of\r\n  them <|endoftext|> don't count...\n" * 6
OPTIONS = {"special": "as-tokens"}


class Stopped(BaseException):
    """Raised by a test to interrupt the encoding."""


@pytest.fixture
def small(monkeypatch):
    """Use blocks of a few bytes, and save every few blocks."""
    monkeypatch.setattr(text_blocks, "BLOCK", 24)
    monkeypatch.setattr(file_encoding, "SAVE_INTERVAL", 60)


@pytest.fixture
def text_file(tmp_path):
    (tmp_path / "text.txt").write_bytes(TEXT.encode("utf-8-sig"))
    return tmp_path / "text.txt"


def stop_at(number):
    """A `progress` that raises Stopped when it is called for the number-th time (0: before the first block)."""
    calls = iter(range(number + 1))

    def progress(num_bytes, count):
        if next(calls) == number:
            raise Stopped

    return progress


def record(calls):
    """A `progress` that appends its arguments to a list."""
    return lambda num_bytes, count: calls.append((num_bytes, count))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def leave_partial(text_file, out, blocks=15, **options):
    """Interrupt the encoding after some blocks."""
    with pytest.raises(Stopped):
        encode_file(text_file, out, trained("gpt2"), progress=stop_at(blocks), **OPTIONS | options)
    assert names(out.parent) == ["ids.bin.partial", "ids.bin.partial.json", "text.txt"]


def test_the_file_has_the_ids_of_the_text(tmp_path, small, text_file):
    for special, options in (
        ("as-tokens", {"allowed_special": "all"}),
        ("as-text", {"disallowed_special": ()}),
    ):
        out = tmp_path / f"{special}.bin"
        expected = trained("gpt2").encode(TEXT, **options)
        assert encode_file(text_file, out, trained("gpt2"), special) == len(expected)
        assert open_token_file(out).tolist() == expected
        assert read_header(out).vocab_size == trained("gpt2").vocab_size == 80_001
    assert names(tmp_path) == ["as-text.bin", "as-tokens.bin", "text.txt"]


@pytest.mark.parametrize("name", PATTERNS)
def test_interrupted_after_any_block_and_resumed(tmp_path, small, text_file, name):
    calls = []
    encode_file(text_file, tmp_path / "whole.bin", trained(name), progress=record(calls), **OPTIONS)
    assert len(calls) > 20
    assert [num_bytes for num_bytes, _ in calls] == sorted({num_bytes for num_bytes, _ in calls})
    assert calls[0] == (0, 0) and calls[-1][0] == text_file.stat().st_size
    for number in range(len(calls)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(Stopped):
            encode_file(text_file, folder / "ids.bin", trained(name), progress=stop_at(number), **OPTIONS)
        saved = (folder / "ids.bin.partial.json").exists()
        assert saved == (number > 0 and calls[number - 1][0] >= 60)
        again = []
        encode_file(text_file, folder / "ids.bin", trained(name), progress=record(again), **OPTIONS)
        assert again[0] in calls
        assert (again[0][0] > 0) == saved
        assert (folder / "ids.bin").read_bytes() == (tmp_path / "whole.bin").read_bytes()
        assert names(folder) == ["ids.bin"]


def test_repeated_interruptions_do_not_prevent_progress(tmp_path, small, text_file):
    encode_file(text_file, tmp_path / "whole.bin", trained("gpt2"), **OPTIONS)
    stops, out = 0, tmp_path / "ids.bin"
    while not out.exists():
        try:
            encode_file(text_file, out, trained("gpt2"), progress=stop_at(7), **OPTIONS)
        except Stopped:
            stops += 1
    assert stops >= 3
    assert out.read_bytes() == (tmp_path / "whole.bin").read_bytes()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_interrupted_at_any_fsync_or_rename_and_resumed(tmp_path, small, text_file, monkeypatch, call):
    encode_file(text_file, tmp_path / "whole.bin", trained("gpt2"), **OPTIONS)
    original, number, stopped = getattr(os, call), 0, True
    while stopped:
        folder, left, stopped = tmp_path / str(number), number, False
        folder.mkdir()

        def stop(*arguments):
            nonlocal left, stopped
            left -= 1
            if left < 0:
                stopped = True
                raise Stopped
            return original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, stop)
            try:
                encode_file(text_file, folder / "ids.bin", trained("gpt2"), **OPTIONS)
            except Stopped:
                assert not (folder / "ids.bin").exists()
        if stopped:
            encode_file(text_file, folder / "ids.bin", trained("gpt2"), **OPTIONS)
        assert (folder / "ids.bin").read_bytes() == (tmp_path / "whole.bin").read_bytes()
        assert names(folder) == ["ids.bin"]
        number += 1
    assert number > 8


def test_the_ids_are_synced_before_the_journal_is_replaced(tmp_path, small, text_file, monkeypatch):
    fsync, replace, synced, journaled = os.fsync, os.replace, {}, []

    def record_fsync(number):
        fsync(number)
        synced[os.fstat(number).st_ino] = os.fstat(number).st_size

    def check_replace(source, target):
        partial = (tmp_path / "ids.bin.partial").stat() if (tmp_path / "ids.bin.partial").exists() else None
        if Path(target).suffix == ".json" and (count := json.loads(Path(source).read_bytes())["count"]):
            journaled.append(HEADER_SIZE + 4 * count)
            assert synced[partial.st_ino] == journaled[-1]
        elif Path(target).suffix == ".bin":
            assert synced[partial.st_ino] == partial.st_size
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", check_replace)
    encode_file(text_file, tmp_path / "ids.bin", trained("gpt2"), **OPTIONS)
    assert len(journaled) > 3


def test_killed_at_random_moments_and_resumed(tmp_path):
    """SIGKILL several times; ids are saved every 100,000 bytes."""
    text = tmp_path / "text.txt"
    text.write_text((corpora.read("story") + "<|endoftext|>") * 100, encoding="utf-8")
    program = (
        "from npllm.batching import file_encoding\nfrom npllm.tokenizers import text_blocks\n"
        "from npllm.cli.main import main\n"
        "file_encoding.SAVE_INTERVAL, text_blocks.BLOCK = 100_000, 20_000\nimport sys\nsys.exit(main(sys.argv[1:]))"
    )
    arguments = [sys.executable, "-c", program, "bpe", "encode", text, "--special-tokens", "as-tokens", "--out"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    encode_file(text, tmp_path / "whole.bin", gpt2(), "as-tokens")
    out, journal = tmp_path / "ids.bin", tmp_path / "ids.bin.partial.json"
    rng, kills, read = random.Random(0), 0, [0]
    while kills < 3:
        before = journal.read_bytes() if journal.exists() else None
        with subprocess.Popen([*arguments, out], stdout=subprocess.DEVNULL, env=environment) as process:
            while process.poll() is None:
                if (
                    journal.exists()
                    and journal.read_bytes() != before
                    and json.loads(journal.read_bytes())["num_bytes"]
                ):
                    time.sleep(rng.uniform(0.0, 0.03))
                    process.kill()
                    break
                time.sleep(0.001)
        assert process.returncode == -signal.SIGKILL
        kills += 1
        read.append(json.loads(journal.read_bytes())["num_bytes"])
        assert not out.exists()
    assert read == sorted(set(read)), "every run must save more than the one before"
    done = subprocess.run([*arguments, out], env=environment, capture_output=True, text=True, check=True)
    assert f"resumed after {read[-1]:,} bytes" in done.stdout
    assert out.read_bytes() == (tmp_path / "whole.bin").read_bytes()
    kept = [name for name in names(tmp_path) if not name.endswith(".tmp")]  # a kill while the journal is written
    assert kept == ["ids.bin", "text.txt", "whole.bin"]


class TestPartialFilesThatDoNotMatch:
    def test_an_encoding_is_not_resumed_with_another_text(self, tmp_path, small, text_file):
        leave_partial(text_file, tmp_path / "ids.bin")
        before = (tmp_path / "ids.bin.partial").read_bytes()
        for other in (b"x" + text_file.read_bytes()[1:], text_file.read_bytes()[:100]):
            text_file.write_bytes(other)
            with pytest.raises(
                ValueError, match=r"written from another text.*delete ids.bin.partial and ids.bin.partial.j"
            ):
                encode_file(text_file, tmp_path / "ids.bin", trained("gpt2"), **OPTIONS)
            assert (tmp_path / "ids.bin.partial").read_bytes() == before

    def test_a_text_that_has_changed_after_the_saved_part(self, tmp_path, small, text_file):
        leave_partial(text_file, tmp_path / "ids.bin")
        text_file.write_bytes(text_file.read_bytes() + b" and so on")
        encode_file(text_file, tmp_path / "ids.bin", trained("gpt2"), **OPTIONS)
        expected = trained("gpt2").encode(TEXT + " and so on", allowed_special="all")
        assert open_token_file(tmp_path / "ids.bin").tolist() == expected

    def test_a_text_that_no_longer_splits_at_the_saved_position(self, tmp_path, small, text_file):
        leave_partial(text_file, tmp_path / "ids.bin")
        content = text_file.read_bytes()
        read = json.loads((tmp_path / "ids.bin.partial.json").read_bytes())["num_bytes"]
        for after in (b"x" + content[read:], "\u0301x".encode()):
            text_file.write_bytes(content[:read] + after)
            with pytest.raises(ValueError, match="written from another text"):
                encode_file(text_file, tmp_path / "ids.bin", trained("gpt2"), **OPTIONS)
        for after in (content[read:], b""):
            text_file.write_bytes(content[:read] + after)
            encode_file(text_file, tmp_path / "ids.bin", trained("gpt2"), **OPTIONS)
            text = (content[:read] + after).decode("utf-8-sig")
            assert open_token_file(tmp_path / "ids.bin").tolist() == trained("gpt2").encode(text, allowed_special="all")
            if after:
                (tmp_path / "ids.bin").unlink()
                text_file.write_bytes(content)
                leave_partial(text_file, tmp_path / "ids.bin")

    @pytest.mark.parametrize(
        ("tokenizer", "special", "what"),
        [
            (trained("cl100k"), "as-tokens", "vocabulary"),
            (BPETokenizer(trained("gpt2").ranks, PATTERNS["o200k"], {"<|endoftext|>": 80_000}), "as-tokens", "pattern"),
            (
                BPETokenizer(trained("gpt2").ranks, special_tokens={"<|end|>": 80_000}),
                "as-tokens",
                "set of special tok",
            ),
            (trained("gpt2"), "as-text", "choice for special tokens"),
            (trained("gpt2"), "refuse", "choice for special tokens"),
        ],
    )
    def test_other_settings(self, tmp_path, small, text_file, tokenizer, special, what):
        leave_partial(text_file, tmp_path / "ids.bin")
        before = (tmp_path / "ids.bin.partial").read_bytes()
        with pytest.raises(ValueError, match=f"written with another {what}.*use the same, or delete ids.bin.partial"):
            encode_file(text_file, tmp_path / "ids.bin", tokenizer, special)
        assert (tmp_path / "ids.bin.partial").read_bytes() == before

    def test_an_existing_file(self, tmp_path, small, text_file):
        out = tmp_path / "ids.bin"
        out.write_bytes(b"mine")
        with pytest.raises(FileExistsError, match="already exists; choose another name, or overwrite it"):
            encode_file(text_file, out, trained("gpt2"), **OPTIONS)
        with pytest.raises(Stopped):
            encode_file(text_file, out, trained("gpt2"), overwrite=True, progress=stop_at(15), **OPTIONS)
        assert out.read_bytes() == b"mine", "until the new one is complete"
        out.chmod(0o600)
        encode_file(text_file, out, trained("gpt2"), overwrite=True, **OPTIONS)
        assert open_token_file(out).tolist() == trained("gpt2").encode(TEXT, allowed_special="all")
        assert out.stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("end", ["", ".partial", ".partial.json", ".npllm-lock"])
    def test_the_text_is_never_overwritten(self, tmp_path, small, end):
        text = tmp_path / f"text{end}"
        text.write_bytes(b"a text of some words")
        with pytest.raises(ValueError, match="is the text and would be overwritten"):
            encode_file(text, tmp_path / "text", trained("gpt2"), overwrite=True)
        assert text.read_bytes() == b"a text of some words"

    def test_a_partial_file_without_a_journal(self, tmp_path, small, text_file):
        (tmp_path / "ids.bin.partial").write_bytes(b"mine")
        with pytest.raises(FileExistsError, match="ids.bin.partial exists without ids.bin.partial.json"):
            encode_file(text_file, tmp_path / "ids.bin", trained("gpt2"), **OPTIONS)
        assert (tmp_path / "ids.bin.partial").read_bytes() == b"mine"

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"", "is damaged: Expecting value"),
            (b"[]", "it must be a JSON object"),
            (b"{}", 'has format null; it must be "npllm partial token file"'),
            (b'{"format": "npllm partial token file", "version": 2}', "has version 2; it must be 3"),
            (b'{"format": "npllm partial token file", "version": 3}', "the checksum that it records"),
            (b"[" * 100_000, "nested too deeply"),
            (b"\xff", "can't decode byte 0xff"),
        ],
    )
    def test_a_damaged_journal(self, tmp_path, small, text_file, content, problem):
        leave_partial(text_file, tmp_path / "ids.bin")
        (tmp_path / "ids.bin.partial.json").write_bytes(content)
        with pytest.raises(FileError, match=rf"{problem}.*; delete ids.bin.partial and ids.bin.partial.json"):
            encode_file(text_file, tmp_path / "ids.bin", trained("gpt2"), **OPTIONS)
        assert (tmp_path / "ids.bin.partial").exists()

    def test_a_journal_with_fields_of_another_kind(self, tmp_path, small, text_file):
        leave_partial(text_file, tmp_path / "ids.bin")
        journal = tmp_path / "ids.bin.partial.json"
        content = read_checked_json(journal, FORMAT, VERSION)
        for field, values in {
            "count": (-1, True, 1.0, 2**63, None, "1"),
            "num_bytes": (-1, 0.5, []),
            "ids_sha256": (None, 3),
            "text_sha256": (3, []),
            "settings": (None, [], 3),
        }.items():
            for value in values:
                write_checked_json(journal, FORMAT, VERSION, content | {field: value})
                with pytest.raises(FileError, match=rf"json has {field} .*; it must be .*; delete ids.bin.partial and"):
                    encode_file(text_file, tmp_path / "ids.bin", trained("gpt2"), **OPTIONS)

    def test_a_flipped_bit_of_the_ids_or_the_journal(self, tmp_path, small, text_file):
        leave_partial(text_file, tmp_path / "ids.bin")
        count = json.loads((tmp_path / "ids.bin.partial.json").read_bytes())["count"]
        rng = random.Random(0)
        ids = range(HEADER_SIZE, HEADER_SIZE + 4 * count)
        for name, positions in (("ids.bin.partial", ids), ("ids.bin.partial.json", None)):
            data = (tmp_path / name).read_bytes()
            for _ in range(40):
                position = rng.choice(positions or range(len(data)))
                flipped = bytes([data[position] ^ 1 << rng.randrange(8)])
                if flipped.isspace() and data[position : position + 1].isspace():
                    continue  # one whitespace character for another, between two fields
                (tmp_path / name).write_bytes(data[:position] + flipped + data[position + 1 :])
                with pytest.raises(FileError, match=rf"{name} .*; delete ids.bin.partial and ids.bin.partial.json"):
                    encode_file(text_file, tmp_path / "ids.bin", trained("gpt2"), **OPTIONS)
            (tmp_path / name).write_bytes(data)
        encode_file(text_file, tmp_path / "ids.bin", trained("gpt2"), **OPTIONS)

    @pytest.mark.parametrize("name", ["ids.bin.partial", "ids.bin.partial.json"])
    def test_symbolic_links_pipes_and_folders_are_not_opened(self, tmp_path, small, text_file, name):
        mine, planted = tmp_path / "mine", tmp_path / name
        mine.write_bytes(b"a thesis")
        for plant, kind in (
            (lambda: planted.symlink_to(mine), "a symbolic link"),
            (lambda: planted.symlink_to(tmp_path / "nothing"), "a symbolic link"),
            (lambda: os.mkfifo(planted), "a folder, a pipe or a device"),
        ):
            plant()
            with pytest.raises(FileError, match=f"{name} is {kind}; .*delete ids.bin.partial and"):
                encode_file(text_file, tmp_path / "ids.bin", trained("gpt2"), **OPTIONS)
            assert mine.read_bytes() == b"a thesis"
            planted.unlink()
            assert names(tmp_path) == ["mine", "text.txt"]

    def test_a_tokenizer_with_a_normalizer_does_not_continue_one_without(self, tmp_path, small, text_file):
        ranks, special_tokens = trained("gpt2").ranks, trained("gpt2").special_tokens
        leave_partial(text_file, tmp_path / "ids.bin")
        other = BPETokenizer(ranks, normalizer="NFKC", special_tokens=special_tokens)
        with pytest.raises(FileError, match="was written with another"):
            encode_file(text_file, tmp_path / "ids.bin", other, **OPTIONS)

    def test_a_truncated_partial_file(self, tmp_path, small, text_file):
        leave_partial(text_file, tmp_path / "ids.bin")
        os.truncate(tmp_path / "ids.bin.partial", 50)
        with pytest.raises(ValueError, match=r"has 50 bytes; by its journal it must have at least \d+; delete"):
            encode_file(text_file, tmp_path / "ids.bin", trained("gpt2"), **OPTIONS)

    def test_a_journal_without_a_partial_file(self, tmp_path, small, text_file):
        leave_partial(text_file, tmp_path / "ids.bin")
        (tmp_path / "ids.bin.partial").unlink()
        encode_file(text_file, tmp_path / "ids.bin", trained("gpt2"), **OPTIONS)
        assert open_token_file(tmp_path / "ids.bin").tolist() == trained("gpt2").encode(TEXT, allowed_special="all")
        assert names(tmp_path) == ["ids.bin", "text.txt"]


class TestSpecialTokens:
    def test_a_refused_special_token_is_located_and_the_encoding_can_be_resumed(self, tmp_path, small, text_file):
        text_file.write_bytes(b"one two three " * 20 + TEXT.encode())
        position = text_file.read_bytes().index(b"<|endoftext|>")
        with pytest.raises(ValueError, match=rf"special token '<\|endoftext\|>' at byte {position}; .*as-tokens"):
            encode_file(text_file, tmp_path / "ids.bin", trained("gpt2"))
        saved = {name: (tmp_path / name).read_bytes() for name in ("ids.bin.partial", "ids.bin.partial.json")}
        for special, options in (("as-tokens", {"allowed_special": "all"}), ("as-text", {"disallowed_special": ()})):
            for name, content in saved.items():
                (tmp_path / name).write_bytes(content)
            calls = []
            encode_file(text_file, tmp_path / "ids.bin", trained("gpt2"), special, True, record(calls))
            assert calls[0][0] > 200
            expected = trained("gpt2").encode(text_file.read_bytes().decode(), **options)
            assert open_token_file(tmp_path / "ids.bin").tolist() == expected

    def test_a_text_without_special_tokens_needs_no_choice(self, tmp_path, small, text_file):
        text_file.write_text("one two three\n" * 30)
        encode_file(text_file, tmp_path / "ids.bin", trained("gpt2"))
        assert trained("gpt2").decode(open_token_file(tmp_path / "ids.bin")) == "one two three\n" * 30


def test_errors_leave_nothing_behind(tmp_path, text_file):
    tokenizer = train_bpe("abc", 257)
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    os.mkfifo(tmp_path / "pipe")
    before = names(tmp_path)
    for path, options, error, says in [
        (tmp_path / "empty.txt", {}, ValueError, "is empty"),
        (tmp_path / "latin.txt", {}, ValueError, "byte 2 is 0xef"),
        (tmp_path / "nothing.txt", {}, FileNotFoundError, "nothing.txt does not exist"),
        (tmp_path, {}, ValueError, "is not a regular file"),
        (text_file, {"special": "keep"}, ValueError, "special is 'keep'; it must be one of refuse, as-tokens, as-text"),
        (text_file, {"path": tmp_path}, IsADirectoryError, "is a folder; it must be the name of a file"),
        (text_file, {"path": tmp_path / "pipe", "overwrite": True}, FileError, "pipe is a pipe, a socket or a device"),
        (text_file, {"path": tmp_path / "no" / "ids.bin"}, FileNotFoundError, "there is no folder"),
        (text_file, {"path": text_file, "overwrite": True}, ValueError, "is the text and would be overwritten"),
    ]:
        with pytest.raises(error, match=says):
            encode_file(path, **{"path": tmp_path / "ids.bin", "tokenizer": tokenizer} | options)
        assert names(tmp_path) == before
        assert (tmp_path / "pipe").is_fifo()


def test_a_full_disk_leaves_nothing_behind(tmp_path, small, text_file, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            raise OSError(28, "No space left on device")

        def close(self):
            self.file.close()
            raise OSError(28, "No space left on device")

    original = PartialTokenFile.__init__

    def begin(self, *arguments):
        original(self, *arguments)
        self._file = Full(self._file)

    monkeypatch.setattr(PartialTokenFile, "__init__", begin)
    with pytest.raises(OSError, match="No space left"):
        encode_file(text_file, tmp_path / "ids.bin", trained("gpt2"), **OPTIONS)
    assert names(tmp_path) == ["text.txt"]


def test_a_pattern_without_known_boundaries(tmp_path, small, text_file):
    tokenizer = train_bpe(TEXT, 300, pattern=r"\S+|\s+", special_tokens=["<|endoftext|>"])
    encode_file(text_file, tmp_path / "ids.bin", tokenizer, "as-tokens")
    assert open_token_file(tmp_path / "ids.bin").tolist() == tokenizer.encode(TEXT, allowed_special="all")


def test_a_second_process_waits_and_finds_the_file(tmp_path, small, text_file):
    out, second = tmp_path / "ids.bin", []

    def encode_again():
        try:
            encode_file(text_file, out, trained("gpt2"), **OPTIONS)
        except FileExistsError:
            second.append(out.exists())

    def progress(read, count):
        if not threads:
            threads.append(threading.Thread(target=encode_again))
            threads[0].start()
            time.sleep(0.05)

    threads = []
    encode_file(text_file, out, trained("gpt2"), progress=progress, **OPTIONS)
    threads[0].join()
    assert second == [True]
    assert open_token_file(out).tolist() == trained("gpt2").encode(TEXT, allowed_special="all")


def test_memory_does_not_depend_on_the_size_of_the_text(tmp_path):
    story, peaks = corpora.read("story"), []
    for number, size in enumerate((3_000_000, 15_000_000)):
        text = tmp_path / f"{number}.txt"
        with open(text, "w", encoding="utf-8") as file:
            for _ in range(size // len(story)):
                file.write(story)
        tokenizer = GPT2Tokenizer.load()
        encode_file(tmp_path / "0.txt", tmp_path / f"warm-{number}.bin", tokenizer)  # tables are built once
        tracemalloc.start()
        encode_file(text, tmp_path / f"{number}.bin", tokenizer)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 14_000_000, "less than the text"


@pytest.mark.parametrize("kind", ["normalizer", "steps", "whole text", "not special"])
def test_tokenizers_with_steps_and_options(tmp_path, small, kind):
    ranks = trained("gpt2").ranks
    tokenizer = {
        "normalizer": BPETokenizer(ranks, normalizer="NFKC", special_tokens={"<|endoftext|>": 99_000}),
        "steps": BPETokenizer(ranks, (Split(NUMERIC), Split(PATTERNS["gpt2"]))),
        "whole text": BPETokenizer(ranks, added_tokens=[AddedToken("<|endoftext|>", 99_000, lstrip=True, rstrip=True)]),
        "not special": BPETokenizer(ranks, added_tokens=[AddedToken("<|endoftext|>", 99_000, special=False)]),
    }[kind]
    text = "e\u0301 \u1100\u1161\u11a8 ﬁve™ 123  <|endoftext|> \n naïve\u0338 ｶﾞ!\n" * 9
    (tmp_path / "text.txt").write_text(text, encoding="utf-8", newline="")
    special = "refuse" if kind == "not special" else "as-tokens"
    expected = tokenizer.encode(text, allowed_special="all")
    for number in (0, 1):
        with pytest.raises(Stopped):
            encode_file(tmp_path / "text.txt", tmp_path / "t", tokenizer, special=special, progress=stop_at(number))
    encode_file(tmp_path / "text.txt", tmp_path / "t", tokenizer, special=special)
    assert open_token_file(tmp_path / "t").tolist() == expected
