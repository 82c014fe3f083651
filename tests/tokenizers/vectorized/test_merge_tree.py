from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import BPETokenizer, train_bpe
from npllm.tokenizers.byte_pair.encode import PlainEncoder
from npllm.tokenizers.vectorized import encode
from npllm.tokenizers.vectorized.encode import make_encoder
from npllm.tokenizers.vectorized.merge_tree import find_irregular, find_merges, reachable_merges
from tests.strategies import few_letters, texts
from tests.tokenizers.peers import encode_vectorized, gpt2
from tests.tokenizers.vectorized.test_parallel_merge import compare_with_plain_bpe

SINGLE_BYTES = {bytes([byte]): byte for byte in range(256)}


def test_gpt2s_merges_are_recovered_from_its_ranks():
    left, right, ids = find_merges(gpt2().ranks)
    tokens = [gpt2().decode_bytes([token_id]) for token_id in range(50256)]
    assert [(tokens[a], tokens[b]) for a, b in zip(left, right)] == gpt2().merges()
    assert ids.tolist() == list(range(256, 50256))


@given(texts | few_letters, st.integers(0, 60))
def test_the_merges_of_a_trained_vocabulary(text, merges):
    tokenizer = train_bpe(text, 256 + merges)
    left, right, ids = find_merges(tokenizer.ranks)
    tokens = list(tokenizer.ranks)
    assert [(tokens[a], tokens[b]) for a, b in zip(left, right)] == tokenizer.merges()
    assert [tokens[a] + tokens[b] for a, b in zip(left, right)] == [tokens[i] for i in ids]
    assert reachable_merges(tokenizer.ranks) == tokenizer.merges()


def test_a_token_that_no_merges_produce_has_none():
    ranks = SINGLE_BYTES | {b"bc": 256, b"ab": 257, b"abc": 258, b"xyz": 259}
    left, right, ids = find_merges(ranks)
    assert list(zip(left, right, ids)) == [(98, 99, 256), (97, 98, 257), (97, 256, 258)]
    compare_with_plain_bpe(ranks, [b"abc", b"ab", b"xyz", b"abcbc"])


def test_a_token_with_a_lower_rank_than_its_parts():
    ranks = SINGLE_BYTES | {b"abc": 256, b"ab": 257}
    assert find_irregular(*find_merges(ranks), ranks) == {b"abc": 256}
    assert reachable_merges(ranks) == [(b"ab", b"c"), (b"a", b"b")]
    tokenizer = BPETokenizer(ranks)
    for text in ("abc ab xabc ", "abcabc", "ab abx", "xabcab" * 9):
        assert encode_vectorized(tokenizer, text) == PlainEncoder(ranks).encode(text)


def test_vocabularies_with_many_irregular_tokens_have_no_vectorized_encoder(monkeypatch):
    plain = PlainEncoder(SINGLE_BYTES | {b"abc": 256, b"ab": 257})
    assert make_encoder(plain) is not None
    monkeypatch.setattr(encode, "MAX_IRREGULAR", 0)
    assert make_encoder(plain) is None


def test_a_vocabulary_of_single_bytes_has_no_merges():
    assert [len(row) for row in find_merges(SINGLE_BYTES)] == [0, 0, 0]
    assert reachable_merges(SINGLE_BYTES) == []
    compare_with_plain_bpe(SINGLE_BYTES, [b"abc"])
