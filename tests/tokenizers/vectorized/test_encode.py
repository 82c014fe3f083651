import os
import pickle
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import BPETokenizer, train_bpe
from npllm.tokenizers.byte_pair.encode import PlainEncoder
from npllm.tokenizers.byte_pair.pretokenize import PATTERNS
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.vectorized import blocks, parallel_merge
from npllm.tokenizers.vectorized.encode import make_encoder
from tests.strategies import few_letters, texts
from tests.tokenizers import fuzzing
from tests.tokenizers.peers import encode_vectorized, encoder_of, gpt2, gpt2_tiktoken, trained
from tests.tokenizers.tiktoken_patterns import tiktoken_encoding

SINGLE_BYTES = {bytes([byte]): byte for byte in range(256)}
pattern_names = st.sampled_from(list(PATTERNS))


def encode_in_blocks(tokenizer, text, size):
    """The ids by the vectorized encoder, with blocks of `size` characters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_SIZE", size)
        return encode_vectorized(tokenizer, text)


@given(texts, st.integers(1, 40), pattern_names)
def test_ids_do_not_depend_on_the_block_size(text, size, name):
    assert encode_in_blocks(trained(name), text, size) == trained(name).encode_ordinary(text)


@pytest.mark.parametrize("name", PATTERNS)
def test_no_block_ends_within_a_pretoken(name):
    text = "don't we'll they'd've 12345678 HTTPServer's naïve, été!\n\n/ x" * 9
    tokenizer = train_bpe(text, 330, pattern=PATTERNS[name])  # every pre-token of the text is a token
    for size in range(1, 40):
        assert encode_in_blocks(tokenizer, text, size) == tokenizer.encode_ordinary(text)


@given(texts)
def test_ids_equal_those_of_tiktoken(text):
    assert encode_vectorized(gpt2(), text) == gpt2_tiktoken().encode_ordinary(text)


@given(st.lists(texts, max_size=12), st.integers(1, 60), pattern_names)
def test_a_batch_has_the_ids_of_its_texts(batch, size, name):
    tokenizer, batch = trained(name), [replace_surrogates(text) for text in batch]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_SIZE", size)
        assert list(encoder_of(tokenizer).encode_batch(batch)) == [tokenizer.encode_ordinary(text) for text in batch]


@given(few_letters, texts | few_letters, st.integers(0, 80))
def test_any_trained_vocabulary(training_text, text, merges):
    tokenizer = train_bpe(training_text, 256 + merges)
    assert encode_vectorized(tokenizer, text) == tokenizer.encode_ordinary(text)


@pytest.mark.parametrize("name", fuzzing.ROUNDS)
def test_a_short_round_of_the_fuzzer(name):
    check, arguments = fuzzing.ROUNDS[name]
    check(np.random.default_rng(0), **arguments)


def test_a_text_of_several_blocks(story):
    text = story * 60
    assert len(text) > 2 * blocks.BLOCK_SIZE
    expected = gpt2_tiktoken().encode_ordinary(text)
    assert gpt2().encode_ordinary(text) == expected
    ids = gpt2().encode_to_numpy(text)
    assert ids.dtype == np.int32
    assert ids.tolist() == expected


def test_a_run_of_whitespace_on_which_tiktoken_panics():
    text = " " * 1_000_000 + "x"
    with pytest.raises(BaseException, match="StackOverflow|stack|limit"):
        gpt2_tiktoken().encode_ordinary(text)
    ids = gpt2().encode_ordinary(text)
    assert gpt2().decode(ids) == text
    assert ids[-1] == gpt2().encode_ordinary(" x")[0]
    assert ids[:-1] == gpt2_tiktoken().encode_ordinary(" " * 999_999)


def test_special_tokens_separate_texts(story):
    text = f"{story}  <|endoftext|>  {story} <|endoftext|>"
    expected = gpt2_tiktoken().encode(text, allowed_special="all")
    assert gpt2().encode(text, allowed_special="all") == expected
    assert gpt2().encode_to_numpy(text, allowed_special="all").tolist() == expected
    for batch in ([text, story], [story] * 3 + [text]):
        expected = [gpt2_tiktoken().encode(one, allowed_special="all") for one in batch]
        assert gpt2().encode_batch(batch, allowed_special="all") == expected
        with pytest.raises(ValueError, match="special token"):
            gpt2().encode_batch(batch)


def test_threads_that_share_a_tokenizer(story):
    tokenizer = trained("cl100k")
    batch = [story[begin:] + "=" * 40 * begin for begin in range(40)]
    expected = [tokenizer.encode_ordinary(text) for text in batch]
    for _ in range(3):
        encoder_of(tokenizer).clear_cache()
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda text: encode_vectorized(tokenizer, text), batch)) == expected


def test_a_tokenizer_can_be_pickled_after_use(story):
    tokenizer = trained("o200k")
    ids = tokenizer.encode(story)
    assert tokenizer.decode(ids) == story
    unpickled = pickle.loads(pickle.dumps(tokenizer))
    assert unpickled.encode(story) == ids
    assert unpickled.decode(ids) == story


class TestVocabularies:
    def test_a_long_pretoken_that_is_a_token_gets_its_id(self):
        tokenizer = BPETokenizer(SINGLE_BYTES | {b"x" * 200: 256, b"-" * 160: 257, b"xx": 258})
        x, dashes = "x" * 200, "-" * 160
        text = f"a {x[:-1]} b\n{x}\n{dashes}\n{x}x {dashes}"
        ids = encode_vectorized(tokenizer, text)
        assert ids == tiktoken_encoding(tokenizer).encode_ordinary(text)
        assert ids.count(256) == ids.count(257) == 1

    def test_a_short_pretoken_that_is_a_token_without_a_merge_gets_its_id(self):
        tokenizer = BPETokenizer(SINGLE_BYTES | {b"xyz": 256})
        text = "xyz xyz axyz xyz\nxyz"
        assert encode_vectorized(tokenizer, text) == tiktoken_encoding(tokenizer).encode_ordinary(text)

    def test_a_long_pretoken_that_is_a_token_whose_merge_never_happens_gets_its_id(self):
        left, right = b"a" * 70 + b"b", b"c" + b"d" * 70
        tokenizer = BPETokenizer(SINGLE_BYTES | {b"bc": 256, left: 257, right: 258, left + right: 259})
        text = (left + right).decode() + "\n" + right.decode()
        ids = encode_vectorized(tokenizer, text)
        assert ids == tiktoken_encoding(tokenizer).encode_ordinary(text)
        assert ids[0] == 259

    def test_other_patterns_and_very_large_ids_have_no_vectorized_encoder(self):
        assert make_encoder(PlainEncoder(SINGLE_BYTES, r"\S+|\s+")) is None
        for high in (1 << 21, 1 << 31, 1 << 40):  # arrays indexed by id would be mostly empty
            assert make_encoder(PlainEncoder(SINGLE_BYTES | {b"ab": high})) is None
        tokenizer = BPETokenizer(SINGLE_BYTES | {b"ab": 1 << 31})
        text = "ab" * 100_000
        assert tokenizer.encode(text) == [1 << 31] * 100_000
        assert tokenizer.encode_to_numpy(text).tolist() == tokenizer.encode(text)


@pytest.mark.parametrize("where", ["merger.merge", "cache._write", "cache.ids"])
def test_an_interruption_leaves_no_cached_pretoken_without_its_ids(where, monkeypatch):
    tokenizer, text = trained("gpt2"), "unforgettablest flabbergastingly zyx " * 50
    encoder_of(tokenizer).clear_cache()
    owner, name = where.split(".")

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        patch.setattr(getattr(encoder_of(tokenizer), owner), name, interrupt)
        encode_vectorized(tokenizer, text)
    assert encode_vectorized(tokenizer, text) == tokenizer.encode_ordinary(text)


class TestMoreRoundsThanAllowed:
    def test_ranks_that_decrease_along_the_text(self):
        """All pairs of letters are tokens, and only the last pair of a text that contains all of them is lowest."""
        letters = "abcdefghijklmnopqrstuvwxyz"
        tour = "".join(a + "".join(a + b for b in letters[i + 1 :]) for i, a in enumerate(letters)) + "a"
        pairs = [tour[i : i + 2].encode() for i in range(len(tour) - 1)]
        assert len(set(pairs)) == len(pairs)
        tokenizer = BPETokenizer(SINGLE_BYTES | {pair: 256 + i for i, pair in enumerate(reversed(pairs))})
        text = f"{tour * 20} a{tour}  {tour}"
        assert encode_vectorized(tokenizer, text) == tiktoken_encoding(tokenizer).encode_ordinary(text)
        pretokens = [tour * 20, tour]
        is_last = np.zeros(len(tour) * 21, bool)
        is_last[[len(pretokens[0]) - 1, -1]] = True
        data = np.frombuffer("".join(pretokens).encode(), np.uint8)
        assert encoder_of(tokenizer).merger.merge(data, is_last)[2].any(), "the rounds were enough"

    @given(texts | few_letters, pattern_names)
    def test_the_rest_is_merged_with_a_heap(self, text, name):
        encoder_of(trained(name)).clear_cache()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parallel_merge, "MAX_VISITS", 1)
            assert encode_vectorized(trained(name), text) == trained(name).encode_ordinary(text)
        encoder_of(trained(name)).clear_cache()


def test_a_child_process_can_encode_if_a_thread_of_the_parent_encodes_at_the_fork():
    """The child has no such thread, which would release the lock; it must not wait for it."""
    tokenizer, text = trained("gpt2"), "some words of a text " * 2000
    encoder = tokenizer._encoder.vectorized
    expected = tokenizer.encode_ordinary(text)
    with encoder._lock:  # as that thread would hold it
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            os._exit(0 if tokenizer.encode_ordinary(text) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    stop = threading.Event()

    def encode_on():
        while not stop.is_set():
            tokenizer.encode_ordinary(" ".join(map(str, range(20_000))))
            encoder.clear_cache()

    thread = threading.Thread(target=encode_on)
    thread.start()
    for _ in range(4):
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            os._exit(0 if tokenizer.encode_ordinary(text) == expected else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    stop.set()
    thread.join()
