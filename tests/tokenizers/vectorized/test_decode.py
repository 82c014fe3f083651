import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.vectorized import decode
from npllm.tokenizers.vectorized.decode import Decoder
from tests.tokenizers.peers import gpt2, gpt2_tiktoken, trained

some_ids = st.lists(st.integers(0, 50256), min_size=1, max_size=60)
containers = st.sampled_from([list, tuple, np.int64, np.int32, np.uint16, np.uint32])


def as_container(ids, container):
    return container(ids) if container in (list, tuple) else np.array(ids, container)


@pytest.fixture(scope="module")
def gpt2_decoder():
    return Decoder({rank: token for token, rank in gpt2().ranks.items()} | {50256: b"<|endoftext|>"})


@given(some_ids, containers, st.integers(1, 80))
def test_bytes_equal_those_of_tiktoken(gpt2_decoder, ids, container, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "BLOCK_SIZE", size)
        assert gpt2_decoder.decode(as_container(ids, container)) == gpt2_tiktoken().decode_bytes(ids)


@pytest.mark.parametrize("gap", [1, 5, 10_000_000])
def test_ids_with_gaps(gap):
    tokens = {number * gap + 3: bytes([number]) * (1 + number % 4) for number in range(256)}
    decoder = Decoder(tokens)
    ids = [*tokens, *reversed(tokens)]
    assert decoder.decode(ids) == b"".join(map(tokens.get, ids))
    assert decoder.lengths_of(np.array(ids)).tolist() == [len(tokens[token_id]) for token_id in ids]
    for wrong in (0, 4, 255 * gap + 4) if gap > 1 else (0, 260):
        assert decoder.decode([3, wrong, 3]) is None


@pytest.mark.parametrize("wrong", [-1, 50257, 1 << 31, 1 << 40])
def test_unknown_ids_are_refused(wrong):
    ids = [40] * 500 + [wrong]
    for container in (ids, np.array(ids), iter(ids)):
        with pytest.raises(KeyError, match=f"id {wrong} is not in the vocabulary; ids are below 50257"):
            gpt2().decode(container)


def test_inputs_other_than_sequences_of_integers_are_refused():
    with pytest.raises(TypeError, match="it must be a flat sequence of integers"):
        gpt2().decode(np.zeros((300, 2), int))
    with pytest.raises((TypeError, KeyError)):
        gpt2().decode([0.5] * 300)


def test_long_and_short_sequences_give_the_same_text(story):
    for tokenizer in (gpt2(), trained("o200k")):
        ids = tokenizer.encode(story)
        for container in (ids, tuple(ids), np.array(ids), np.array(ids)[::-1][::-1]):
            assert tokenizer.decode(container) == story
        assert tokenizer.decode(iter(ids)) == story
        assert "".join(map(tokenizer.decode, np.array_split(ids, 100))) == story
