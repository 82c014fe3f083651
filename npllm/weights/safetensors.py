"""safetensors: arrays by name in one file, which is read without running anything that it contains.

    8 bytes            length of the header, little-endian
    header             JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …}
    the arrays         one after the other, little-endian, without gaps

A file is mapped into memory: opening one of gigabytes takes no time, and what is not looked at is not read.

The format: Hugging Face, safetensors, section "Format" of its README.
"""

import json
import struct
from pathlib import Path

import numpy as np

from npllm.utils.files import atomic_write

LONGEST_HEADER = 100_000_000  # bytes, the limit of the format
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?", "BF16": "<u2",
}  # fmt: skip
CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items() if code != "BF16"}


def save(path, arrays, metadata=None):
    """Write arrays (a dict by name) to a file, whole or not at all.

    `metadata` is a dict of texts. Raises TypeError for a dtype that the format does not have. The bytes depend on
    the contents alone: the same arrays in the same order give the same file.
    """
    header, end = {}, 0
    if metadata:
        header["__metadata__"] = dict(metadata)
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<") not in CODES:
            raise TypeError(f"{name} has dtype {array.dtype}, which safetensors does not have; it has {list(DTYPES)}")
        start, end = end, end + array.nbytes
        code = CODES[array.dtype.newbyteorder("<")]
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays begin at a multiple of 8
    with atomic_write(path) as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for array in arrays.values():
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            file.write(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)


def load(path):
    """Return (arrays, metadata): a dict of read-only arrays mapped from the file, and a dict of texts.

    bfloat16, which NumPy lacks, comes as float32. Raises FileNotFoundError, or ValueError saying what is wrong with
    the file: cut off, of another kind, or with a header that contradicts itself.
    """
    path = Path(path)
    header, start = _read_header(path)
    metadata = header.pop("__metadata__", {})
    size = path.stat().st_size - start
    data = np.memmap(path, np.uint8, "r", start, (size,)) if size else np.frombuffer(b"", np.uint8)
    arrays, spans = {}, []
    for name, entry in header.items():
        dtype, shape, (begin, end) = _check_entry(path, name, entry, size)
        spans.append((begin, end))
        raw = data[begin:end].view(dtype).reshape(shape)
        arrays[name] = _widen_bfloat16(raw) if entry["dtype"] == "BF16" else raw
    _check_spans(path, spans, size)
    return arrays, metadata


def _read_header(path):
    """The header as a dict, and the place in the file where the arrays begin."""
    with open(path, "rb") as file:
        length = file.read(8)
        if len(length) < 8:
            raise ValueError(f"{path} is no safetensors file: it has {len(length)} bytes")
        length = struct.unpack("<Q", length)[0]
        if not 2 <= length <= min(LONGEST_HEADER, path.stat().st_size - 8):
            raise ValueError(f"{path} is no safetensors file, or cut off: its header would have {length} bytes")
        text = file.read(length)
    try:
        header = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is no safetensors file: its header is no JSON ({error})") from None
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError(f"{path} has a damaged header: it must be an object, with texts as its __metadata__")
    return header, 8 + length


def _check_entry(path, name, entry, size):
    """The dtype, the shape and the two offsets of a tensor, if they make sense."""
    try:
        dtype, shape, (begin, end) = np.dtype(DTYPES[entry["dtype"]]), tuple(entry["shape"]), entry["data_offsets"]
        sizes = [*shape, begin, end]
        sensible = all(type(number) is int and number >= 0 for number in sizes) and begin <= end
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path} has a damaged header: tensor {name!r} is {entry}") from None
    if end > size if sensible else False:
        raise ValueError(f"{path} is cut off: tensor {name!r} would end at byte {end} of {size}")
    if not sensible or int(np.prod(shape, dtype=object)) * dtype.itemsize != end - begin:
        raise ValueError(f"{path} has a damaged header: tensor {name!r} is {entry}")
    return dtype, shape, (begin, end)


def _check_spans(path, spans, size):
    """The tensors must lie one after the other from the first byte to the last."""
    place = 0
    for begin, end in sorted(spans):
        if begin != place:
            raise ValueError(f"{path} has a damaged header: no tensor, or two of them, at byte {min(begin, place)}")
        place = end
    if place != size:
        raise ValueError(f"{path} has {size - place} bytes behind its last tensor")


def _widen_bfloat16(raw):
    """float32 from bfloat16: the same upper 16 bits."""
    return (raw.astype(np.uint32) << 16).view(np.float32)
