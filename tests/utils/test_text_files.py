import os
import socket
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.text_blocks import read_text_blocks
from npllm.utils.file_errors import FileError
from npllm.utils.text_files import read_text_file


@given(st.text().filter(lambda text: text.strip() and "\0" not in text), st.booleans())
def test_the_text_is_that_of_open(text, byte_order_mark):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_bytes(text.encode("utf-8-sig" if byte_order_mark else "utf-8"))
        with open(path, encoding="utf-8-sig", newline="") as file:
            expected = file.read()
        if expected.strip():
            assert read_text_file(path) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b" \n\t\r\n", "has only whitespace"),
        (b"\x89PNG\r\n\x1a\n\0\0", "binary"),
        ("Wörter".encode("utf-16"), "UTF-16"),
        ("Wörter".encode("latin-1"), r"encoding \(byte 1 is 0xf6\); it must be text in UTF-8"),
        (b"ends in a character \xc3", "byte 20 is 0xc3"),
    ],
)
def test_files_that_are_not_text(tmp_path, content, message):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_text_file(path)
    assert str(path) in str(error.value)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.txt does not exist"):
        read_text_file(tmp_path / "nothing.txt")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_text_file(str(tmp_path))


class TestPipesAndDevices:
    """A text is read from a regular file or from a pipe with a writer."""

    def readers(self):
        return read_text_file, lambda path: "".join(block.text for block in read_text_blocks(path))

    def test_a_pipe_without_a_writer_is_refused_at_once(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for read in self.readers():
            with pytest.raises(FileError, match="pipe is a pipe to which no process writes"):
                read(tmp_path / "pipe")

    @pytest.mark.parametrize("delay", [0.0, 0.1])
    def test_a_pipe_with_a_writer_is_read_to_its_end(self, tmp_path, delay):
        text = "Wörter und noch mehr\n" * 20_000
        for number, read in enumerate(self.readers()):
            path = tmp_path / f"pipe{number}"
            os.mkfifo(path)

            def write(path=path):
                with open(path, "wb") as file:
                    time.sleep(delay)
                    file.write(text.encode())

            writer = threading.Thread(target=write)
            writer.start()
            time.sleep(0.05)  # the writer waits for a reader
            assert read(path) == text
            writer.join()

    def test_process_substitution(self):
        first, second = os.pipe()
        os.write(second, b"some words")
        os.close(second)
        assert read_text_file(f"/dev/fd/{first}") == "some words"
        os.close(first)

    def test_devices_and_sockets_are_refused(self, tmp_path):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "socket"))
            for path in ("/dev/zero", "/dev/null", tmp_path / "socket"):
                for read in self.readers():
                    with pytest.raises(FileError, match=f"{path} is a device or a socket"):
                        read(path)

    def test_a_sparse_file_of_any_size_is_refused_before_it_is_read(self, tmp_path):
        with open(tmp_path / "sparse", "wb") as file:
            file.truncate(1 << 40)
        for read in self.readers():
            with pytest.raises(FileError, match="sparse is binary"):
                read(tmp_path / "sparse")
