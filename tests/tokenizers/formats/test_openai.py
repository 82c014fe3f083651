"""OpenAI's encoder.json and vocab.bpe: what is refused, and the ids that follow from the merges."""

import json

import pytest

from npllm.tokenizers import BPETokenizer, train_bpe
from npllm.tokenizers.byte_pair.bytes_to_unicode import token_to_unicode
from npllm.tokenizers.formats.openai import ranks_from_merges, read_merges
from npllm.utils.file_errors import FileError
from tests.tokenizers.peers import gpt2


@pytest.fixture
def tokenizer():
    return train_bpe("low lower lowest new newer newest\n" * 3 + "naïve café 日本", 300, special_tokens=["<|x|>"])


def test_invalid_folders_are_refused(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "v")
    encoder = json.loads((tmp_path / "v" / "encoder.json").read_text())
    first, second = (token_to_unicode(left + right) for left, right in tokenizer.merges()[:2])
    for broken, message in (
        (encoder | {first: encoder[second], second: encoder[first]}, "do not increase in the order of the merges"),
        ({key: value for key, value in encoder.items() if key != first}, "has no id in encoder.json"),
        (list(encoder), "must be an object"),
    ):
        (tmp_path / "v" / "encoder.json").write_text(json.dumps(broken))
        with pytest.raises(ValueError, match=message):
            BPETokenizer.load(tmp_path / "v")
    (tmp_path / "v" / "encoder.json").write_text("{")
    with pytest.raises(ValueError, match="encoder.json is not valid JSON"):
        BPETokenizer.load(tmp_path / "v")
    (tmp_path / "v" / "vocab.bpe").unlink()
    with pytest.raises(FileNotFoundError, match="no vocab.bpe"):
        BPETokenizer.load(tmp_path / "v")
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        BPETokenizer.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"it must end in .json or .tiktoken, or be a folder"):
        tokenizer.save(tmp_path / "v.txt")


@pytest.mark.parametrize("special", ["a", "ab", "Ġ"])
def test_a_special_token_with_the_spelling_of_a_token_is_refused(tmp_path, special):
    tokenizer = train_bpe("ab ab ab", 257, pattern=r"\S+|\s", special_tokens=[])
    tokenizer = BPETokenizer(tokenizer.ranks, special_tokens={special: 300})
    with pytest.raises(ValueError, match="cannot distinguish the special token"):
        tokenizer.save(tmp_path / "openai")
    assert not (tmp_path / "openai").exists()
    tokenizer.save(tmp_path / "own.json")
    assert BPETokenizer.load(tmp_path / "own.json").special_tokens == {special: 300}


def test_ranks_from_merges_equal_those_of_gpt2():
    assert ranks_from_merges(gpt2().merges()) == gpt2().ranks
    with pytest.raises(ValueError, match="two merges make 'abc'"):
        ranks_from_merges([(b"a", b"b"), (b"ab", b"c"), (b"a", b"bc")])


def test_read_merges():
    assert read_merges("#version: 0.2\nĠ t\nĠt h\n") == [(b" ", b"t"), (b" t", b"h")]
    assert read_merges("# #\n## #\n") == [(b"#", b"#"), (b"##", b"#")]
    assert read_merges("xy z\n") == [(b"xy", b"z")], "a token that no earlier line produces"
    with pytest.raises(ValueError, match="line 2 of the merges is 'a b c'"):
        read_merges("#version: 0.2\na b c\n")
    with pytest.raises(ValueError, match="represents no byte"):
        read_merges("→ a\n")


@pytest.mark.parametrize("num_lost", [1, 2, 20])
@pytest.mark.parametrize("special_tokens", [[], ["<|endoftext|>"]])
def test_merges_that_are_cut_at_a_line_are_refused(tmp_path, num_lost, special_tokens):
    """The tokens of the lost merges are not special tokens."""
    tokenizer = train_bpe("the ferry's lamps in the harbour and the houses " * 3, 290, special_tokens=special_tokens)
    tokenizer.save(tmp_path)
    lines = (tmp_path / "vocab.bpe").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "vocab.bpe").write_text("".join(lines[:-num_lost]), encoding="utf-8")
    with pytest.raises(FileError, match="vocab.bpe has no merge for the token .*; lines are missing"):
        BPETokenizer.load(tmp_path)
    (tmp_path / "vocab.bpe").write_text("".join(lines), encoding="utf-8")
    assert BPETokenizer.load(tmp_path).special_tokens == tokenizer.special_tokens
