"""What every tokenizer has under the names of tiktoken and transformers."""

import pytest

from npllm.tokenizers import (
    BPETokenizer,
    CharacterTokenizer,
    SimpleTokenizerV1,
    SimpleTokenizerV2,
    build_vocab,
    train_bpe,
)
from tests.tokenizers.peers import gpt2, gpt2_tiktoken

TEXT = "the cat sat on the mat"
BYTES = {bytes([byte]): byte for byte in range(256)}


@pytest.mark.parametrize(
    ("tokenizer", "n_vocab", "number_of_tokens", "representation"),
    [
        (CharacterTokenizer.from_text(TEXT), 10, 10, "CharacterTokenizer(n_vocab=10)"),
        (SimpleTokenizerV1(build_vocab(TEXT)), 5, 5, "SimpleTokenizerV1(n_vocab=5)"),
        (SimpleTokenizerV2(build_vocab(TEXT, ["<|unk|>"])), 6, 6, "SimpleTokenizerV2(n_vocab=6)"),
        (SimpleTokenizerV1({"the": 0, "cat": 7}), 8, 2, "SimpleTokenizerV1(n_vocab=8)"),
        (SimpleTokenizerV1({}), 0, 0, "SimpleTokenizerV1(n_vocab=0)"),
        (gpt2(), 50257, 50257, "GPT2Tokenizer(n_vocab=50257, pattern='gpt2', special_tokens=1)"),
        (
            train_bpe(TEXT, 258, r"\S+|\s+", ["<|x|>", "<|y|>"]),
            258,
            258,
            r"BPETokenizer(n_vocab=258, pattern='\\S+|\\s+', special_tokens=2)",
        ),
        (
            BPETokenizer(BYTES, special_tokens={"<|x|>": 300}),
            301,
            257,
            "BPETokenizer(n_vocab=301, pattern='gpt2', special_tokens=1)",
        ),
    ],
    ids=lambda value: value.split("(")[0] if isinstance(value, str) else None,
)
def test_sizes_and_repr(tokenizer, n_vocab, number_of_tokens, representation):
    assert (tokenizer.n_vocab, tokenizer.vocab_size, len(tokenizer)) == (n_vocab, n_vocab, number_of_tokens)
    assert repr(tokenizer) == representation


def test_n_vocab_equals_that_of_tiktoken():
    assert gpt2().n_vocab == gpt2_tiktoken().n_vocab


@pytest.mark.parametrize(
    "tokenizer", [CharacterTokenizer.from_text(TEXT), SimpleTokenizerV1(build_vocab(TEXT)), gpt2()], ids=repr
)
def test_encode_ordinary_gives_the_ids_of_encode(tokenizer):
    assert tokenizer.encode_ordinary("the mat") == tokenizer.encode("the mat") != []


def test_in_encode_ordinary_special_tokens_are_ordinary_text():
    assert gpt2().encode_ordinary("<|endoftext|>") == gpt2_tiktoken().encode_ordinary("<|endoftext|>") != [50256]
