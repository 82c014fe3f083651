import numpy as np

from npllm.tokenizers.vectorized import blocks, pretoken_cache
from npllm.tokenizers.vectorized.pretoken_cache import PretokenCache
from npllm.tokenizers.vectorized.pretoken_table import PADDING
from tests.tokenizers.peers import encode_vectorized, encoder_of, trained
from tests.tokenizers.tiktoken_patterns import tiktoken_encoding


def arrays(*pretokens):
    lengths = np.array([len(pretoken) for pretoken in pretokens])
    return np.frombuffer(b"".join(pretokens) + PADDING, np.uint8), np.cumsum(lengths) - lengths, lengths


def two_ids_each(data, starts, lengths):
    return np.arange(2 * len(starts), dtype=np.int32) + 1000, np.full(len(starts), 2)


def test_tokens_are_cached_and_others_are_merged_once():
    cache, calls = PretokenCache([b"a", b"ab"], [7, 9]), []

    def merge(*pretokens):
        calls.append(len(pretokens[1]))
        return two_ids_each(*pretokens)

    offsets, counts = cache.look_up(*arrays(b"ab", b"ba", b"a", b"ba"), merge)
    assert counts.tolist() == [1, 2, 1, 2]
    assert cache.ids(offsets, counts).tolist() == [9, 1000, 1001, 7, 1000, 1001]
    offsets, counts = cache.look_up(*arrays(b"ba", b"ab"), merge)
    assert cache.ids(offsets, counts).tolist() == [1000, 1001, 9]
    assert calls == [1]
    assert cache.token_ids(*arrays(b"ab", b"ba", b"a", b"c")).tolist() == [9, -1, 7, -1]


def test_temporary_ids_are_replaced_by_the_next_write():
    cache = PretokenCache([b"a"], [7])
    offset = cache.write_temporary(np.array([1, 2, 3], np.int32))
    assert cache.ids(np.array([offset]), np.array([3])).tolist() == [1, 2, 3]
    offsets, counts = cache.look_up(*arrays(b"bc", b"a"), two_ids_each)
    assert cache.ids(offsets, counts).tolist() == [1000, 1001, 7]
    assert offsets[0] == offset


def test_the_cache_is_bounded_and_clearing_it_changes_no_ids(monkeypatch, story):
    monkeypatch.setattr(pretoken_cache, "MAX_CACHED_IDS", 50)
    monkeypatch.setattr(blocks, "BLOCK_SIZE", 2000)
    tokenizer = trained("gpt2")
    cache, expected = encoder_of(tokenizer).cache, tiktoken_encoding(tokenizer).encode_ordinary(story)
    for _ in range(3):
        assert encode_vectorized(tokenizer, story) == expected
    assert cache._used < cache._vocabulary_size + 5000
    encoder_of(tokenizer).clear_cache()
    assert encode_vectorized(tokenizer, story) == expected


def test_many_millions_of_cached_ids(monkeypatch):
    """Offset and count of a pre-token are packed into one integer, which must have more than 32 bits."""
    monkeypatch.setattr(pretoken_cache, "MAX_CACHED_IDS", 1 << 25)
    cache = PretokenCache([b"a"], [7])
    cache._used, cache._ids = 1 << 24, np.empty(1 << 25, np.int32)
    for _ in range(2):
        offsets, counts = cache.look_up(*arrays(b"bc", b"ab"), two_ids_each)
        assert offsets.tolist() == [1 << 24, (1 << 24) + 2]
        assert cache.ids(offsets, counts).tolist() == [1000, 1001, 1002, 1003]
