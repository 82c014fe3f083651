import json

import pytest

from npllm.utils.checked_json import read_checked_json, write_checked_json
from npllm.utils.file_errors import FileError

CONTENT = {"count": 3, "rate": 0.1, "names": ["é", "x"], "nested": {"b": None, "a": True}}


def test_the_content_is_read_as_it_was_written(tmp_path):
    write_checked_json(tmp_path / "a.json", "npllm test", 2, CONTENT)
    assert read_checked_json(tmp_path / "a.json", "npllm test", 2) == CONTENT
    fields = json.loads((tmp_path / "a.json").read_bytes())
    assert (fields["format"], fields["version"]) == ("npllm test", 2)


def test_every_flipped_bit_is_found(tmp_path):
    path = tmp_path / "a.json"
    write_checked_json(path, "npllm test", 2, CONTENT)
    content, accepted = path.read_bytes(), 0
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert read_checked_json(path, "npllm test", 2) == CONTENT  # whitespace for whitespace
            accepted += 1
        except FileError as error:
            assert str(error).startswith(str(path))
    assert accepted < 2 * content.count(b"\n")


def test_another_format_or_version_is_named(tmp_path):
    path = tmp_path / "a.json"
    write_checked_json(path, "npllm test", 2, CONTENT)
    with pytest.raises(FileError, match='has format "npllm test"; it must be "npllm other"'):
        read_checked_json(path, "npllm other", 2)
    with pytest.raises(FileError, match="has version 2; it must be 3"):
        read_checked_json(path, "npllm test", 3)
    path.write_text("{}")
    with pytest.raises(FileError, match="has format null"):
        read_checked_json(path, "npllm test", 2)


def test_nan_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        write_checked_json(tmp_path / "a.json", "npllm test", 2, {"loss": float("nan")})
    assert not list(tmp_path.iterdir())
