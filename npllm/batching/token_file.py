"""Token files: ids on disk, opened as a memory-mapped array, so a corpus may be larger than memory.

    text → ids → [file] → windows → batches → …

The file has a header of 64 bytes and then the ids: two bytes each if the vocabulary has at most 65,536 ids, else four.

    bytes 0–7    "NPLLMTOK"
    bytes 8–11   version, 2          little-endian integers throughout
    bytes 12–15  bytes per id, 2 or 4
    bytes 16–23  number of ids
    bytes 24–31  vocabulary size; every id is below it
    bytes 32–63  SHA-256 of the ids followed by bytes 0–31

The checksum covers every other bit of the file, so it also identifies the file: a run records it. A writer knows the
number of ids at the end only; that is why the ids come first in it.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from npllm.utils.file_errors import FileError
from npllm.utils.files import atomic_write, check_regular_file

FIELDS = struct.Struct("<8sIIQQ")
HEADER_SIZE = FIELDS.size + hashlib.sha256().digest_size
MAGIC, VERSION = b"NPLLMTOK", 2
CHUNK = 1 << 18  # bytes that are verified at once: they stay in the L2 cache between the two passes


def write_token_file(path: str | Path, ids: np.ndarray | Sequence[int] | Iterable, vocab_size: int) -> int:
    """Write ids to a file, atomically, and return their number.

    `ids` is a sequence of integers or an iterable of such sequences (for example one for each text), which is consumed
    one by one. Raises ValueError for an id outside [0, vocab_size).
    """
    check_vocab_size(vocab_size)
    count, sha256 = 0, hashlib.sha256()
    with atomic_write(path) as file:
        file.write(bytes(HEADER_SIZE))
        for chunk in _chunks(ids):
            data = id_bytes(chunk, vocab_size, count)
            sha256.update(data)
            file.write(data)
            count += len(chunk)
        file.seek(0)
        file.write(pack_header(count, vocab_size, sha256))
    return count


def pack_header(count: int, vocab_size: int, ids_sha256: "hashlib._Hash") -> bytes:
    """The header of a token file with `count` ids, whose bytes `ids_sha256` has hashed; it is left as it is."""
    fields = FIELDS.pack(MAGIC, VERSION, id_dtype(vocab_size).itemsize, count, vocab_size)
    sha256 = ids_sha256.copy()
    sha256.update(fields)
    return fields + sha256.digest()


def check_vocab_size(vocab_size: int) -> None:
    """Raise TypeError or ValueError unless vocab_size is an integer in [1, 2**32]."""
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, (int, np.integer)):
        raise TypeError(f"vocab_size is {vocab_size!r}; it must be an integer")
    if not 1 <= vocab_size <= 1 << 32:
        raise ValueError(f"vocab_size is {vocab_size}; it must be at least 1 and at most 2**32")


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


def open_token_file(path: str | Path, verify: bool = True) -> np.ndarray:
    """The ids of a file as a read-only memory-mapped array: indexing reads only what it needs from disk.

    Args:
        verify: read the whole file once, compare its checksum and check that every id is below the vocabulary size:
            about 1.3 s a gigabyte that is in the page cache, most of it SHA-256. False is for a file that the
            same program has just verified or written.

    Raises OSError for a file that cannot be opened, and FileError for one that is not a token file, is of another
    version, or is damaged. The file must not be shortened while the array is in use: the operating system ends a
    process that reads beyond the end of a mapped file (SIGBUS).
    """
    check_regular_file(path)
    with open(path, "rb") as file:
        header = _read_header(path, file)
        if verify:
            _verify(path, file, header)
        if header.num_ids == 0:
            return np.empty(0, header.dtype)
        return np.memmap(file, header.dtype, "r", HEADER_SIZE, (header.num_ids,))


class TokenFileHeader(NamedTuple):
    """The content of a token file's header."""

    dtype: np.dtype
    num_ids: int
    vocab_size: int
    sha256: str  # hexadecimal digits; those of the file once it is verified


def read_header(path: str | Path) -> TokenFileHeader:
    """Read the header of a token file; raises FileError if it contradicts itself or the size of the file.

    The checksum is not compared: `open_token_file` does that.
    """
    check_regular_file(path)
    with open(path, "rb") as file:
        return _read_header(path, file)


def _read_header(path: str | Path, file: BinaryIO) -> TokenFileHeader:
    head = file.read(HEADER_SIZE)
    if len(head) < FIELDS.size or not head.startswith(MAGIC):
        raise FileError(path, f"is not a token file: it does not begin with {MAGIC.decode()} and a header")
    _, version, itemsize, count, vocab_size = FIELDS.unpack_from(head)
    if version != VERSION:
        raise FileError(
            path,
            f"is a token file of version {version}; npllm reads version {VERSION}: write it again from its text "
            "(npllm bpe encode)",
            field="version", value=version, must_be=str(VERSION),
        )  # fmt: skip
    if not 1 <= vocab_size <= 1 << 32 or itemsize != id_dtype(vocab_size).itemsize:
        raise FileError(
            path,
            f"is damaged: its header has {itemsize} bytes per id and a vocabulary of {vocab_size} ids",
            field="bytes per id", value=itemsize, must_be="2 for a vocabulary of 1 to 65536 ids, 4 for one up to 2**32",
        )  # fmt: skip
    expected, size = HEADER_SIZE + count * itemsize, file.seek(0, 2)
    if size != expected:
        raise FileError(
            path,
            f"is damaged: it has {size} bytes; with {count} ids it must have {expected}",
            field="number of ids", value=count,
        )  # fmt: skip
    return TokenFileHeader(np.dtype(f"<u{itemsize}"), count, vocab_size, head[FIELDS.size :].hex())


def _verify(path: str | Path, file: BinaryIO, header: TokenFileHeader) -> None:
    """Raise FileError unless the file has its checksum, and each id is below the vocabulary size: one pass."""
    file.seek(HEADER_SIZE)
    sha256, highest = hashlib.sha256(), 0
    while chunk := file.read(CHUNK):
        sha256.update(chunk)
        ids = np.frombuffer(chunk, header.dtype, len(chunk) // header.dtype.itemsize)
        highest = max(highest, int(ids.max(initial=0)))
    if pack_header(header.num_ids, header.vocab_size, sha256)[FIELDS.size :].hex() != header.sha256:
        raise FileError(
            path, "is damaged: it does not have the checksum that its header records",
            field="checksum", value=header.sha256,
        )  # fmt: skip
    if highest >= header.vocab_size:
        raise FileError(
            path, f"is damaged: it has the id {highest}; ids must be below {header.vocab_size}, the vocabulary size",
            field="ids", value=highest, must_be=f"below {header.vocab_size}",
        )  # fmt: skip


def _chunks(ids) -> Iterator[np.ndarray]:
    """One-dimensional integer arrays: `ids` itself if it is an array, else its items; single integers are grouped."""
    if isinstance(ids, np.ndarray):
        yield _integers(ids)
        return
    singles = []  # consecutive single integers
    for item in ids:
        is_single = isinstance(item, (int, np.integer)) and not isinstance(item, bool)
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
