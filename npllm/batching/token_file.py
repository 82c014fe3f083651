"""Token files: ids on disk, of which only the windows asked for are read, so that a corpus may be larger than memory.

    text → ids → [file] → windows → batches → …

The file is a header of 32 bytes and then the ids, two bytes each where the vocabulary allows it, else four:

    bytes 0–7    "NPLLMTOK"
    bytes 8–11   version, 1          little-endian integers throughout
    bytes 12–15  bytes per id, 2 or 4
    bytes 16–23  number of ids
    bytes 24–31  vocabulary size; every id is below it
"""

import struct
from pathlib import Path

import numpy as np

from npllm.utils.files import atomic_write

HEADER = struct.Struct("<8sIIQQ")
MAGIC, VERSION = b"NPLLMTOK", 1


def write_token_file(path, ids, vocab_size):
    """Write ids to a file and return how many there were.

    `ids` is a sequence of integers or an iterable of such sequences (one text's ids after the other), which is read
    once and never held as a whole. The file appears when it is complete. Raises ValueError for an id outside
    [0, vocab_size).
    """
    count = 0
    with atomic_write(path) as file:
        file.write(header(0, vocab_size))
        for chunk in _chunks(ids):
            file.write(id_bytes(chunk, vocab_size, count))
            count += len(chunk)
        file.seek(0)
        file.write(header(count, vocab_size))
    return count


def header(count, vocab_size):
    """The first 32 bytes of a file of so many ids."""
    if not 1 <= vocab_size <= 1 << 32:
        raise ValueError(f"vocab_size is {vocab_size}; it must be at least 1 and at most 2**32")
    return HEADER.pack(MAGIC, VERSION, id_type(vocab_size).itemsize, count, vocab_size)


def id_bytes(ids, vocab_size, first=0):
    """An array of ids as the file has them; `first` is the place of the first one, for the error."""
    outside = (ids < 0) | (ids >= vocab_size)
    if outside.any():
        where = int(outside.argmax())
        raise ValueError(f"ids[{first + where}] is {ids[where]}; it must be in [0, {vocab_size})")
    return ids.astype(id_type(vocab_size)).tobytes()


def id_type(vocab_size):
    """Two bytes where they suffice for every id."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def open_token_file(path):
    """The ids of a file as a read-only memory-mapped array: indexing reads from disk what it needs, and no more.

    Raises ValueError, saying what is wrong, for a file that is not a token file, is of another version, or is cut off.
    """
    about = read_header(path)
    if about["count"] == 0:
        return np.empty(0, about["dtype"])
    return np.memmap(path, about["dtype"], "r", HEADER.size, (about["count"],))


def read_header(path):
    """What a token file's header says: dtype, count and vocab_size, held against the file's size."""
    path = Path(path)
    with open(path, "rb") as file:
        head = file.read(HEADER.size)
    if len(head) < HEADER.size or not head.startswith(MAGIC):
        raise ValueError(f"{path} is not a token file: it does not begin with {MAGIC.decode()} and a header")
    _, version, itemsize, count, vocab_size = HEADER.unpack(head)
    if version != VERSION or itemsize not in (2, 4):
        raise ValueError(f"{path} is a token file of version {version}, {itemsize} bytes per id; this reads version 1")
    if not 1 <= vocab_size <= 1 << 32 or itemsize != id_type(vocab_size).itemsize:
        raise ValueError(
            f"{path} is damaged: a vocabulary of {vocab_size} ids does not go with {itemsize} bytes per id"
        )
    expected, size = HEADER.size + count * itemsize, path.stat().st_size
    if size != expected:
        raise ValueError(f"{path} has {size} bytes; its header promises {count} ids, {expected} bytes: it is damaged")
    return {"dtype": np.dtype(f"<u{itemsize}"), "count": count, "vocab_size": vocab_size}


def _chunks(ids):
    """One-dimensional integer arrays: `ids` itself if it is a sequence of integers, else what it yields."""
    if isinstance(ids, np.ndarray):
        yield _integers(ids)
        return
    loose = []  # single integers, in the order in which they came
    for item in ids:
        is_single = isinstance(item, (int, np.integer))
        if is_single:
            loose.append(item)
        if loose and (not is_single or len(loose) == 1 << 16):
            yield _integers(loose)
            loose = []
        if not is_single:
            yield _integers(item)
    yield _integers(loose)


def _integers(ids):
    array = np.asarray(ids)
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"ids has shape {array.shape} and dtype {array.dtype}; it must be integers in a row")
    return array
