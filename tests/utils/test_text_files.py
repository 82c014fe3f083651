import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
