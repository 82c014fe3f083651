"""GGUF, the file format of llama.cpp: metadata by name, and tensors, most of them quantized.

    "GGUF", version, number of tensors, number of metadata fields
    metadata           name, type, value; such as llama.block_count = 30 or tokenizer.ggml.tokens = ["<|endoftext|>", …]
    tensor directory   name, shape (last axis first), type, offset
    the tensors        each at a multiple of the alignment

A quantized row is a sequence of blocks: 32 or 256 numbers of a few bits with common factors. For Q4_1, 20 bytes have a
scale d and a minimum m in float16, and 32 integers q of 4 bits that stand for d q + m. The package `gguf` converts the
blocks of every type to float32.

The file is memory-mapped, and a tensor is converted when its values are requested. Every count and every offset in the
file is compared with the size of the file before it is used.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import mmap
import stat
import struct
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from npllm.utils.file_errors import FileError

MAGIC, VERSIONS, ALIGNMENT, MAX_DIMENSIONS = b"GGUF", (2, 3), 32, 4
STRING, ARRAY, BOOL = 8, 9, 7
NUMBERS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", BOOL: "u1", 10: "<u8", 11: "<i8",
           12: "<f8"}  # fmt: skip
PLAIN = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
MAX_ITEMS = 4_000_000  # of an array of the metadata; a vocabulary has some 100,000
NUMBERS_AT_ONCE = 1 << 17  # that are dequantized in one step; a multiple of the numbers in every block


def is_gguf(path: str | PathLike) -> bool:
    """Whether the path is a file that ends in .gguf or begins with GGUF's magic number."""
    path = Path(path)
    if not path.is_file():
        return False
    if path.suffix == ".gguf":
        return True
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_gguf(path: str | PathLike) -> "tuple[dict[str, Any], dict[str, GGUFTensor]]":
    """(metadata, tensors) of a file; see `read_metadata` and `read_tensors`."""
    reader = _Reader(path)
    metadata = reader.metadata()
    return metadata, reader.tensors(metadata.get("general.alignment", ALIGNMENT))


def read_metadata(path: str | PathLike) -> dict[str, Any]:
    """The metadata fields by name: bool, int, float, str, or a list of one of these.

    Raises OSError, or FileError that says what is wrong.
    """
    return _Reader(path).metadata()


def read_tensors(path: str | PathLike) -> "dict[str, GGUFTensor]":
    """The tensors by name. `np.asarray(tensor)` dequantizes; shape and dtype are known before.

    Raises OSError, or FileError that says what is wrong: a truncated file, another
    format, a type that the package `gguf` cannot dequantize, tensors that overlap.
    """
    return read_gguf(path)[1]


class GGUFTensor:
    """A tensor of a GGUF file: `shape`, and `dtype` after dequantization, which `np.asarray` does.

    data   the numbers; of a quantized type the bytes of the blocks, (..., bytes of a row)

    Indexing selects rows, still quantized, since a block is part of one row.
    """

    def __init__(self, type_name: str, shape: tuple[int, ...], data: np.ndarray) -> None:
        self.type_name, self.shape, self.data = type_name, shape, data

    @property
    def dtype(self) -> np.dtype:
        """float32 for all quantized types, bfloat16 and float16."""
        return np.dtype(np.float32 if self.is_quantized or self.type_name in ("BF16", "F16") else self.data.dtype)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        """The length of the first axis."""
        return self.shape[0]

    @property
    def is_quantized(self) -> bool:
        """Whether a row consists of blocks."""
        return self.type_name not in PLAIN

    def __getitem__(self, index: Any) -> "GGUFTensor":
        """The rows of this index, an integer, a slice or an array for the first axis."""
        if self.is_quantized and self.ndim == 1:
            raise ValueError(f"a row of type {self.type_name} cannot be indexed; it must have type F32, F16 or BF16")
        data = self.data[index]
        return GGUFTensor(self.type_name, (*data.shape[:-1], self.shape[-1]) if self.is_quantized else data.shape, data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The numbers in float32, or in `dtype`."""
        out = np.empty(self.shape, self.dtype if dtype is None else dtype)
        data, numbers = self.data.reshape(-1), out.reshape(-1)
        block, unit = _block(self.type_name)
        for start in range(0, out.size, NUMBERS_AT_ONCE):
            stop = start + NUMBERS_AT_ONCE
            numbers[start:stop] = self._dequantize(data[start // block * unit : stop // block * unit])
        return out

    def _dequantize(self, data: np.ndarray) -> np.ndarray:
        if self.type_name == "BF16":  # the upper 16 bits of a float32
            return (data.astype(np.uint32) << 16).view(np.float32)
        if not self.is_quantized:
            return data
        from gguf import GGMLQuantizationType, dequantize

        return dequantize(data, GGMLQuantizationType[self.type_name])


def _block(type_name: str) -> tuple[int, int]:
    """(numbers, elements of `GGUFTensor.data`) of a block of this type."""
    if type_name in PLAIN:
        return 1, 1
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    return GGML_QUANT_SIZES[GGMLQuantizationType[type_name]]


class _Reader:
    """Reads a GGUF file from its beginning; each method continues where the last one ended."""

    def __init__(self, path: str | PathLike) -> None:
        self.path = path = Path(path)
        if not stat.S_ISREG(path.stat().st_mode):
            raise FileError(path, "is not a file; it must be a GGUF file")
        with open(path, "rb") as file:
            start = file.read(24)
            if start[:4] != MAGIC:
                raise FileError(path, f"is not a GGUF file: it begins with {start[:4]!r}, not with {MAGIC!r}")
            if len(start) < 24:
                raise self.damaged(f"it has {len(start)} bytes")
            version, self.num_tensors, self.num_fields = struct.unpack("<IQQ", start[4:])
            if version not in VERSIONS:
                is_big_endian = struct.unpack(">I", start[4:8])[0] in VERSIONS
                found = "big-endian" if is_big_endian else f"version {version} of GGUF"
                raise FileError(path, f"is {found}; it must be little-endian and version 2 or 3")
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.size, self.offset = len(self.bytes), 24

    def damaged(self, reason: str) -> FileError:
        """The error for a file that contradicts itself."""
        return FileError(self.path, f"is truncated or damaged: {reason}")

    def metadata(self) -> dict[str, Any]:
        """All metadata fields, which are the first part of the file."""
        self.check_left(12 * self.num_fields, f"{self.num_fields} metadata fields")
        fields: dict[str, Any] = {}
        for _ in range(self.num_fields):
            name = self.string("the name of a metadata field")
            if name in fields:
                raise self.damaged(f"metadata field {name!r} occurs twice")
            fields[name] = self.value(name, self.number("<I"))
        return fields

    def tensors(self, alignment: Any) -> dict[str, GGUFTensor]:
        """The tensors, whose directory follows the metadata."""
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise self.damaged(f"general.alignment is {alignment!r}; it must be a power of two")
        self.check_left(24 * self.num_tensors, f"{self.num_tensors} tensors")
        entries = [self.tensor_entry() for _ in range(self.num_tensors)]
        start = -(-self.offset // alignment) * alignment
        content = np.frombuffer(self.bytes, np.uint8)
        types = _Types(self)
        tensors: dict[str, GGUFTensor] = {}
        spans: list[tuple[int, int, str]] = []
        for name, shape, type_number, offset in entries:
            if name in tensors:
                raise self.damaged(f"tensor {name!r} occurs twice")
            type_name, row_bytes = types.of(name, type_number, shape[-1])
            begin, num_bytes = start + offset, math.prod(shape[:-1]) * row_bytes
            if offset % alignment or begin + num_bytes > self.size:
                raise self.damaged(f"tensor {name!r} would end at byte {begin + num_bytes} of {self.size}")
            raw = content[begin : begin + num_bytes]
            if type_name in PLAIN:
                data = raw.view(PLAIN[type_name]).reshape(shape)
            else:
                data = raw.reshape(*shape[:-1], row_bytes)
            tensors[name] = GGUFTensor(type_name, shape, data)
            spans.append((begin, begin + num_bytes, name))
        spans.sort()
        for (_, end, first), (begin, _, second) in zip(spans, spans[1:]):
            if begin < end:
                raise self.damaged(f"tensors {first!r} and {second!r} overlap")
        return tensors

    def tensor_entry(self) -> tuple[str, tuple[int, ...], int, int]:
        """(name, shape, number of the type, offset) of the next tensor of the directory."""
        name = self.string("the name of a tensor")
        num_axes = self.number("<I")
        if not 1 <= num_axes <= MAX_DIMENSIONS:
            raise self.damaged(f"tensor {name!r} has {num_axes} axes; it must have 1 to {MAX_DIMENSIONS}")
        shape = tuple(self.number("<Q") for _ in range(num_axes))[::-1]
        if min(shape) < 1:
            raise self.damaged(f"tensor {name!r} has shape {shape}")
        return name, shape, self.number("<I"), self.number("<Q")

    def value(self, name: str, kind: int) -> Any:
        """The value of a metadata field of this type."""
        if kind == STRING:
            return self.string(name)
        if kind in NUMBERS:
            return self.numbers(name, kind, 1)[0]
        if kind != ARRAY:
            raise self.damaged(f"{name} has type {kind}, which GGUF does not have")
        item_kind, length = self.number("<I"), self.number("<Q")
        if item_kind == STRING:
            return self.strings(name, length)
        if item_kind not in NUMBERS:
            raise self.damaged(f"{name} is an array of type {item_kind}; it must be one of numbers or strings")
        return self.numbers(name, item_kind, length)

    def numbers(self, name: str, kind: int, length: int) -> list[Any]:
        """The next numbers of one type."""
        dtype = np.dtype(NUMBERS[kind])
        self.check_left(length * dtype.itemsize, name)
        self.check_length(name, length)
        raw = self.take(length * dtype.itemsize, name)
        array = np.frombuffer(raw, dtype)
        if kind == BOOL:
            if array.size and array.max() > 1:
                raise self.damaged(f"{name} is a bool with the value {int(array.max())}")
            return array.astype(bool).tolist()
        return array.tolist()

    def strings(self, name: str, length: int) -> list[str]:
        """The next strings."""
        self.check_left(8 * length, f"{length} strings of {name}")
        self.check_length(name, length)
        content, size, offset, length_at = self.bytes, self.size, self.offset, struct.Struct("<Q").unpack_from
        found = []
        try:
            for _ in range(length):
                begin = offset + 8
                offset = begin + length_at(content, offset)[0]
                if offset > size:
                    raise self.damaged(f"{name} would have a string that ends at byte {offset} of {size}")
                found.append(content[begin:offset].decode())
        except UnicodeDecodeError as error:
            raise self.damaged(f"{name} has a string that is not UTF-8 ({error})") from None
        except struct.error:
            raise self.damaged(f"{name} would end after the last byte") from None
        self.offset = offset
        return found

    def string(self, name: str) -> str:
        """The next string."""
        return self.strings(name, 1)[0]

    def number(self, code: str) -> int:
        """The next number, of a type of the struct module."""
        return struct.unpack(code, self.take(struct.calcsize(code), "a number"))[0]

    def take(self, num_bytes: int, what: str) -> bytes:
        """The next bytes."""
        self.check_left(num_bytes, what)
        self.offset += num_bytes
        return self.bytes[self.offset - num_bytes : self.offset]

    def check_length(self, name: str, length: int) -> None:
        """Raise FileError for an array of more than MAX_ITEMS: a Python object takes 30 times the memory of a byte."""
        if length > MAX_ITEMS:
            raise self.damaged(f"{name} is an array of {length} items; it must have at most {MAX_ITEMS}")

    def check_left(self, num_bytes: int, what: str) -> None:
        """Raise ValueError if the file has fewer bytes left."""
        if num_bytes > self.size - self.offset:
            raise self.damaged(f"{what} would end at byte {self.offset + num_bytes} of {self.size}")


class _Types:
    """The types of tensors that the package `gguf` can dequantize, each tried on a block of zeros once."""

    def __init__(self, reader: _Reader) -> None:
        self.reader = reader
        self.known: dict[int, tuple[str, int, int]] = {}  # number: (name, numbers in a block, bytes of a block)

    def of(self, tensor: str, number: int, row_length: int) -> tuple[str, int]:
        """(name of the type, bytes of a row) for a tensor with rows of this length."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

        if number not in self.known:
            try:
                kind = GGMLQuantizationType(number)
                block, block_bytes = GGML_QUANT_SIZES[kind]
                if kind.name not in PLAIN:
                    dequantize(np.zeros((1, block_bytes), np.uint8), kind)
            except (ValueError, KeyError, NotImplementedError):
                raise FileError(
                    self.reader.path,
                    f"has tensor {tensor!r} of type {_type_name(number)}, which the package gguf "
                    f"cannot dequantize; it must be F32, F16, BF16 or one of the Q and IQ types",
                ) from None
            self.known[number] = kind.name, block, block_bytes
        name, block, block_bytes = self.known[number]
        if row_length % block:
            raise self.reader.damaged(f"tensor {tensor!r} of type {name} has rows of {row_length}; a block has {block}")
        return name, row_length // block * block_bytes


def _type_name(number: int) -> str:
    from gguf import GGMLQuantizationType

    try:
        return GGMLQuantizationType(number).name
    except ValueError:
        return str(number)
