"""Characters without a token: bytes, the unknown token, or nothing; the cache; spans."""

from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.character_bpe import encode
from npllm.tokenizers.character_bpe.encode import CharacterEncoder

TOKENS = {"<unk>": 0, "a": 1, "b": 2, "ab": 3}
RANKS = {("a", "b"): 0}
BYTE_IDS = {byte: 10 + byte for byte in range(256)}


def test_a_character_without_a_token_becomes_its_bytes():
    encoder = CharacterEncoder(TOKENS, RANKS, BYTE_IDS, unk_id=0)
    assert encoder.encode("abéa") == [3, *(10 + byte for byte in "é".encode()), 1]
    assert encoder.encode_with_spans("aéb") == [(1, 0, 1), (10 + 0xC3, 1, 2), (10 + 0xA9, 1, 2), (2, 2, 3)]


def test_without_byte_tokens_it_becomes_the_unknown_token():
    assert CharacterEncoder(TOKENS, RANKS, unk_id=0).encode("aXYb") == [1, 0, 0, 2]
    assert CharacterEncoder(TOKENS, RANKS, unk_id=0, fuse_unk=True).encode("aXYbZ") == [1, 0, 2, 0]
    assert CharacterEncoder(TOKENS, RANKS, unk_id=0, fuse_unk=True).encode_with_spans("XYa") == [(0, 0, 2), (1, 2, 3)]


def test_without_an_unknown_token_it_is_left_out_and_its_neighbours_are_merged():
    encoder = CharacterEncoder(TOKENS, RANKS)
    assert encoder.encode("aXb") == [3]
    assert encoder.encode_with_spans("XaYbZ") == [(3, 1, 4)]


@given(st.text("abX\xe9", max_size=100), st.booleans(), st.sampled_from([None, 0]), st.booleans())
def test_spans_have_the_ids_of_encode(text, has_bytes, unk_id, fuse_unk):
    encoder = CharacterEncoder(TOKENS, RANKS, BYTE_IDS if has_bytes else {}, unk_id, fuse_unk)
    spans = encoder.encode_with_spans(text)
    assert [token_id for token_id, _, _ in spans] == encoder.encode(text)
    assert all(0 <= first < end <= len(text) for _, first, end in spans)


@given(st.lists(st.text("abX", max_size=30) | st.integers(20, 30), max_size=40))
def test_parts_are_encoded_as_one_by_one(parts):
    encoder = CharacterEncoder(TOKENS, RANKS, BYTE_IDS, unk_id=0)
    one_by_one = [encoder.encode(part) if isinstance(part, str) else [part] for part in parts]
    assert encoder.encode_parts(parts * 20) == sum(one_by_one, []) * 20


def test_the_cache_is_bounded_and_can_be_emptied(monkeypatch):
    monkeypatch.setattr(encode, "MAX_CACHED", 3)
    encoder = CharacterEncoder(TOKENS, RANKS, BYTE_IDS)
    for text in ("ab", "aab", "abb", "aabb", "bab"):
        expected = [token_id for token_id, _, _ in encoder.encode_with_spans(text)]
        assert encoder.encode(text) == encoder.encode(text) == expected
        assert len(encoder._cache) <= 3
    encoder.clear_cache()
    assert len(encoder._cache) == 0
