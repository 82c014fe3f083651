"""BPETokenizer: encode and decode, compared with tiktoken; errors name the argument."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import BPETokenizer, train_bpe
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.vectorized import blocks
from tests.strategies import texts
from tests.tokenizers.peers import gpt2, gpt2_tiktoken

BYTES = [bytes([byte]) for byte in range(256)]


@given(texts)
def test_ids_equal_those_of_tiktoken(text):
    assert gpt2().encode_ordinary(text) == gpt2_tiktoken().encode_ordinary(text)


@given(texts)
def test_round_trip_of_any_text(text):
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert gpt2().decode(gpt2().encode(text, disallowed_special=())) == expected
    assert gpt2().decode(gpt2().encode(text, allowed_special="all")) == expected


@given(st.binary(max_size=50) | texts.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_round_trip_of_any_bytes(data):
    assert gpt2().decode_bytes(gpt2().encode_bytes(data)) == data


@given(texts)
def test_encode_bytes_of_valid_utf8_equals_encode(text):
    assert gpt2().encode_bytes(text.encode("utf-8", "replace")) == gpt2().encode_ordinary(
        text.encode("utf-8", "replace").decode()
    )


@given(st.lists(st.integers(0, 50256), max_size=20))
def test_any_ids_decode_as_in_tiktoken(ids):
    assert gpt2().decode(ids) == gpt2_tiktoken().decode(ids)
    assert gpt2().decode_bytes(ids) == gpt2_tiktoken().decode_bytes(ids)


@given(st.lists(texts, max_size=4))
def test_a_batch_has_the_ids_of_its_texts(batch):
    options = {"allowed_special": "all"}
    assert gpt2().encode_batch(batch, **options) == [gpt2().encode(text, **options) for text in batch]


@given(st.lists(texts, max_size=4), st.sampled_from([set(), {"<|endoftext|>"}]))
def test_long_texts_with_special_tokens(batch, allowed):
    long = "some words and more of them <|endoftext|> " * 200
    batch = [*batch, long, "".join(batch).join([long, long])]
    options = {"allowed_special": allowed, "disallowed_special": ()}
    assert gpt2()._encoder.vectorized is not None  # built now, so that it encodes the long texts
    expected = [gpt2_tiktoken().encode(replace_surrogates(text), **options) for text in batch]
    assert gpt2().encode_batch(batch, **options) == expected
    assert [gpt2().encode(text, **options) for text in batch] == expected
    assert [gpt2().encode_to_numpy(text, **options).tolist() for text in batch] == expected


def test_a_bytes_object_is_a_sequence_of_ids():
    assert gpt2().decode_bytes(bytes(300)) == gpt2().decode_bytes([0] * 300) == b"!" * 300


def test_an_incomplete_character_is_replaced_or_refused():
    half = gpt2().encode("é")[:1] if len(gpt2().encode("é")) > 1 else gpt2().encode_bytes("é".encode()[:1])
    assert gpt2().decode(half) == "\ufffd"
    with pytest.raises(UnicodeDecodeError):
        gpt2().decode(half, errors="strict")


def test_numpy_arrays_of_ids():
    assert gpt2().decode(np.array(gpt2().encode("Hello there"), np.uint16)) == "Hello there"


def test_the_type_of_arrays_follows_the_highest_id():
    ranks = {token: rank for rank, token in enumerate(BYTES)}
    for highest, dtype in ((1 << 31) - 1, np.int32), (1 << 31, np.int64), ((1 << 62) - 1, np.int64):
        tokenizer = BPETokenizer(ranks, special_tokens={"<|x|>": highest})
        ids = tokenizer.encode_to_numpy("a<|x|>", allowed_special="all")
        assert (ids.tolist(), ids.dtype) == ([97, highest], dtype)
        assert tokenizer.vocab_size == highest + 1
        assert tokenizer.decode(ids) == tokenizer.decode(ids.tolist()) == "a<|x|>"


def test_encode_blocks_gives_the_ids_of_encode_block_by_block(monkeypatch, story):
    monkeypatch.setattr(blocks, "BLOCK_SIZE", 5000)
    assert gpt2()._encoder.vectorized is not None
    parts = list(gpt2().encode_blocks(story))
    assert len(parts) > 5
    assert np.concatenate(parts).tolist() == gpt2().encode(story)
    assert np.concatenate([*gpt2().encode_blocks("")]).shape == gpt2().encode_to_numpy("").shape == (0,)


def test_defaults():
    tokenizer = BPETokenizer({token: rank for rank, token in enumerate(BYTES)})
    assert (tokenizer.pattern, tokenizer.special_tokens, tokenizer.merges()) == (GPT2_PATTERN, {}, [])
    assert gpt2().decode([187]) == "\ufffd" == bytes([187]).decode(errors="replace")


def test_the_arguments_are_copied():
    ranks, special_tokens = {token: rank for rank, token in enumerate(BYTES)}, {"<|x|>": 300}
    tokenizer = BPETokenizer(ranks, special_tokens=special_tokens)
    ranks.clear()
    special_tokens.clear()
    assert tokenizer.encode("a<|x|>", allowed_special="all") == [97, 300]


def test_invalid_arguments():
    ranks = {token: rank for rank, token in enumerate(BYTES)}
    for wrong in (-1, 1 << 62, "1", 300.5):
        with pytest.raises(ValueError, match=r"ids must be integers, 0 to 2\*\*62 - 1"):
            BPETokenizer(ranks, special_tokens={"<|x|>": wrong})
    with pytest.raises(ValueError, match="ranks has the token 'a'; tokens must be byte strings"):
        BPETokenizer(ranks | {"a": 300})
    with pytest.raises(ValueError, match="it must be a text without lone surrogates"):
        BPETokenizer(ranks, special_tokens={"\ud800": 300})
    with pytest.raises(TypeError, match="data is str; it must be bytes"):
        BPETokenizer(ranks).encode_bytes("a")
    with pytest.raises(ValueError, match="ranks has no token for byte 7"):
        BPETokenizer({token: rank for token, rank in ranks.items() if token != b"\x07"})
    with pytest.raises(ValueError, match="one id to several tokens"):
        BPETokenizer(ranks, special_tokens={"<|x|>": 0})
    with pytest.raises(ValueError, match="the empty token"):
        BPETokenizer(ranks, special_tokens={"": 300})
    tokenizer = BPETokenizer(ranks)
    with pytest.raises(TypeError, match="text is bytes; it must be a str"):
        tokenizer.encode(b"abc")
    with pytest.raises(TypeError, match="text is NoneType"):
        tokenizer.encode_ordinary(None)
    with pytest.raises(TypeError, match="texts is a single str"):
        tokenizer.encode_batch("abc")
    for bad in (256, -1):
        with pytest.raises(KeyError, match=f"id {bad} is not in the vocabulary; ids are below 256"):
            tokenizer.decode([65, bad])
    with pytest.raises(ValueError, match=r"token b'abc' \(id 256\) is not the union of two tokens"):
        BPETokenizer(ranks | {b"abc": 256}).merges()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: train_bpe(["a", b"a"], 260), TypeError, "text is bytes; it must be a str"),
        (lambda: train_bpe("aaa", 260, special_tokens="<x>"), TypeError, "special_tokens is the text '<x>'"),
        (lambda: train_bpe("aaa", 260, special_tokens=["<x>", "<x>"]), ValueError, "each must be given once"),
        (
            lambda: train_bpe("aaa", 260).decode([[97, 98]]),
            TypeError,
            r"ids is \[\[97, 98\]\]; it must be a flat sequence",
        ),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_clearing_the_cache_changes_no_ids():
    tokenizer = train_bpe("low lower lowest " * 5, 270)
    before = tokenizer.encode("lowest lower")
    tokenizer.clear_cache()
    assert tokenizer.encode("lowest lower") == before
