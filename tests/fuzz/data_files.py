"""Rounds of the fuzzer: damaged token files, partial token files and their journals, and text files."""

import tempfile
from pathlib import Path

from npllm.batching import encode_file, file_encoding, open_token_file, write_token_file
from npllm.batching.token_file import FIELDS
from npllm.tokenizers import text_blocks, train_bpe
from npllm.utils.text_files import read_text_file
from tests.fuzz.mutations import mutate_bytes
from tests.fuzz.readers import Reader, rounds

TEXT = "The ferry's lamps: naïve, 12 of them don't count...\n" * 40


def token_file(vocab_size):
    """The content of a token file, in a dict."""
    with tempfile.TemporaryDirectory() as folder:
        write_token_file(Path(folder) / "ids.tok", [i * 7 % vocab_size for i in range(500)], vocab_size)
        return {"ids.tok": (Path(folder) / "ids.tok").read_bytes()}


def interrupted():
    """A text, the partial token file of an interrupted encoding, and its journal."""

    def stop(num_bytes, count):
        if num_bytes > 1500:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text.txt").write_text(TEXT, encoding="utf-8")
        try:
            encode(folder, stop)
        except KeyboardInterrupt:
            return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".npllm-lock"}
    raise AssertionError("the encoding was not interrupted")


def encode(folder, progress=None):
    """The content of the token file of an encoding that continues an interrupted one."""
    file_encoding.SAVE_INTERVAL, text_blocks.BLOCK = 300, 100
    encode_file(folder / "text.txt", folder / "ids.tok", train_bpe(TEXT, 280), progress=progress)
    return (folder / "ids.tok").read_bytes()


def damage_header(rng, content):
    """Damage within the header."""
    return mutate_bytes(rng, content[: FIELDS.size + 32]) + content[FIELDS.size + 32 :]


def read_ids(folder):
    """The ids of the token file, verified."""
    return open_token_file(folder / "ids.tok").tolist()


PARTIAL = ("ids.tok.partial", "ids.tok.partial.json", "text.txt")
READERS = {
    "token file": Reader(lambda: token_file(1000), "ids.tok", read_ids, verified=True),
    "token file: header": Reader(lambda: token_file(70_000), "ids.tok", read_ids, damage_header, verified=True),
    "partial token file": Reader(interrupted, PARTIAL[0], encode, verified=True, names=PARTIAL),
    "journal of a partial token file": Reader(interrupted, PARTIAL[1], encode, verified=True, names=PARTIAL),
    "text file": Reader(
        lambda: {"text.txt": TEXT.encode()}, "text.txt", lambda folder: read_text_file(folder / "text.txt")
    ),
}
ROUNDS = rounds(READERS)
