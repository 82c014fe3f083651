"""safetensors: arrays by name in one file. Unlike a pickle, reading it executes nothing that it contains.

    8 bytes            length of the header, little-endian
    header             JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …}
    the arrays         one after another, little-endian, without gaps

A file that `save` wrote records its own SHA-256 in the header, under __metadata__: that of the whole file with the 64
digits of the hash replaced by zeros. `load` verifies it, so a flipped bit is refused. Other programs ignore the entry.

A file is memory-mapped. Without a checksum, opening it takes no time whatever its size, and arrays that are not used
are not read.

Hugging Face, safetensors, section "Format" of its README.
"""

import hashlib
import json
import math
import os
import struct
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from npllm.utils.file_errors import FileError
from npllm.utils.files import atomic_write, check_regular_file
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
CHECKSUM = "npllm_sha256"  # the entry of __metadata__
NO_CHECKSUM = "0" * 64  # stands for the checksum while the file is hashed
HASHED_AT_ONCE = 1 << 22  # bytes
CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items() if code != "BF16"}


def save(
    path: str | PathLike,
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
    *,
    keep_as: str | PathLike | None = None,
) -> None:
    """Write arrays by name to a file with its checksum, atomically; `keep_as`: see `atomic_write`.

    Raises TypeError for a dtype that the format does not have. The same arrays in the same order give the same bytes.
    """
    header: dict[str, Any] = {"__metadata__": {**(metadata or {}), CHECKSUM: NO_CHECKSUM}}
    end = 0
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<") not in CODES:
            raise TypeError(f"{name} has dtype {array.dtype}, which safetensors does not have; it has {list(DTYPES)}")
        start, end = end, end + array.nbytes
        code = CODES[array.dtype.newbyteorder("<")]
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the arrays begin at a multiple of 8
    text = struct.pack("<Q", len(text)) + text
    digest = hashlib.sha256(text)
    with atomic_write(path, keep_as=keep_as) as file:
        file.write(text)
        for array in arrays.values():
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            data = np.ascontiguousarray(little).reshape(-1).view(np.uint8)
            file.write(data.data)
            digest.update(data.data)
        file.seek(_checksum_position(text))
        file.write(digest.hexdigest().encode())


def load(path: str | PathLike, *, require_checksum: bool = False) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return (arrays, metadata): read-only arrays mapped from the file, and a dict of texts, without the checksum.

    bfloat16, which NumPy does not have, is converted to float32. With `require_checksum`, a file without a checksum is
    refused. Raises OSError, or FileError that says what is wrong: a truncated file, another format, a header that
    contradicts itself, or a checksum that does not fit.
    """
    path = Path(path)
    check_regular_file(path)
    with open(
        path, "rb"
    ) as file:  # the file is opened once, so all of it is of one version if it is replaced meanwhile
        text = _read_header(path, file)
        size = file.seek(0, 2) - len(text)
        data = np.memmap(file, np.uint8, "r", len(text), (size,)) if size else np.frombuffer(b"", np.uint8)
    header = parse_json_object(text[8:], f"{path} has a damaged header; the JSON")
    metadata = _check_metadata(path, header.pop("__metadata__", {}))
    arrays, spans = {}, []
    for name, entry in header.items():
        dtype, shape, (begin, end) = _check_entry(path, name, entry, size)
        spans.append((begin, end))
        raw = data[begin:end].view(dtype).reshape(shape)
        arrays[name] = raw
    _check_spans(path, spans, size)
    _verify(path, metadata.pop(CHECKSUM, None), text, data, require_checksum)
    for name, entry in header.items():
        if entry["dtype"] == "BF16":
            arrays[name] = _widen_bfloat16(arrays[name])
    return arrays, metadata


def _checksum_position(text):
    """The position in a file of the first digit of its checksum. The quotes inside of names and texts are escaped."""
    prefix = f'"{CHECKSUM}":"'.encode()
    return text.index(prefix) + len(prefix)


def _verify(path, recorded, text, data, required):
    """Raise FileError unless the file has the checksum that it records. `text` is what precedes the arrays."""
    if recorded is None and not required:
        return
    if recorded is None:
        raise FileError(path, f"has no checksum; its header must have {CHECKSUM}", field=CHECKSUM)
    zeroed = text.replace(f'"{CHECKSUM}":"{recorded}"'.encode(), f'"{CHECKSUM}":"{NO_CHECKSUM}"'.encode(), 1)
    digest = hashlib.sha256(zeroed)
    for start in range(0, len(data), HASHED_AT_ONCE):
        digest.update(data[start : start + HASHED_AT_ONCE])
    if recorded != digest.hexdigest():
        raise FileError(
            path, "is damaged, or another program changed it: its content does not have the SHA-256 that it records",
            field=CHECKSUM, value=recorded, must_be=digest.hexdigest(),
        )  # fmt: skip


def _read_header(path: Path, file: BinaryIO) -> bytes:
    """The bytes of a file up to the first array: the length of the header, and the header."""
    start = file.read(8)
    if len(start) < 8:
        raise FileError(path, f"is not a safetensors file{_other_format(path)}: it has {len(start)} bytes")
    length = struct.unpack("<Q", start)[0]
    if not 2 <= length <= min(MAX_HEADER_BYTES, os.fstat(file.fileno()).st_size - 8):
        raise FileError(
            path,
            f"is not a safetensors file{_other_format(path)}, or truncated: its header would have {length} bytes",
        )
    text = file.read(length)
    if text[:1] != b"{":
        raise FileError(path, f"is not a safetensors file{_other_format(path)}: its header is not a JSON object")
    return start + text


def _check_metadata(path, metadata):
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise FileError(path, "has a damaged header: its __metadata__ must be an object of texts")
    return metadata


def _other_format(path):
    """What the file is, by its first bytes, where that is known: ", but …"."""
    with open(path, "rb") as file:
        start = file.read(40)
    return next((f", but {what}" for magic, what in OTHER_FORMATS.items() if start.lstrip().startswith(magic)), "")


def _check_entry(path, name, entry, size):
    """The dtype, the shape and the two offsets of a tensor; raises FileError where they contradict each other."""
    damaged = FileError(path, f"has a damaged header: tensor {as_json(name)} is {as_json(entry)}")
    try:
        code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        is_valid = all(type(number) is int and number >= 0 for number in [*shape, begin, end]) and begin <= end
    except (AttributeError, KeyError, TypeError, ValueError):
        raise damaged from None
    if isinstance(code, str) and code in OTHER_DTYPES:
        raise FileError(
            path,
            f"has the tensor {as_json(name)} of dtype {code} ({OTHER_DTYPES[code]}), which NumPy does not have; "
            f"use the model's weights in bfloat16, float16 or float32",
        )
    if not isinstance(code, str) or code not in DTYPES:
        raise damaged
    dtype = np.dtype(DTYPES[code])
    if is_valid and end > size:
        raise FileError(path, f"is truncated: tensor {as_json(name)} would end at byte {end} of {size}")
    if not is_valid or len(shape) > MAX_AXES or math.prod(shape) * dtype.itemsize != end - begin:
        raise damaged
    if 0 in shape and math.prod(filter(None, shape)) * dtype.itemsize >= 2**63:
        raise damaged  # NumPy has no such array, even if it is empty
    return dtype, shape, (begin, end)


def _check_spans(path, spans, size):
    """Raise FileError unless the tensors follow each other without gaps from the first byte to the last."""
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise FileError(path, f"has a damaged header: no tensor, or two of them, at byte {min(begin, position)}")
        position = end
    if position != size:
        raise FileError(path, f"has {size - position} bytes after its last tensor")


def _widen_bfloat16(raw):
    """float32 from bfloat16: the same upper 16 bits."""
    return (raw.astype(np.uint32) << 16).view(np.float32)
