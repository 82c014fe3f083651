import math
import random
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import train_bpe
from npllm.tokenizers.byte_pair.merge import merge_by_rank, merge_by_rank_heap
from npllm.tokenizers.vectorized import parallel_merge
from npllm.tokenizers.vectorized.merge_tree import find_irregular, find_merges
from tests.strategies import few_letters
from tests.tokenizers import fuzzing
from tests.tokenizers.fuzzing import merge_in_parallel, random_ranks
from tests.tokenizers.peers import gpt2

words = st.lists(st.text("abcd", min_size=1, max_size=40).map(str.encode), min_size=1, max_size=20)


def compare_with_plain_bpe(ranks, pretokens):
    ids, is_last = merge_in_parallel(find_merges(ranks), pretokens, ranks)
    expected = [[ranks[token] for token in merge_by_rank(pretoken, ranks)] for pretoken in pretokens]
    assert [part.tolist() for part in np.split(ids, np.flatnonzero(is_last)[:-1] + 1)] == expected


@given(st.integers(0, 2**32), words)
def test_any_vocabulary_and_any_pretokens(seed, pretokens):
    ranks = random_ranks(random.Random(seed))
    if not find_irregular(*find_merges(ranks), ranks):
        compare_with_plain_bpe(ranks, pretokens)


@given(few_letters, st.integers(0, 60), st.lists(few_letters.filter(bool).map(str.encode), min_size=1, max_size=8))
def test_trained_vocabularies_with_many_equal_ranks(text, merges, pretokens):
    compare_with_plain_bpe(train_bpe(text, 256 + merges, pattern=r"[\s\S]+").ranks, pretokens)


@given(st.text("ab", min_size=1, max_size=300))
def test_repetitions_of_one_letter(text):
    ranks = train_bpe("aaaaaaaabaaab abab", 266, pattern=r"[\s\S]+").ranks
    compare_with_plain_bpe(ranks, [text.encode(), b"a" * len(text)])


@pytest.mark.parametrize("max_chain", [1, 2])
def test_merges_that_compete_with_others(monkeypatch, max_chain):
    monkeypatch.setattr(parallel_merge, "MAX_CHAIN", max_chain)
    fuzzing.competing_merges(np.random.default_rng(0), vocabularies=400)


@pytest.mark.parametrize("max_chain", [1, 32])
def test_the_result_does_not_depend_on_max_chain(monkeypatch, max_chain):
    monkeypatch.setattr(parallel_merge, "MAX_CHAIN", max_chain)
    draw, merges = random.Random(0), find_merges(gpt2().ranks)
    for letters in ("abcdefghijklmnopqrstuvwxyz", "0123456789", "+-=", "aeiou"):
        pretoken = "".join(draw.choices(letters, k=3000)).encode()
        ids, is_last = merge_in_parallel(merges, [pretoken], gpt2().ranks)
        assert ids.tolist() == [gpt2().ranks[token] for token in merge_by_rank_heap(pretoken, gpt2().ranks)]
        assert np.flatnonzero(is_last).tolist() == [len(ids) - 1]


def test_the_picture_in_the_docstring():
    """Each line has GPT-2's ranks between its tokens, and the next line is the result of one round."""
    ranks = gpt2().ranks
    lines = re.findall(r"^    (_\S*(?: .*)?)$", parallel_merge.__doc__, re.MULTILINE)
    assert len(lines) == 5
    rows = [[token.replace("_", " ").encode() for token in line.split(" ")[::2]] for line in lines]
    for line, row, following in zip(lines, rows, [*rows[1:], rows[-1]]):
        between = [ranks[left + right] for left, right in pairwise(row)]
        assert between == list(map(int, line.split(" ")[1::2]))
        around = [math.inf, *between, math.inf]
        lowest = [i for i, rank in enumerate(between) if around[i] > rank < around[i + 2]]
        for i in reversed(lowest):
            row = [*row[:i], row[i] + row[i + 1], *row[i + 2 :]]
        assert row == following
