import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.vectorized import decode as decoding
from npllm.tokenizers.vectorized.decode import Decoder
from tests.tokenizers.peers import gpt2, gpt2_twin, trained

some_ids = st.lists(st.integers(0, 50256), min_size=1, max_size=60)
kinds = st.sampled_from([list, tuple, np.int64, np.int32, np.uint16, np.uint32])


def as_kind(ids, kind):
    return kind(ids) if kind in (list, tuple) else np.array(ids, kind)


@given(some_ids, kinds, st.integers(1, 80))
def test_the_bytes_of_tiktoken(ids, kind, block):
    decoding.BLOCK, before = block, decoding.BLOCK
    try:
        assert gpt2()._decoder.vectorized.decode(as_kind(ids, kind)) == gpt2_twin().decode_bytes(ids)
    finally:
        decoding.BLOCK = before


@pytest.mark.parametrize("gap", [1, 5, 10_000_000])
def test_ids_with_gaps(gap):
    tokens = {number * gap + 3: bytes([number]) * (1 + number % 4) for number in range(256)}
    decoder = Decoder(tokens)
    ids = [*tokens, *reversed(tokens)]
    assert decoder.decode(ids) == b"".join(map(tokens.get, ids))
    for wrong in (0, 4, 255 * gap + 4) if gap > 1 else (0, 260):
        assert decoder.decode([3, wrong, 3]) is None


@pytest.mark.parametrize("wrong", [-1, 50257, 1 << 31, 1 << 40])
def test_an_id_that_no_token_has(wrong):
    ids = [40] * 500 + [wrong]
    for many in (ids, np.array(ids), iter(ids)):
        with pytest.raises(KeyError, match=f"id {wrong} is not in the vocabulary; ids are below 50257"):
            gpt2().decode(many)
    with pytest.raises(TypeError, match="it must be a flat sequence of integers"):
        gpt2().decode(np.zeros((300, 2), int))
    with pytest.raises((TypeError, KeyError)):
        gpt2().decode([0.5] * 300)


def test_many_and_few_are_the_same(story):
    for tokenizer in (gpt2(), trained("o200k")):
        ids = tokenizer.encode(story)
        for many in (ids, tuple(ids), np.array(ids), np.array(ids)[::-1][::-1]):
            assert tokenizer.decode(many) == story
        assert tokenizer.decode(iter(ids)) == story
        assert "".join(map(tokenizer.decode, np.array_split(ids, 100))) == story
