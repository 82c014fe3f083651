"""The reader of GGUF files: it agrees with the package gguf, and refuses damaged files."""

import os
import struct

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFValueType

from npllm.utils.gguf_file import is_gguf, read_gguf, read_metadata, read_tensors
from tests.weights.gguf_files import finish, random_blocks

SIMPLE = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "TQ1_0", "TQ2_0")  # gguf quantizes to these
BLOCKS = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S", "IQ4_NL",
          "IQ4_XS")  # fmt: skip


def write(path, fields=(), tensors=()):
    """Write (name, value, type) and (name, array, type) with the package gguf."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, value, kind in fields:
        if kind == GGUFValueType.ARRAY:
            writer.add_array(name, value)
        else:
            writer.add_key_value(name, value, kind)
    for name, array, kind in tensors:
        writer.add_tensor(name, array, raw_dtype=kind)
    finish(writer)
    return path


def small_file(path):
    """A file with every part of the format."""
    fields = [("a.number", 7, GGUFValueType.UINT32), ("a.list", ["x", "yz", ""], GGUFValueType.ARRAY),
              ("a.flag", True, GGUFValueType.BOOL), ("a.sizes", [1, 2, 3], GGUFValueType.ARRAY)]  # fmt: skip
    array = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
    kinds = GGMLQuantizationType
    tensors = [("w", gguf.quantize(array, kinds.Q4_1), kinds.Q4_1), ("b", array[0], kinds.F32)]
    return write(path, fields, tensors)


def test_every_type_of_metadata(tmp_path):
    kinds = GGUFValueType
    fields = [
        ("u8", 255, kinds.UINT8), ("i8", -128, kinds.INT8), ("u16", 65535, kinds.UINT16), ("i16", -3, kinds.INT16),
        ("u32", 2**32 - 1, kinds.UINT32), ("i32", -(2**31), kinds.INT32), ("u64", 2**64 - 1, kinds.UINT64),
        ("i64", -(2**63), kinds.INT64), ("f32", 0.1, kinds.FLOAT32), ("f64", 0.1, kinds.FLOAT64),
        ("yes", True, kinds.BOOL), ("no", False, kinds.BOOL), ("text", "Ġé\n🙂", kinds.STRING),
        ("texts", ["", "a", "ß"], kinds.ARRAY), ("numbers", [1, -2, 3], kinds.ARRAY),
        ("reals", [0.5, 2.0], kinds.ARRAY), ("flags", [True, False], kinds.ARRAY),
    ]  # fmt: skip
    found = read_metadata(write(tmp_path / "a.gguf", fields))
    assert found.pop("general.architecture") == "llama"
    expected = {name: value for name, value, _ in fields} | {"f32": float(np.float32(0.1))}
    assert found == expected
    assert [type(value) for value in found.values()] == [type(value) for value in expected.values()]


@pytest.mark.parametrize("kind", SIMPLE + BLOCKS)
def test_every_type_of_tensor_equals_the_package_gguf(tmp_path, kind):
    """Several steps of dequantization: more numbers than are converted at once."""
    kind, shape = GGMLQuantizationType[kind], (300, 512)
    if kind.name in SIMPLE:
        blocks = gguf.quantize(np.random.default_rng(0).normal(size=shape).astype(np.float32), kind)
    else:
        blocks = random_blocks(shape, kind)
    tensor = read_tensors(write(tmp_path / "a.gguf", (), [("w", blocks, kind)]))["w"]
    expected = gguf.dequantize(blocks, kind)
    assert (tensor.shape, tensor.dtype, tensor.type_name) == (shape, np.float32, kind.name)
    assert np.isfinite(expected).all()
    array = np.asarray(tensor)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(np.asarray(tensor[2:5]), expected[2:5])
    np.testing.assert_array_equal(np.asarray(tensor[np.array([7, 0])]), expected[[7, 0]])
    np.testing.assert_array_equal(np.asarray(tensor[1]), expected[1])


def q4_1(block):
    """d q + m for 32 numbers of 4 bits: the low halves of 16 bytes, then the high halves."""
    d, m = struct.unpack("<ee", bytes(block[:4]))
    low, high = [byte & 15 for byte in block[4:]], [byte >> 4 for byte in block[4:]]
    return [d * q + m for q in low + high]


def q8_0(block):
    """d q for 32 numbers of 8 bits."""
    return [struct.unpack("<e", bytes(block[:2]))[0] * q for q in struct.unpack("<32b", bytes(block[2:]))]


def q6_k(block):
    """d s (q − 32) for 256 numbers of 6 bits; 16 numbers have one scale s of 8 bits."""
    low, high, scales = block[:128], block[128:192], struct.unpack("<16b", bytes(block[192:208]))
    d = struct.unpack("<e", bytes(block[208:]))[0]
    out = [0.0] * 256
    for half in range(2):
        for i in range(32):
            for part in range(4):
                four = low[64 * half + i + 32 * (part % 2)] >> (4 * (part // 2)) & 15
                two = high[32 * half + i] >> (2 * part) & 3
                number = 128 * half + 32 * part + i
                out[number] = d * scales[number // 16] * ((four | two << 4) - 32)
    return out


@pytest.mark.parametrize("reference", [q4_1, q8_0, q6_k])
def test_blocks_equal_a_plain_loop(tmp_path, reference):
    kind = GGMLQuantizationType[reference.__name__.upper()]
    blocks = random_blocks((5, 256), kind)
    found = np.asarray(read_tensors(write(tmp_path / "a.gguf", (), [("w", blocks, kind)]))["w"])
    size = gguf.GGML_QUANT_SIZES[kind][1]
    expected = [number for block in blocks.reshape(-1, size).tolist() for number in reference(block)]
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-6)


def test_integers_and_float64(tmp_path):
    kinds = GGMLQuantizationType
    arrays = {"F64": np.array([[0.1, 1e300]]), "I32": np.array([-7, 8], np.int32), "I8": np.array([-7], np.int8)}
    path = write(tmp_path / "a.gguf", (), [(name, array, kinds[name]) for name, array in arrays.items()])
    for name, tensor in read_tensors(path).items():
        assert tensor.dtype == arrays[name].dtype
        np.testing.assert_array_equal(np.asarray(tensor), arrays[name])


def test_three_axes_are_indexed_by_the_first(tmp_path):
    array = np.random.default_rng(0).normal(size=(4, 3, 64)).astype(np.float32)
    blocks = gguf.quantize(array, GGMLQuantizationType.Q8_0)
    tensor = read_tensors(write(tmp_path / "a.gguf", (), [("w", blocks, GGMLQuantizationType.Q8_0)]))["w"]
    assert tensor.shape == (4, 3, 64) and tensor[2].shape == (3, 64)
    np.testing.assert_array_equal(np.asarray(tensor[2]), gguf.dequantize(blocks, GGMLQuantizationType.Q8_0)[2])


def test_metadata_and_tensors_of_a_file(tmp_path):
    path = small_file(tmp_path / "a.gguf")
    metadata, tensors = read_gguf(path)
    assert metadata == read_metadata(path) and list(tensors) == ["w", "b"]
    reader = gguf.GGUFReader(path)
    assert [field for field in reader.fields if not field.startswith("GGUF.")] == list(metadata)


def test_what_is_a_gguf_file(tmp_path):
    path = small_file(tmp_path / "model.bin")
    (tmp_path / "x.gguf").write_text("")
    (tmp_path / "x.txt").write_text("GGML")
    (tmp_path / "folder.gguf").mkdir()
    names = {"model.bin": True, "x.gguf": True, "x.txt": False, "folder.gguf": False, "nothing.gguf": False}
    assert {name: is_gguf(tmp_path / name) for name in names} == names
    assert path.exists()


def test_truncated_at_every_byte(tmp_path):
    content, path = small_file(tmp_path / "a.gguf").read_bytes(), tmp_path / "short.gguf"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="short.gguf is ") as error:
            read_gguf(path)
        assert "not a GGUF file" in str(error.value) if length < 4 else "truncated or damaged" in str(error.value)


def test_any_changed_byte_gives_numbers_or_a_message(tmp_path):
    """Whatever a header says, nothing but a ValueError with the file's name leaves the reader."""
    content, path = bytearray(small_file(tmp_path / "a.gguf").read_bytes()), tmp_path / "flipped.gguf"
    rng = np.random.default_rng(0)
    for position in range(len(content)):
        for value in {0, 255, content[position] ^ 1 << int(rng.integers(8))}:
            changed = content.copy()
            changed[position] = value
            path.write_bytes(changed)
            try:
                for tensor in read_gguf(path)[1].values():
                    with np.errstate(all="ignore"):
                        np.asarray(tensor)
            except ValueError as error:
                assert "flipped.gguf" in str(error)


def header(num_tensors=0, num_fields=0, version=3, magic=b"GGUF"):
    """The first 24 bytes."""
    return magic + struct.pack("<IQQ", version, num_tensors, num_fields)


def text(value):
    """A string of the format."""
    return struct.pack("<Q", len(value)) + value


def tensor(name=b"w", shape=(32,), kind=0, offset=0):
    """An entry of the tensor directory."""
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


ALIGNMENT = text(b"general.alignment")
ZEROS = b"\0" * 400
FIELD = text(b"a") + struct.pack("<I", 8)
DAMAGED = {
    "an empty file": (b"", "is not a GGUF file: it begins with b''"),
    "a safetensors file": (b"\x08\0\0\0\0\0\0\0{}      ", "is not a GGUF file"),
    "a page of a web server": (b"<!DOCTYPE html><html></html>", "is not a GGUF file: it begins with b'<!DO'"),
    "version 1": (header(version=1), "is version 1 of GGUF; it must be little-endian and version 2 or 3"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is big-endian; it must be little-endian"),
    "more tensors than bytes": (header(num_tensors=2**60), "1152921504606846976 tensors would end at"),
    "more fields than bytes": (header(num_fields=2**63), "metadata fields would end at"),
    "a long name": (header(0, 1) + struct.pack("<Q", 2**62) + b"a" * 20, "would end at|string that ends at"),
    "a long array": (header(0, 1) + text(b"a") + struct.pack("<IIQ", 9, 6, 2**61) + ZEROS, "a would end at"),
    "a long list": (header(0, 1) + text(b"a") + struct.pack("<IIQ", 9, 8, 2**61) + ZEROS, "strings of a would"),
    "a list of lists": (header(0, 1) + text(b"a") + struct.pack("<IIQ", 9, 9, 1) + ZEROS, "a is an array of type 9"),
    "an unknown type": (header(0, 1) + text(b"a") + struct.pack("<I", 77) + ZEROS, "a has type 77"),
    "a bool of 2": (header(0, 1) + text(b"a") + struct.pack("<IB", 7, 2), "a is a bool with the value 2"),
    "not UTF-8": (header(0, 1) + FIELD + text(b"\xff\xfe"), "a has a string that is not UTF-8"),
    "a field twice": (header(0, 2) + 2 * (FIELD + text(b"x")), "metadata field 'a' occurs twice"),
    "an alignment of 3": (header(0, 1) + ALIGNMENT + struct.pack("<II", 4, 3), "must be a power of two"),
    "an alignment of 0": (header(0, 1) + ALIGNMENT + struct.pack("<II", 4, 0), "must be a power of two"),
    "a text as alignment": (header(0, 1) + ALIGNMENT + struct.pack("<I", 8) + text(b"x"), "is 'x'"),
    "no axes": (header(1) + tensor(shape=()) + ZEROS, "tensor 'w' has 0 axes"),
    "65 axes": (header(1) + tensor(shape=(1,) * 65) + ZEROS, "tensor 'w' has 65 axes"),
    "an axis of 0": (header(1) + tensor(shape=(0, 4)) + ZEROS, r"tensor 'w' has shape \(4, 0\)"),
    "a huge shape": (header(1) + tensor(shape=(2**62, 2**62)) + ZEROS, "tensor 'w' would end at byte"),
    "outside": (header(1) + tensor(offset=2**63) + ZEROS, "tensor 'w' would end at byte"),
    "not aligned": (header(1) + tensor(offset=4) + ZEROS, "tensor 'w'"),
    "a type without a name": (header(1) + tensor(kind=99) + ZEROS, "has tensor 'w' of type 99"),
    "a type of activations": (header(1) + tensor(kind=9) + ZEROS, "has tensor 'w' of type Q8_1"),
    "half a block": (header(1) + tensor(shape=(33, 2), kind=2) + ZEROS, "of type Q4_0 has rows of 33; a block has 32"),
    "a tensor twice": (header(2) + 2 * tensor() + ZEROS, "tensor 'w' occurs twice"),
    "overlapping": (header(2) + tensor() + tensor(b"v") + ZEROS, "tensors 'v' and 'w' overlap"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_files_that_contradict_themselves_are_refused(tmp_path, case):
    content, message = DAMAGED[case]
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_gguf(path)
    assert str(path) in str(error.value)


def test_special_files_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.gguf")
    for path in (tmp_path, tmp_path / "pipe.gguf", "/dev/zero"):
        with pytest.raises(ValueError, match="is not a file; it must be a GGUF file"):
            read_metadata(path)
    with pytest.raises(FileNotFoundError):
        read_metadata(tmp_path / "none.gguf")


def test_a_quantized_row_is_not_indexed(tmp_path):
    blocks = gguf.quantize(np.ones((1, 32), np.float32), GGMLQuantizationType.Q8_0)[0]
    found = read_tensors(write(tmp_path / "a.gguf", (), [("w", blocks, GGMLQuantizationType.Q8_0)]))["w"]
    with pytest.raises(ValueError, match="a row of type Q8_0 cannot be indexed"):
        found[:4]
