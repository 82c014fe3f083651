import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.batching import DataLoader, WindowDataset, open_token_file, write_token_file
from npllm.batching.token_file import FIELDS, HEADER_SIZE, read_header
from npllm.utils.file_errors import FileError


@given(st.lists(st.integers(0, 70_000), max_size=50), st.booleans(), st.integers(0, 5))
def test_reading_returns_what_was_written(tmp_path_factory, ids, as_array, chunk_size):
    path = tmp_path_factory.mktemp("tokens") / "ids.bin"
    vocab_size = max(ids, default=0) + 1
    sequence = source = np.array(ids, np.int64) if as_array else ids
    if chunk_size:
        source = (sequence[i : i + chunk_size] for i in range(0, len(ids), chunk_size))
    assert write_token_file(path, source, vocab_size) == len(ids)
    read = open_token_file(path)
    assert read.tolist() == ids
    assert read.dtype == (np.uint16 if vocab_size <= 65_536 else np.uint32)
    assert path.stat().st_size == HEADER_SIZE + len(ids) * read.dtype.itemsize
    assert read_header(path).vocab_size == vocab_size
    assert HEADER_SIZE == 64


def test_an_iterator_of_many_single_ids(tmp_path):
    assert write_token_file(tmp_path / "ids.bin", (i % 10 for i in range(150_000)), 10) == 150_000
    assert open_token_file(tmp_path / "ids.bin").tolist() == [i % 10 for i in range(150_000)]


def test_single_ids_and_sequences_of_ids_keep_their_order(tmp_path):
    write_token_file(tmp_path / "ids.bin", [1, [2, 3], 4, 5, np.array([6]), []], vocab_size=10)
    assert open_token_file(tmp_path / "ids.bin").tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("vocab_size", "itemsize"), [(65_536, 2), (65_537, 4), (1, 2), (1 << 32, 4)])
def test_two_bytes_per_id_up_to_65536_ids(tmp_path, vocab_size, itemsize):
    write_token_file(tmp_path / "ids.bin", [vocab_size - 1], vocab_size)
    ids = open_token_file(tmp_path / "ids.bin")
    assert (ids.dtype.itemsize, ids.tolist()) == (itemsize, [vocab_size - 1])


def test_windows_are_views_of_the_mapped_file(tmp_path):
    ids = np.random.default_rng(0).integers(0, 50_257, 200_000)
    write_token_file(tmp_path / "ids.bin", ids, 50_257)
    on_disk = WindowDataset(open_token_file(tmp_path / "ids.bin"), 64, 64)
    assert isinstance(on_disk.inputs.base, np.ndarray)
    assert np.shares_memory(on_disk.inputs, on_disk.ids), "a view of the mapped file, not a copy in memory"
    in_memory = WindowDataset(ids, 64, 64)
    for workers in (0, 2):
        loaders = [
            DataLoader(windows, 16, shuffle=True, num_workers=workers, rng=np.random.default_rng(0))
            for windows in (on_disk, in_memory)
        ]
        for (x, y), (u, v) in zip(*loaders, strict=True):
            np.testing.assert_array_equal(x, u)
            np.testing.assert_array_equal(y, v)


def test_an_error_or_an_interruption_leaves_the_old_file(tmp_path):
    path = tmp_path / "ids.bin"
    write_token_file(path, [1, 2, 3], 10)
    with pytest.raises(ValueError, match=r"ids\[3\] is 10; it must be in \[0, 10\)"):
        write_token_file(path, ([1, 2], [3, 10]), 10)
    with pytest.raises(ValueError, match=r"ids\[0\] is -1"):
        write_token_file(path, [-1], 10)

    def interrupted():
        yield [4, 5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_token_file(path, interrupted(), 10)
    assert open_token_file(path).tolist() == [1, 2, 3]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "is not a token file"),
        (lambda data: data[:20], "is not a token file"),
        (lambda data: b"GARBAGE!" + data[8:], "is not a token file"),
        (lambda data: data[:40], "is damaged: it has 40 bytes; with 3 ids it must have 70"),
        (lambda data: data[:-1], "is damaged: it has 69 bytes; with 3 ids it must have 70"),
        (lambda data: data + b"x", "is damaged: it has 71 bytes"),
        (
            lambda data: data[:8] + b"\x01" + data[9:32] + data[64:],
            "version 1; npllm reads version 2: write it again",
        ),
        (lambda data: data[:12] + b"\x03" + data[13:], "3 bytes per id"),
        (lambda data: data[:64] + data[66:68] + data[64:66] + data[68:], "does not have the checksum"),
    ],
)
def test_damaged_and_other_files_are_refused(tmp_path, damage, message):
    path = tmp_path / "ids.bin"
    write_token_file(path, [1, 2, 3], 10)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileError, match=message) as error:
        open_token_file(path)
    assert error.value.path == str(path) and str(error.value).startswith(str(path))


@pytest.mark.parametrize("vocab_size", [10, 70_000])
def test_every_flipped_bit_is_refused(tmp_path, vocab_size):
    path = tmp_path / "ids.bin"
    write_token_file(path, [1, 2, 3], vocab_size)
    data = path.read_bytes()
    for bit in range(8 * len(data)):
        path.write_bytes(data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :])
        with pytest.raises(FileError):
            open_token_file(path)


def test_the_checksum_is_that_of_the_ids_and_the_fields_of_the_header(tmp_path):
    path = tmp_path / "ids.bin"
    write_token_file(path, [1, 2, 3], 10)
    data = path.read_bytes()
    assert read_header(path).sha256 == data[32:64].hex() == hashlib.sha256(data[64:] + data[:32]).hexdigest()


def test_an_id_above_the_vocabulary_is_refused_although_the_checksum_is_right(tmp_path):
    path = tmp_path / "ids.bin"
    fields, ids = FIELDS.pack(b"NPLLMTOK", 2, 2, 300_000, 10), np.full(300_000, 3, "<u2")
    ids[280_000] = 10
    path.write_bytes(fields + hashlib.sha256(ids.tobytes() + fields).digest() + ids.tobytes())
    with pytest.raises(FileError, match="has the id 10; ids must be below 10, the vocabulary size"):
        open_token_file(path)


def test_a_file_can_be_opened_without_reading_it(tmp_path):
    path = tmp_path / "ids.bin"
    write_token_file(path, [1, 2, 3], 10)
    data = path.read_bytes()
    path.write_bytes(data[:-2] + b"\5\0")
    assert open_token_file(path, verify=False).tolist() == [1, 2, 5]
    with pytest.raises(FileError, match="checksum"):
        open_token_file(path)


def test_special_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, error in ((tmp_path / "pipe", FileError), (tmp_path, IsADirectoryError), (Path("/dev/zero"), FileError)):
        for function in (open_token_file, read_header):
            with pytest.raises(error, match=str(path)):
                function(path)


def test_invalid_arguments(tmp_path):
    for vocab_size in (0, (1 << 32) + 1):
        with pytest.raises(ValueError, match=f"vocab_size is {vocab_size}"):
            write_token_file(tmp_path / "ids.bin", [0], vocab_size)
    for vocab_size in (10.0, True, None, "10"):
        with pytest.raises(TypeError, match=f"vocab_size is {vocab_size!r}; it must be an integer"):
            write_token_file(tmp_path / "ids.bin", [0], vocab_size)
    for ids in ([True], np.array([True]), "ab", [[1.0]], [[[1]]], [2**70]):
        with pytest.raises(TypeError, match="ids has shape"):
            write_token_file(tmp_path / "ids.bin", ids, 10)
    with pytest.raises(TypeError, match="ids has shape .* and dtype float64"):
        write_token_file(tmp_path / "ids.bin", np.array([0.5]), 10)
    with pytest.raises(FileNotFoundError):
        open_token_file(tmp_path / "nothing.bin")


def test_a_contradictory_header_is_refused(tmp_path):
    for itemsize, vocab_size in ((4, 10), (2, 0), (2, 1 << 20)):
        (tmp_path / "ids.bin").write_bytes(FIELDS.pack(b"NPLLMTOK", 2, itemsize, 1, vocab_size) + bytes(32 + itemsize))
        with pytest.raises(ValueError, match=f"has {itemsize} bytes per id and a vocabulary of {vocab_size} ids"):
            open_token_file(tmp_path / "ids.bin")
