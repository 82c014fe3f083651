"""tiktoken's format, *.tiktoken: one line for each token, its bytes in base64 and its rank.

    IQ== 0
    Ig== 1

The pattern and the special tokens are not in the file; tiktoken has them in its source code.
"""

import base64
import binascii
from pathlib import Path

from npllm.utils.file_errors import FileError


def to_tiktoken(ranks: dict[bytes, int]) -> bytes:
    """The content of the file, in the order of the ranks."""
    return _to_lines(dict(sorted(ranks.items(), key=lambda item: item[1])))


def from_tiktoken(content: bytes, path: str | Path) -> dict[bytes, int]:
    """The ranks in the content of a file; raises ValueError, which names the file and the line, if it is invalid."""
    try:
        fields = content.split()
        ranks = dict(zip(map(binascii.a2b_base64, fields[::2]), map(int, fields[1::2])))
        if _to_lines(ranks) == content:  # the usual spelling: all lines at once, five times as fast
            return ranks
    except ValueError:
        pass  # the loop over the lines finds which one is invalid
    return _from_lines(content, path)


def check_complete(ranks: dict[bytes, int], content: bytes, path: str | Path) -> None:
    """Raise FileError for a file from which lines or the end of a line are missing.

    A file whose last lines are missing, all of each, cannot be told from a smaller vocabulary.
    """
    if not content.endswith(b"\n"):
        raise FileError(path, "is truncated: it must end with a line break")
    ids = sorted(ranks.values())
    gap = next((low + 1 for low, high in zip(ids, ids[1:]) if high != low + 1), None)
    num_missing = ids[-1] - ids[0] + 1 - len(ids) if ids else 0
    if gap is not None and num_missing <= len(ids) // 100:  # with more, the ids have gaps on purpose
        raise FileError(path, f"is damaged: it has no token of rank {gap}; a line is missing")


def _to_lines(ranks):
    encode = binascii.b2a_base64
    return b"".join([b"%b %d\n" % (encode(token, newline=False), rank) for token, rank in ranks.items()])


def _from_lines(content, path):
    ranks = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if not line:
            continue
        try:
            encoded, rank = line.split()
            if encoded == b"=":  # in Whisper's file: the empty token, which only keeps its id from being used
                int(rank)
                continue
            token, rank = base64.b64decode(encoded, validate=True), int(rank)
        except ValueError:
            raise FileError(path, f"has line {number}, {line[:50]!r}; it must be base64, a space and a rank") from None
        if token in ranks:
            raise FileError(path, f"repeats the token {token!r} in line {number}; every token must have one rank")
        ranks[token] = rank
    return ranks
