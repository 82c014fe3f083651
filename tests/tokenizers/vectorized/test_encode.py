import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import BPETokenizer, train_bpe
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, PATTERNS
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.vectorized import blocks
from npllm.tokenizers.vectorized import parallel_merge as merging
from npllm.tokenizers.vectorized import pretoken_cache as piece_memory
from npllm.tokenizers.vectorized.encode import make_encoder
from tests.strategies import few_letters, texts
from tests.tokenizers import fuzzing
from tests.tokenizers.peers import gpt2, gpt2_twin, trained

BLOCK = blocks.BLOCK


def fast(tokenizer, text, block=BLOCK):
    blocks.BLOCK = block
    try:
        return [
            token_id
            for ids in tokenizer._encoder.vectorized.encode_blocks(replace_surrogates(text))
            for token_id in ids.tolist()
        ]
    finally:
        blocks.BLOCK = BLOCK


@given(texts, st.integers(1, 40), st.sampled_from(list(PATTERNS)))
def test_blocks_of_any_size_give_the_ids_of_short_texts(text, block, name):
    assert fast(trained(name), text, block) == trained(name).encode_ordinary(text)


@pytest.mark.parametrize("name", PATTERNS)
def test_no_block_ends_within_a_piece(name):
    text = "don't we'll they'd've 12345678 HTTPServer's naïve, été!\n\n/ x" * 9
    tokenizer = train_bpe(text, 330, pattern=PATTERNS[name])  # every piece of the text is a token
    for block in range(1, 40):
        assert fast(tokenizer, text, block) == tokenizer.encode_ordinary(text)


@given(texts)
def test_the_ids_of_tiktoken(text):
    assert fast(gpt2(), text) == gpt2_twin().encode_ordinary(text)


@given(st.lists(texts, max_size=12), st.integers(1, 60), st.sampled_from(list(PATTERNS)))
def test_a_batch_is_its_texts(batch, block, name):
    tokenizer, batch = trained(name), [replace_surrogates(text) for text in batch]
    blocks.BLOCK = block
    try:
        assert list(tokenizer._encoder.vectorized.encode_batch(batch)) == [
            tokenizer.encode_ordinary(text) for text in batch
        ]
    finally:
        blocks.BLOCK = BLOCK


@given(few_letters, texts | few_letters, st.integers(0, 80))
def test_any_trained_vocabulary(learned, text, merges):
    tokenizer = train_bpe(learned, 256 + merges)
    assert fast(tokenizer, text) == tokenizer.encode_ordinary(text)


@pytest.mark.parametrize("name", fuzzing.ROUNDS)
def test_a_short_round_of_the_fuzzer(name):
    check, enough = fuzzing.ROUNDS[name]
    for seed in range(20 if name == "random merges" else 1):
        check(np.random.default_rng(seed), enough)


def test_a_text_longer_than_a_block(story):
    text = story * 60
    assert len(text) > 3 * BLOCK
    assert gpt2().encode_ordinary(text) == gpt2_twin().encode_ordinary(text)
    ids = gpt2().encode_to_numpy(text)
    assert ids.dtype == np.int32
    assert ids.tolist() == gpt2_twin().encode_ordinary(text)


def test_where_tiktoken_panics(story):
    text = " " * 1_000_000 + "x"
    with pytest.raises(BaseException, match="StackOverflow|stack|limit"):
        gpt2_twin().encode_ordinary(text)
    ids = gpt2().encode_ordinary(text)
    assert gpt2().decode(ids) == text
    assert ids[-1] == gpt2().encode_ordinary(" x")[0]
    assert ids[:-1] == gpt2_twin().encode_ordinary(" " * 999_999)


def test_special_tokens_end_a_text_and_begin_another(story):
    text = f"{story}  <|endoftext|>  {story} <|endoftext|>"
    assert gpt2().encode(text, allowed_special="all") == gpt2_twin().encode(text, allowed_special="all")
    ids = gpt2().encode_to_numpy(text, allowed_special="all")
    assert ids.tolist() == gpt2_twin().encode(text, allowed_special="all")
    for texts_ in ([text, story], [story] * 3 + [text]):
        expected = [gpt2_twin().encode(one, allowed_special="all") for one in texts_]
        assert gpt2().encode_batch(texts_, allowed_special="all") == expected
        with pytest.raises(ValueError, match="the text contains the special token"):
            gpt2().encode_batch(texts_)


def test_threads_that_share_a_tokenizer(story):
    tokenizer = trained("cl100k")
    texts_ = [story[begin:] + "=" * 40 * begin for begin in range(40)]
    expected = [tokenizer.encode_ordinary(text) for text in texts_]
    for _ in range(3):
        tokenizer.clear_cache()
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(tokenizer.encode_ordinary, texts_)) == expected


def test_a_tokenizer_can_be_pickled_after_use(story):
    tokenizer = trained("o200k")
    ids = tokenizer.encode(story)
    assert tokenizer.decode(ids) == story
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.encode(story) == ids
    assert again.decode(ids) == story


class TestTokens:
    def test_a_long_piece_that_is_a_token_is_that_token(self):
        ranks = {bytes([byte]): byte for byte in range(256)} | {b"x" * 200: 256, b"-" * 160: 257, b"xx": 258}
        tokenizer, twin = BPETokenizer(ranks), fuzzing.tiktoken_twin(BPETokenizer(ranks))
        text = (
            " ".join(["a", "x" * 199, "b"]) + "\n" + "x" * 200 + "\n" + "-" * 160 + "\n" + "x" * 201 + " " + "-" * 160
        )
        assert fast(tokenizer, text) == twin.encode_ordinary(text)
        assert fast(tokenizer, text).count(256) == fast(tokenizer, text).count(257) == 1

    def test_a_short_piece_that_is_a_token_no_merges_make(self):
        ranks = {bytes([byte]): byte for byte in range(256)} | {b"xyz": 256}
        text = "xyz xyz axyz xyz\nxyz"
        expected = fuzzing.tiktoken_twin(BPETokenizer(ranks)).encode_ordinary(text)
        assert fast(BPETokenizer(ranks), text) == expected

    def test_a_long_piece_that_is_a_token_whose_merge_never_happens(self):
        left, right = b"a" * 70 + b"b", b"c" + b"d" * 70
        ranks = {bytes([byte]): byte for byte in range(256)} | {b"bc": 256, left: 257, right: 258, left + right: 259}
        text = (left + right).decode() + "\n" + right.decode()
        assert fast(BPETokenizer(ranks), text) == fuzzing.tiktoken_twin(BPETokenizer(ranks)).encode_ordinary(text)
        assert fast(BPETokenizer(ranks), text)[0] == 259

    def test_what_has_no_fast_path(self):
        ranks = {bytes([byte]): byte for byte in range(256)}
        assert make_encoder(ranks, r"\S+|\s+") is None
        for high in (1 << 21, 1 << 31, 1 << 40):  # tables by id would be mostly empty
            assert make_encoder(ranks | {b"ab": high}, GPT2_PATTERN) is None
        tokenizer = BPETokenizer(ranks | {b"ab": 1 << 31})
        text = "ab" * 200_000
        assert tokenizer.encode(text) == [1 << 31] * 200_000
        assert tokenizer.encode_to_numpy(text).tolist() == tokenizer.encode(text)


class TestInterrupted:
    @pytest.mark.parametrize("where", ["merger.merge", "memory._append", "memory.ids"])
    def test_ctrl_c_leaves_no_piece_without_its_ids(self, where, monkeypatch):
        tokenizer, text = trained("gpt2"), "unforgettablest flabbergastingly zyx " * 50
        tokenizer.clear_cache()
        owner, name = where.split(".")

        def stop(*arguments):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
            patch.setattr(getattr(tokenizer._encoder.vectorized, owner), name, stop)
            fast(tokenizer, text)
        assert fast(tokenizer, text) == tokenizer.encode_ordinary(text)


def test_memory_is_bounded_and_forgetting_changes_nothing(monkeypatch, story):
    monkeypatch.setattr(piece_memory, "REMEMBERED", 50)
    tokenizer = trained("gpt2")
    tokenizer.clear_cache()
    for _ in range(3):
        assert fast(tokenizer, story, block=2000) == fuzzing.tiktoken_twin(tokenizer).encode_ordinary(story)
    memory = tokenizer._encoder.vectorized.memory
    assert memory._used < memory._vocabulary_size + 5000
    before = fast(tokenizer, story)
    tokenizer.clear_cache()
    assert fast(tokenizer, story) == before


class TestWhereRoundsAreTooMany:
    def test_ranks_that_fall_along_the_text(self):
        """A vocabulary of all pairs of letters, in which only the last pair of a walk through all of them is lowest."""
        letters = "abcdefghijklmnopqrstuvwxyz"
        walk = "".join(a + "".join(a + b for b in letters[i + 1 :]) for i, a in enumerate(letters)) + "a"
        pairs = [walk[i : i + 2].encode() for i in range(len(walk) - 1)]
        assert len(set(pairs)) == len(pairs)
        ranks = {bytes([byte]): byte for byte in range(256)}
        tokenizer = BPETokenizer(ranks | {pair: 256 + i for i, pair in enumerate(reversed(pairs))})
        twin, text = fuzzing.tiktoken_twin(tokenizer), f"{walk * 20} a{walk}  {walk}"
        assert fast(tokenizer, text) == twin.encode_ordinary(text)
        long = [walk * 20, walk]
        data = np.frombuffer("".join(long).encode(), np.uint8)
        ends = np.zeros(len(data), bool)
        ends[[len(long[0]) - 1, -1]] = True
        assert tokenizer._encoder.vectorized.merger.merge(data, ends)[2].any(), "rounds did not suffice"

    @given(texts | few_letters, st.sampled_from(list(PATTERNS)))
    def test_a_heap_takes_over_at_any_round(self, text, name):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(merging, "ENOUGH", 1)
            trained(name).clear_cache()
            assert fast(trained(name), text) == trained(name).encode_ordinary(text)
        trained(name).clear_cache()
