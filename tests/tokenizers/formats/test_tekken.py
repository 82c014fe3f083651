"""Mistral's tekken.json: ids, the entries that count, and special tokens."""

import base64
import json

import pytest

from npllm.tokenizers import load_tokenizer, train_bpe
from npllm.tokenizers.byte_pair.published_patterns import TEKKEN_PATTERN
from tests.tokenizers.tiktoken_patterns import tiktoken_encoding

TEXT = "naïve HTTPServer 1234 it's 日本\n\n  x"


def content(num_special=20, **changes):
    ranks = train_bpe(TEXT * 9, 300, TEKKEN_PATTERN).ranks
    tokens = [{"rank": rank, "token_bytes": base64.b64encode(token).decode()} for token, rank in ranks.items()]
    tokens += [{"rank": len(tokens), "token_bytes": "dW51c2Vk"}]  # more entries than the vocabulary has
    config = {"pattern": TEKKEN_PATTERN, "default_vocab_size": len(ranks) + num_special}
    return {"config": config | {"default_num_special_tokens": num_special}, "vocab": tokens} | changes


def load(tmp_path, value):
    (tmp_path / "tekken.json").write_text(json.dumps(value))
    return load_tokenizer(tmp_path)


def test_ids_are_those_of_tiktoken_behind_the_special_tokens(tmp_path):
    tokenizer = load(tmp_path, content())
    assert b"unused" not in tokenizer.ranks
    assert tokenizer.encode(TEXT) == tiktoken_encoding(tokenizer, TEKKEN_PATTERN).encode(TEXT)
    assert min(tokenizer.encode(TEXT)) >= 20
    assert tokenizer.special_tokens["</s>"] == 2
    assert tokenizer.encode("</s>", allowed_special="all") == [2]
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_special_tokens_of_the_file(tmp_path):
    listed = [{"rank": 1, "token_str": "<s>", "is_control": True}, {"rank": 0, "token_str": "<unk>"}]
    tokenizer = load(tmp_path, content(3, special_tokens=listed))
    assert tokenizer.special_tokens == {"<unk>": 0, "<s>": 1, "<SPECIAL_2>": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {}}, "config of tekken.json must be an object with a pattern"),
        ({"config": {"pattern": "x"}}, "default_vocab_size None and default_num_special_tokens None"),
        ({"vocab": [{"rank": 0}]}, "vocab of tekken.json must be a list of objects"),
        ({"vocab": [{"rank": 1, "token_bytes": "IQ=="}]}, r"vocab\[0\] of tekken.json has rank 1"),
        ({"special_tokens": [{"rank": 20, "token_str": "x"}]}, "distinct ranks, 0 to 19"),
        ({"special_tokens": [{"token_str": "x"}]}, "special_tokens of tekken.json must be a list"),
    ],
)
def test_invalid_files_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=f"tekken.json .*{message}"):
        load(tmp_path, content() | changes)
