"""The naive training. vectorized/test_incremental_training.py compares the incremental training with it."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from tiktoken._educational import bpe_train

from npllm.tokenizers import Merge, learn_merges_naive, pretokenize
from npllm.tokenizers.byte_pair.train import merge_pair
from tests.strategies import few_letters
from tests.tokenizers.peers import TIKTOKEN_GPT2_PATTERN


def test_the_trace():
    merges = learn_merges_naive([b"low", b"low", b"lower", b"newest", b"newest", b"newest", b"widest"], 4)
    assert merges == [Merge(b"w", b"e", 4), Merge(b"s", b"t", 4), Merge(b"l", b"o", 3), Merge(b"n", b"e", 3)]
    assert merges[1].token == b"st"


def test_overlapping_pairs_are_all_counted_and_merged_from_the_left():
    assert learn_merges_naive([b"aaaa"], 3) == [Merge(b"a", b"a", 3), Merge(b"aa", b"aa", 1)]
    assert merge_pair([b"a"] * 5, (b"a", b"a")) == [b"aa", b"aa", b"a"]


@given(st.lists(few_letters, max_size=6))
def test_every_merge_takes_a_most_frequent_pair(parts):
    words = [[bytes([byte]) for byte in part.encode()] for part in parts]
    for merge in learn_merges_naive([part.encode() for part in parts], 15):
        pairs = [pair for word in words for pair in pairwise(word)]
        assert merge.count == pairs.count((merge.left, merge.right)) == max(map(pairs.count, pairs))
        words = [merge_pair(word, (merge.left, merge.right)) for word in words]


@given(few_letters.filter(lambda text: len(text) > 20))
def test_tiktokens_trainer_for_teaching_finds_the_same(text):
    merges = learn_merges_naive([pretoken.encode() for pretoken in pretokenize(text)], 8)
    theirs = bpe_train(text, 256 + len(merges), TIKTOKEN_GPT2_PATTERN, visualise=None)
    assert [merge.token for merge in merges] == list(theirs)[256:]


def test_merging_ends_when_no_pair_is_left():
    assert len(learn_merges_naive([b"abc", b"abc"], 1000)) == 2
    assert learn_merges_naive([b"x"], 10) == learn_merges_naive([], 10) == []
