"""Token files: ids on disk, opened as a memory-mapped array, so a corpus may be larger than memory.

    text → ids → [file] → windows → batches → …

The file has a header of 32 bytes and then the ids: two bytes each if the vocabulary has at most 65,536 ids, else four.

    bytes 0–7    "NPLLMTOK"
    bytes 8–11   version, 1          little-endian integers throughout
    bytes 12–15  bytes per id, 2 or 4
    bytes 16–23  number of ids
    bytes 24–31  vocabulary size; every id is below it
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from npllm.utils.files import atomic_write

HEADER = struct.Struct("<8sIIQQ")
MAGIC, VERSION = b"NPLLMTOK", 1


def write_token_file(path: str | Path, ids: np.ndarray | Sequence[int] | Iterable, vocab_size: int) -> int:
    """Write ids to a file, atomically, and return their number.

    `ids` is a sequence of integers or an iterable of such sequences (for example one for each text), which is consumed
    one by one. Raises ValueError for an id outside [0, vocab_size).
    """
    count = 0
    with atomic_write(path) as file:
        file.write(pack_header(0, vocab_size))
        for chunk in _chunks(ids):
            file.write(id_bytes(chunk, vocab_size, count))
            count += len(chunk)
        file.seek(0)
        file.write(pack_header(count, vocab_size))
    return count


def pack_header(count: int, vocab_size: int) -> bytes:
    """The header of a token file with `count` ids."""
    if not 1 <= vocab_size <= 1 << 32:
        raise ValueError(f"vocab_size is {vocab_size}; it must be at least 1 and at most 2**32")
    return HEADER.pack(MAGIC, VERSION, id_dtype(vocab_size).itemsize, count, vocab_size)


def id_bytes(ids: np.ndarray, vocab_size: int, first: int = 0) -> bytes:
    """An array of ids as bytes of the file; `first` is the position of ids[0] in the file, for the error message."""
    outside = (ids < 0) | (ids >= vocab_size)
    if outside.any():
        index = int(outside.argmax())
        raise ValueError(f"ids[{first + index}] is {ids[index]}; it must be in [0, {vocab_size})")
    return ids.astype(id_dtype(vocab_size)).tobytes()


def id_dtype(vocab_size: int) -> np.dtype:
    """uint16 if it can hold every id, else uint32; little-endian."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def open_token_file(path: str | Path) -> np.ndarray:
    """The ids of a file as a read-only memory-mapped array: indexing reads only what it needs from disk.

    Raises ValueError for a file that is not a token file, is of another version, or is truncated.
    """
    header = read_header(path)
    if header.num_ids == 0:
        return np.empty(0, header.dtype)
    return np.memmap(path, header.dtype, "r", HEADER.size, (header.num_ids,))


class TokenFileHeader(NamedTuple):
    """The content of a token file's header."""

    dtype: np.dtype
    num_ids: int
    vocab_size: int


def read_header(path: str | Path) -> TokenFileHeader:
    """Read the header of a token file; raises ValueError if it contradicts itself or the size of the file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} {'is not a file' if path.exists() else 'does not exist'}; it must be a token file"
        )
    with open(path, "rb") as file:
        head = file.read(HEADER.size)
    if len(head) < HEADER.size or not head.startswith(MAGIC):
        raise ValueError(f"{path} is not a token file: it does not begin with {MAGIC.decode()} and a header")
    _, version, itemsize, count, vocab_size = HEADER.unpack(head)
    if version != VERSION or itemsize not in (2, 4):
        raise ValueError(f"{path} is a token file of version {version}, {itemsize} bytes per id; npllm reads version 1")
    if not 1 <= vocab_size <= 1 << 32 or itemsize != id_dtype(vocab_size).itemsize:
        raise ValueError(
            f"{path} is damaged: its header has {itemsize} bytes per id and a vocabulary of {vocab_size} ids"
        )
    expected, size = HEADER.size + count * itemsize, path.stat().st_size
    if size != expected:
        raise ValueError(f"{path} is damaged: it has {size} bytes; with {count} ids it must have {expected}")
    return TokenFileHeader(np.dtype(f"<u{itemsize}"), count, vocab_size)


def _chunks(ids) -> Iterator[np.ndarray]:
    """One-dimensional integer arrays: `ids` itself if it is an array, else its items; single integers are grouped."""
    if isinstance(ids, np.ndarray):
        yield _integers(ids)
        return
    singles = []  # consecutive single integers
    for item in ids:
        is_single = isinstance(item, (int, np.integer))
        if is_single:
            singles.append(item)
        if singles and (not is_single or len(singles) == 1 << 16):
            yield _integers(singles)
            singles = []
        if not is_single:
            yield _integers(item)
    yield _integers(singles)


def _integers(ids):
    array = np.asarray(ids)
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"ids has shape {array.shape} and dtype {array.dtype}; it must be one-dimensional, of integers")
    return array
