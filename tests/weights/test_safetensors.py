import hashlib
import json
import os
import struct

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm.utils.file_errors import FileError
from npllm.weights import safetensors as ours

DTYPES = [
    "float64",
    "float32",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
]
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda name: name != "__metadata__")
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@st.composite
def tensors(draw):
    """Arrays of every kind by name, some of them views."""
    found = {}
    for name in draw(st.lists(names, max_size=4, unique=True)):
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        array = (100 * rng.standard_normal(draw(shapes))).astype(draw(st.sampled_from(DTYPES)))
        found[name] = array.T if draw(st.booleans()) else array
    return found


@given(tensors(), st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2))
def test_the_library_loads_what_npllm_saves(tmp_path_factory, arrays, metadata):
    path = tmp_path_factory.mktemp("files") / "x.safetensors"
    ours.save(path, arrays, metadata)
    found, texts = ours.load(path)
    assert texts == metadata
    theirs = safetensors.numpy.load_file(path)
    assert list(found) == list(arrays)
    assert set(theirs) == set(arrays)
    for name, array in arrays.items():
        for read in (found[name], theirs[name]):
            assert read.dtype == array.dtype
            np.testing.assert_array_equal(read, array)
        assert not found[name].flags.writeable


@given(tensors())
def test_npllm_loads_what_the_library_saves(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("files") / "x.safetensors"
    safetensors.numpy.save_file(
        {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}, path
    )
    found, _ = ours.load(path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_bfloat16_is_converted_to_float32(tmp_path):
    tensor = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    safetensors.torch.save_file({"w": tensor}, tmp_path / "x.safetensors")
    array = ours.load(tmp_path / "x.safetensors")[0]["w"]
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, tensor.float().numpy())


def test_the_same_contents_give_the_same_bytes(tmp_path):
    arrays = {"b": np.arange(6.0), "a": np.ones((2, 3), np.float32)}
    for name in ("one", "other"):
        ours.save(tmp_path / name, arrays, {"x": "y"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_arrays_are_mapped_not_read(tmp_path):
    ours.save(tmp_path / "x", {"w": np.zeros(1000)})
    array = ours.load(tmp_path / "x")[0]["w"]
    while not isinstance(array, np.memmap):
        array = array.base
    assert array.mode == "r"


def write(path, header, data=b""):
    """A file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def entry(shape=(2,), offsets=(0, 8), dtype="F32"):
    """A tensor's entry."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (b"{{", b"", "damaged header; the JSON is damaged: Expecting property name"),
        (b"[]", b"", "its header is not a JSON object"),
        ({"__metadata__": {"a": 1}}, b"", "its __metadata__ must be an object of texts"),
        ({"w": entry()}, b"\0" * 7, 'is truncated: tensor "w" would end at byte 8 of 7'),
        ({"w": entry()}, b"\0" * 9, "has 1 bytes after its last tensor"),
        ({"w": entry(shape=(3,))}, b"\0" * 8, 'damaged header: tensor "w"'),
        ({"w": entry(shape=(-2,))}, b"\0" * 8, 'damaged header: tensor "w"'),
        ({"w": entry(shape=(2.0,))}, b"\0" * 8, 'damaged header: tensor "w"'),
        ({"w": entry(dtype="F99")}, b"\0" * 8, 'damaged header: tensor "w"'),
        ({"w": entry(offsets=(8, 0))}, b"\0" * 8, 'damaged header: tensor "w"'),
        ({"w": {}}, b"", 'damaged header: tensor "w"'),
        ({"w": 3}, b"", 'damaged header: tensor "w"'),
        ({"v": entry(), "w": entry()}, b"\0" * 8, "no tensor, or two of them, at byte 0"),
        ({"v": entry(), "w": entry(offsets=(12, 20))}, b"\0" * 20, "no tensor, or two of them, at byte 8"),
        ({"w": entry(shape=(2**40, 2**40))}, b"\0" * 8, "damaged header"),
        ({"w": entry(shape=(2**62, 4, 0), offsets=(0, 0))}, b"", 'damaged header: tensor "w"'),
        ({"w": entry(shape=(2**62, 4, 0, 2**62), offsets=(0, 0))}, b"", 'damaged header: tensor "w"'),
        ({"w": entry(shape=(1,) * 65, offsets=(0, 4))}, b"\0" * 4, 'damaged header: tensor "w"'),
        ({"w": entry(shape=(True, 2))}, b"\0" * 8, 'damaged header: tensor "w"'),
        ({"w": entry(dtype=["F32"])}, b"\0" * 8, 'damaged header: tensor "w"'),
        ({"w": entry(offsets=(0, 8, 8))}, b"\0" * 8, 'damaged header: tensor "w"'),
        ({"w": entry(shape="12")}, b"\0" * 8, 'damaged header: tensor "w"'),
        ({"\ud800": entry()}, b"\0" * 8, "half of a surrogate pair"),
        (b'{"w":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"", "nested too deeply"),
        (b'{"w":' * 100_000 + b"1" + b"}" * 100_000, b"", "nested too deeply"),
        (b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "w": {}}', b"", "there more than once"),
        (b'{"__metadata__": {}, "__metadata__": {}}', b"", "there more than once"),
        ("{}".encode("utf-16"), b"", "its header is not a JSON object"),
        ("{}".encode("utf-8-sig"), b"", "its header is not a JSON object"),
        (b'{"\xff": 1}', b"", "damaged header; the JSON is damaged: 'utf-8'"),
        ({"w": entry(dtype="F8_E4M3", offsets=(0, 2))}, b"\0" * 2, r'tensor "w" of dtype F8_E4M3 \(float8\)'),
    ],
)
def test_damaged_files_are_refused(tmp_path, header, data, message):
    write(tmp_path / "x", header, data)
    with pytest.raises(ValueError, match=message):
        ours.load(tmp_path / "x")


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 20, b"PK\x03\x04" + b"\0" * 50])
def test_foreign_files_are_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match="not a safetensors file"):
        ours.load(tmp_path / "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "a pointer of Git LFS: run `git lfs pull`",
        ),
        (b"<!DOCTYPE html><html></html>", "a page of HTML"),
        (b"PK\x03\x04" + b"\0" * 50, "a zip file, such as PyTorch's pickles"),
        (b"\x80\x02}q\x00." + b"\0" * 50, "a pickle, which can execute code"),
    ],
)
def test_files_of_other_formats_are_named(tmp_path, content, message):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=rf"x.safetensors is not a safetensors file, but {message}"):
        ours.load(tmp_path / "x.safetensors")


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "x.safetensors")
    with pytest.raises(FileError, match="is a pipe"):
        ours.load(tmp_path / "x.safetensors")


@given(st.data())
def test_a_file_truncated_anywhere_is_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("files") / "x"
    ours.save(path, {"a": np.arange(5.0), "b": np.ones((2, 3), np.float32)})
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(ValueError, match=str(path)):
        ours.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path):
    ours.save(tmp_path / "x", {"a": np.ones(3)})
    before = (tmp_path / "x").read_bytes()
    with pytest.raises(TypeError, match="b has dtype complex128"):
        ours.save(tmp_path / "x", {"a": np.ones(3), "b": np.ones(3, complex)})
    assert (tmp_path / "x").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


class TestChecksum:
    def test_it_is_that_of_the_file_with_zeros_in_its_position(self, tmp_path):
        ours.save(tmp_path / "x", {"a": np.arange(5.0), "empty": np.ones((0, 2))}, {"format": "pt"})
        content = (tmp_path / "x").read_bytes()
        with safetensors.safe_open(tmp_path / "x", "np") as file:
            recorded = file.metadata()["npllm_sha256"]
        assert hashlib.sha256(content.replace(recorded.encode(), b"0" * 64)).hexdigest() == recorded

    def test_every_flipped_bit_is_refused(self, tmp_path):
        ours.save(tmp_path / "x", {"a": np.arange(3, dtype=np.float32)}, {"values": '{"npllm_sha256":"1"}'})
        whole = (tmp_path / "x").read_bytes()
        ours.load(tmp_path / "x", require_checksum=True)
        for bit in range(len(whole) * 8):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            (tmp_path / "x").write_bytes(damaged)
            with pytest.raises(FileError, match="/x "):
                ours.load(tmp_path / "x", require_checksum=True)

    def test_a_file_without_it_is_loaded_unless_it_is_required(self, tmp_path):
        safetensors.numpy.save_file({"a": np.ones(3)}, tmp_path / "x")
        assert ours.load(tmp_path / "x")[1] == {}
        with pytest.raises(FileError, match="has no checksum; its header must have npllm_sha256"):
            ours.load(tmp_path / "x", require_checksum=True)

    def test_a_checksum_that_is_no_hash_is_refused(self, tmp_path):
        safetensors.numpy.save_file({"a": np.ones(3)}, tmp_path / "x", {"npllm_sha256": ""})
        with pytest.raises(FileError, match="is damaged, or another program changed it"):
            ours.load(tmp_path / "x")

    def test_a_checksum_with_half_a_character_is_refused(self, tmp_path):
        ours.save(tmp_path / "x", {"a": np.ones(3)})
        content = (tmp_path / "x").read_bytes()
        start = content.index(b'npllm_sha256":"') + 15
        (tmp_path / "x").write_bytes(content[:start] + rb"\ud800" + content[start + 6 :])
        with pytest.raises(FileError, match="half of a surrogate pair"):
            ours.load(tmp_path / "x")
