"""js-tiktoken's JSON and claude.json."""

import base64
import json

import pytest

from npllm.tokenizers import GPT2_PATTERN, load_tokenizer, train_bpe
from npllm.tokenizers.byte_pair.published_patterns import GPT2_OLD_SPELLING
from tests.packages import npm_package
from tests.tokenizers.tiktoken_patterns import tiktoken_encoding

TEXT = "low lower lowest it's 1234\n\n x"


def content(first=5):
    tokens = [base64.b64encode(token).decode() for token in train_bpe(TEXT * 9, 280).ranks]
    lines = [" ".join(["!", str(first + begin), *tokens[begin : begin + 100]]) for begin in range(0, len(tokens), 100)]
    return {"pat_str": GPT2_OLD_SPELLING, "special_tokens": {"<EOT>": 0, "<META>": 1}, "bpe_ranks": "\n".join(lines)}


def load(tmp_path, value):
    (tmp_path / "claude.json").write_text(json.dumps(value))
    return load_tokenizer(tmp_path / "claude.json")


def test_ids_are_those_of_tiktoken(tmp_path):
    tokenizer = load(tmp_path, content())
    assert tokenizer.pattern == GPT2_PATTERN, "the same pattern in another spelling"
    assert tokenizer.encode(TEXT) == tiktoken_encoding(tokenizer, GPT2_OLD_SPELLING).encode(TEXT)
    assert tokenizer.encode("a<EOT>", allowed_special="all")[-1] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bpe_ranks": "! x IQ=="}, "bpe_ranks has the line '! x IQ=='"),
        ({"bpe_ranks": "!"}, "bpe_ranks has the line"),
        ({"pat_str": None}, "bpe_ranks and pat_str must be texts"),
        ({"special_tokens": {"<EOT>": "0"}}, "special_tokens an object"),
    ],
)
def test_invalid_files_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=f"claude.json .*{message}"):
        load(tmp_path, content() | changes)


def test_the_published_file_of_claude():
    tokenizer = load_tokenizer(npm_package("@anthropic-ai/tokenizer", "0.0.4") / "claude.json")
    text = "It's 1234 naïve 日本 words\n\n  x " * 20
    assert tokenizer.vocab_size == 65_000
    assert tokenizer.encode(text) == tiktoken_encoding(tokenizer, GPT2_OLD_SPELLING).encode(text)
