"""safetensors: arrays by name in one file. Unlike a pickle, reading it executes nothing that it contains.

    8 bytes            length of the header, little-endian
    header             JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …}
    the arrays         one after another, little-endian, without gaps

A file is memory-mapped: opening it takes no time whatever its size, and arrays that are not used are not read.

Hugging Face, safetensors, section "Format" of its README.
"""

import json
import math
import struct
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from npllm.utils.files import atomic_write
from npllm.utils.json_files import as_json, parse_json_object

MAX_HEADER_BYTES = 100_000_000  # the limit of the format
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?", "BF16": "<u2",
}  # fmt: skip
OTHER_DTYPES = {  # of quantised models
    "F8_E4M3": "float8", "F8_E5M2": "float8", "F8_E8M0": "float8", "F8_E4M3FNUZ": "float8", "F8_E5M2FNUZ": "float8",
    "F6_E2M3": "float6", "F6_E3M2": "float6", "F4": "float4", "C64": "complex numbers",
}  # fmt: skip
OTHER_FORMATS = {  # first bytes of a file: what it is
    b"version https://git-lfs": "a pointer of Git LFS: run `git lfs pull`",
    b"PK": "a zip file, such as PyTorch's pickles; convert it to safetensors",
    b"\x80": "a pickle, which can execute code when it is read; convert it to safetensors",
    b"GGUF": "a GGUF file",
    b"\x89HDF": "an HDF5 file of TensorFlow",
    b"<": "a page of HTML or XML, such as an error message that was saved under this name",
}
MAX_AXES = 64  # of an array in NumPy 2
CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items() if code != "BF16"}


def save(path: str | PathLike, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays by name to a file, atomically.

    Raises TypeError for a dtype that the format does not have. The same arrays in the same order give the same bytes.
    """
    header: dict[str, Any] = {}
    end = 0
    if metadata:
        header["__metadata__"] = dict(metadata)
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<") not in CODES:
            raise TypeError(f"{name} has dtype {array.dtype}, which safetensors does not have; it has {list(DTYPES)}")
        start, end = end, end + array.nbytes
        code = CODES[array.dtype.newbyteorder("<")]
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the arrays begin at a multiple of 8
    with atomic_write(Path(path)) as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for array in arrays.values():
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            file.write(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)


def load(path: str | PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return (arrays, metadata): read-only arrays mapped from the file, and a dict of texts.

    bfloat16, which NumPy does not have, is converted to float32. Raises FileNotFoundError, or ValueError that says what
    is wrong: a truncated file, another format, or a header that contradicts itself.
    """
    path = Path(path)
    if not path.is_file():  # a pipe would be waited for
        raise FileNotFoundError(f"there is no file {path}")
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
    """The header as a dict, and the byte at which the arrays begin."""
    with open(path, "rb") as file:
        length = file.read(8)
        if len(length) < 8:
            raise ValueError(f"{path} is not a safetensors file{_other_format(path)}: it has {len(length)} bytes")
        length = struct.unpack("<Q", length)[0]
        if not 2 <= length <= min(MAX_HEADER_BYTES, path.stat().st_size - 8):
            raise ValueError(
                f"{path} is not a safetensors file{_other_format(path)}, or truncated: its header would have {length} "
                f"bytes"
            )
        text = file.read(length)
    if text[:1] != b"{":
        raise ValueError(f"{path} is not a safetensors file{_other_format(path)}: its header is not a JSON object")
    header = parse_json_object(text, f"{path} has a damaged header; the JSON")
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError(f"{path} has a damaged header: its __metadata__ must be an object of texts")
    return header, 8 + length


def _other_format(path):
    """What the file is, by its first bytes, where that is known: ", but …"."""
    with open(path, "rb") as file:
        start = file.read(40)
    return next((f", but {what}" for magic, what in OTHER_FORMATS.items() if start.lstrip().startswith(magic)), "")


def _check_entry(path, name, entry, size):
    """The dtype, the shape and the two offsets of a tensor; raises ValueError where they contradict each other."""
    damaged = ValueError(f"{path} has a damaged header: tensor {as_json(name)} is {as_json(entry)}")
    try:
        code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        is_valid = all(type(number) is int and number >= 0 for number in [*shape, begin, end]) and begin <= end
        name.encode()  # half a surrogate pair is no text
    except (AttributeError, KeyError, TypeError, ValueError):
        raise damaged from None
    if isinstance(code, str) and code in OTHER_DTYPES:
        raise ValueError(
            f"{path} has the tensor {as_json(name)} of dtype {code} ({OTHER_DTYPES[code]}), which NumPy does not have; "
            f"use the model's weights in bfloat16, float16 or float32"
        )
    if not isinstance(code, str) or code not in DTYPES:
        raise damaged
    dtype = np.dtype(DTYPES[code])
    if is_valid and end > size:
        raise ValueError(f"{path} is truncated: tensor {as_json(name)} would end at byte {end} of {size}")
    if not is_valid or len(shape) > MAX_AXES or math.prod(shape) * dtype.itemsize != end - begin:
        raise damaged
    if 0 in shape and math.prod(filter(None, shape)) * dtype.itemsize >= 2**63:
        raise damaged  # NumPy has no such array, even if it is empty
    return dtype, shape, (begin, end)


def _check_spans(path, spans, size):
    """Raise ValueError unless the tensors follow each other without gaps from the first byte to the last."""
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise ValueError(f"{path} has a damaged header: no tensor, or two of them, at byte {min(begin, position)}")
        position = end
    if position != size:
        raise ValueError(f"{path} has {size - position} bytes after its last tensor")


def _widen_bfloat16(raw):
    """float32 from bfloat16: the same upper 16 bits."""
    return (raw.astype(np.uint32) << 16).view(np.float32)
