"""Merging by rank: the loop and the heap against the rule written out, and the merges recovered from the ranks."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import BPETokenizer, pretokenize
from npllm.tokenizers.byte_pair.merge import merge_by_rank, merge_by_rank_heap, recover_merges
from npllm.tokenizers.vectorized.incremental_training import learn_merges
from tests.strategies import few_letters, texts
from tests.tokenizers.fuzzing import random_ranks
from tests.tokenizers.peers import gpt2, gpt2_tiktoken

BYTES = [bytes([byte]) for byte in range(256)]


@st.composite
def rank_tables(draw):
    """Ranks that no training would give: any byte strings, in any order."""
    extra = draw(st.lists(st.binary(min_size=2, max_size=5).map(lambda b: bytes(97 + x % 3 for x in b)), unique=True))
    return {token: rank for rank, token in enumerate([*BYTES, *extra])}


def merge_by_definition(pretoken, ranks):
    """The rule as stated in the module, without regard to speed."""
    tokens = [pretoken[i : i + 1] for i in range(len(pretoken))]
    while True:
        candidates = [(ranks[a + b], i) for i, (a, b) in enumerate(pairwise(tokens)) if a + b in ranks]
        if not candidates:
            return tokens
        _, i = min(candidates)
        tokens = [*tokens[:i], tokens[i] + tokens[i + 1], *tokens[i + 2 :]]


@given(rank_tables(), st.text("abc", max_size=40))
def test_loop_and_heap_follow_the_definition(ranks, text):
    pretoken = text.encode()
    expected = merge_by_definition(pretoken, ranks)
    assert merge_by_rank(pretoken, ranks) == expected
    assert merge_by_rank_heap(pretoken, ranks) == expected


@pytest.mark.parametrize("seed", range(20))
def test_heap_equals_loop(seed):
    draw = random.Random(seed)
    ranks = random_ranks(draw)
    for _ in range(50):
        pretoken = bytes(draw.choices(b"abcd", k=draw.choice((0, 1, 2, 5, 20, 60))))
        assert merge_by_rank_heap(pretoken, ranks) == merge_by_rank(pretoken, ranks)


def test_merges_by_rank_and_not_from_the_left():
    ranks = {token: rank for rank, token in enumerate([*BYTES, b"bc", b"ab"])}
    assert merge_by_rank(b"abc", ranks) == merge_by_rank_heap(b"abc", ranks) == [b"a", b"bc"]


@pytest.mark.parametrize("letters", ["a", "abcdefghijklmnopqrstuvwxyz"])
def test_the_heap_takes_n_log_n_lookups(letters):
    class Counting(dict):
        lookups = 0

        def get(self, *args):
            self.lookups += 1
            return super().get(*args)

    ranks = Counting(gpt2().ranks)
    lookups = []
    for length in (2_000, 16_000):
        ranks.lookups = 0
        merge_by_rank_heap("".join(random.Random(0).choices(letters, k=length)).encode(), ranks)
        lookups.append(ranks.lookups)
    assert lookups[1] < 8 * 1.2 * lookups[0]  # eight times the length; n² would be 64 times the steps


def test_a_pretoken_of_a_million_letters():
    text = "".join(random.Random(0).choices("etaoinshrdlu", k=1_000_000))
    ids = gpt2().encode(text)
    assert gpt2().decode(ids) == text
    assert ids == gpt2_tiktoken().encode(text)


def test_a_million_spaces_before_a_letter():
    text = " " * 1_000_000 + "x"  # tiktoken panics here
    assert gpt2().decode(gpt2().encode(text)) == text


@given(st.lists(few_letters | texts, max_size=6), st.integers(0, 60))
def test_merges_are_recovered_from_the_ranks(parts, num_merges):
    pretokens = [pretoken.encode("utf-8", "replace") for part in parts for pretoken in pretokenize(part)]
    merges = learn_merges(pretokens, num_merges)
    tokens = [*BYTES, *(merge.token for merge in merges)]
    tokenizer = BPETokenizer({token: rank for rank, token in enumerate(tokens)})
    assert tokenizer.merges() == [(merge.left, merge.right) for merge in merges]


def test_recovered_merges_do_not_depend_on_the_ids_of_bytes():
    tokens = [b"ab", *BYTES, b"abc", b"abcd"]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    assert recover_merges(ranks) == [(b"a", b"b"), (b"ab", b"c"), (b"abc", b"d")]
    with pytest.raises(ValueError, match=r"token b'xyz' \(id 259\) is not the union of two tokens of lower rank"):
        recover_merges(ranks | {b"xyz": 259})
