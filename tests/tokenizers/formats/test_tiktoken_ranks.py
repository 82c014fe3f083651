"""tiktoken's *.tiktoken, whole and line by line."""

import base64

import pytest

from npllm.tokenizers import BPETokenizer, train_bpe
from npllm.tokenizers.formats.tiktoken_ranks import from_tiktoken, to_tiktoken
from npllm.utils.file_errors import FileError


@pytest.fixture
def tokenizer():
    return train_bpe("low lower lowest new newer newest\n" * 3 + "naïve café 日本", 300, special_tokens=["<|x|>"])


def test_lines_in_any_order_are_read(tokenizer, tmp_path):
    with open(tmp_path / "theirs.tiktoken", "wb") as file:
        for token, rank in tokenizer.ranks.items():
            file.write(base64.b64encode(token) + b" " + str(rank).encode() + b"\n")
    assert BPETokenizer.load(tmp_path / "theirs.tiktoken", "gpt2").ranks == tokenizer.ranks


def test_lines_are_in_the_order_of_the_ranks():
    assert to_tiktoken({b'"': 1, b"!": 0, b"ab": 300}) == b"IQ== 0\nIg== 1\nYWI= 300\n"


@pytest.mark.parametrize(
    "content", [b"IQ== 0\nIg== 1\n", b"IQ== 0\n\nIg== 1\n", b"IQ== 0\r\nIg== 1\r\n", b"IQ==  0\nIg== 01"]
)
def test_other_spellings_are_read(content):
    assert from_tiktoken(content, "v.tiktoken") == {b"!": 0, b'"': 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"IQ== 0\nnonsense\n", "v.tiktoken has line 2, b'nonsense'; it must be base64, a space and a rank"),
        (b"IQ== 0 1\n", "v.tiktoken has line 1"),
        (b"IQ== x\n", "v.tiktoken has line 1"),
        (b"I?Q== 0\n", "v.tiktoken has line 1"),
        (b"IQ== 0\nIQ== 1\n", "v.tiktoken repeats the token b'!' in line 2"),
    ],
)
def test_invalid_lines_are_named(content, message):
    with pytest.raises(ValueError, match=message):
        from_tiktoken(content, "v.tiktoken")


def test_the_empty_token_of_whisper_is_skipped():
    assert from_tiktoken(b"IQ== 0\nIg== 1\n= 2\n", "v.tiktoken") == {b"!": 0, b'"': 1}


def test_an_id_that_is_too_large_names_the_file(tmp_path):
    path = tmp_path / "large.tiktoken"
    lines = [b"%b %d\n" % (base64.b64encode(bytes([byte])), byte) for byte in range(256)]
    path.write_bytes(b"".join(lines) + b"%b %d\n" % (base64.b64encode(b"ab"), 2**70))
    with pytest.raises(ValueError, match=rf"large\.tiktoken.* {2**70}"):
        BPETokenizer.load(path, "gpt2")


def test_a_file_without_a_line_or_without_its_end_is_refused(tmp_path):
    path = tmp_path / "v.tiktoken"
    train_bpe("the ferry's lamps in the harbour " * 3, 280).save(path)
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    for damaged in (content[:-1], content[:-2], b"".join(lines[:270] + lines[271:])):
        path.write_bytes(damaged)
        with pytest.raises(FileError, match="v.tiktoken is (truncated|damaged)"):
            BPETokenizer.load(path, "gpt2")
