"""Generated text: whole characters, without the end token, and with the logits of each token."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npllm.generation import complete, generate_text, generate_tokens
from npllm.generation.text import ids_without_token
from npllm.models import GPT, GPTConfig
from npllm.tokenizers import BPETokenizer, CharacterTokenizer
from tests.models.test_gpt import small

LETTERS = CharacterTokenizer("abcdefghijk")
BYTES = BPETokenizer({bytes([i]): i for i in range(256)}, special_tokens={"<|endoftext|>": 256})


def bytes_model(vocab_size=260):
    """A small model for BYTES, with more rows than BYTES has tokens."""
    return GPT(GPTConfig(vocab_size, 64, 8, 1, 2), rng=np.random.default_rng(0))


@settings(max_examples=20)
@given(st.integers(0, 99), st.integers(0, 12))
def test_the_texts_joined_are_the_decoded_ids(seed, num_tokens):
    model, *_ = small()
    ids = complete(model, [1, 2], num_tokens, rng=np.random.default_rng(seed))
    tokens = list(generate_tokens(model, LETTERS, [1, 2], num_tokens, rng=np.random.default_rng(seed)))
    assert [token.id for token in tokens] == [*ids, None]
    assert "".join(token.text for token in tokens) == LETTERS.decode(ids)
    assert "".join(generate_text(model, LETTERS, [1, 2], num_tokens, rng=np.random.default_rng(seed))) == (
        LETTERS.decode(ids)
    )
    for token in tokens[:-1]:
        assert token.logits.shape == (11,)
    assert tokens[-1].logits is None


def test_the_text_has_whole_characters(monkeypatch):
    text = " 日本 naïve 😀"
    ids = [*BYTES.encode(text), 256]
    monkeypatch.setattr("npllm.generation.text.generate", lambda *a, **k: ([i] for i in ids))
    parts = [token.text for token in generate_tokens(bytes_model(), BYTES, [65], 99, stop_ids=[256])]
    assert "".join(parts) == text
    assert all(part in text for part in parts)
    monkeypatch.setattr("npllm.generation.text.generate", lambda *a, **k: ([i] for i in ids[:2]))
    assert "".join(generate_text(bytes_model(), BYTES, [65], 2)) == " \ufffd", "the end of an incomplete character"


def test_the_end_token_is_not_part_of_the_text():
    tokens = list(generate_tokens(bytes_model(), BYTES, [65], 9, stop_ids={256}, logit_bias={256: 1e6}))
    assert [(token.id, token.text) for token in tokens] == [(256, ""), (None, "")]


def test_ids_without_a_token_are_never_drawn():
    assert ids_without_token(BYTES, 260) == [257, 258, 259]
    bias = dict.fromkeys((257, 258, 259), 1000000.0) | {66: 1e5}
    assert "".join(generate_text(bytes_model(), BYTES, [65], 3, temperature=0, logit_bias=bias)) == "BBB"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"stop_ids": 7}, TypeError, "stop_ids is 7; it must be a list"),
        ({"excluded_ids": 7}, TypeError, "excluded_ids is 7; it must be a list"),
        ({"stop_strings": "x"}, TypeError, "stop_strings is the text 'x'"),
        ({"top_k": 0}, ValueError, "top_k is 0"),
    ],
)
def test_errors_come_before_the_first_step(options, error, message):
    with pytest.raises(error, match=message):
        generate_tokens(bytes_model(), BYTES, [65], 3, **options)
