import math
import random
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import BPETokenizer, train_bpe
from npllm.tokenizers.byte_pair.merge import merge_by_rank, merge_by_rank_heap
from npllm.tokenizers.vectorized import parallel_merge as merging
from npllm.tokenizers.vectorized.merge_tree import find_merges
from tests.strategies import few_letters, texts
from tests.tokenizers.fuzzing import merged, random_ranks
from tests.tokenizers.peers import gpt2

words = st.lists(st.text("abcd", min_size=1, max_size=40).map(str.encode), min_size=1, max_size=20)


def check(ranks, pieces):
    ids, ends = merged(find_merges(ranks), pieces, ranks)
    expected = [[ranks[token] for token in merge_by_rank(piece, ranks)] for piece in pieces]
    assert [part.tolist() for part in np.split(ids, np.flatnonzero(ends)[:-1] + 1)] == expected


@given(st.integers(0, 2**32), words)
def test_any_vocabulary_and_any_pieces(seed, pieces):
    ranks = random_ranks(random.Random(seed))
    if find_merges(ranks) is not None:
        check(ranks, pieces)


@given(few_letters, st.integers(0, 60), st.lists(few_letters.filter(bool).map(str.encode), min_size=1, max_size=8))
def test_trained_vocabularies_full_of_ties(text, merges, pieces):
    check(train_bpe(text, 256 + merges, pattern=r"[\s\S]+").ranks, pieces)


@given(st.text("ab", min_size=1, max_size=300))
def test_one_letter_in_a_row(text):
    check(train_bpe("aaaaaaaabaaab abab", 266, pattern=r"[\s\S]+").ranks, [text.encode(), b"a" * len(text)])


@pytest.mark.parametrize("patience", [1, 2, 32])
def test_chains_longer_than_expected_only_take_longer(monkeypatch, patience):
    monkeypatch.setattr(merging, "PATIENCE", patience)
    draw = random.Random(0)
    for letters in ("abcdefghijklmnopqrstuvwxyz", "0123456789", "+-=", "aeiou"):
        piece = "".join(draw.choices(letters, k=3000)).encode()
        ids, ends = merged(find_merges(gpt2().ranks), [piece], gpt2().ranks)
        assert ids.tolist() == [gpt2().ranks[token] for token in merge_by_rank_heap(piece, gpt2().ranks)]
        assert np.flatnonzero(ends).tolist() == [len(ids) - 1]


class TestMergeTree:
    def test_gpt2s_merges_are_found_from_its_ranks(self):
        left, right, ids = find_merges(gpt2().ranks)
        tokens = [gpt2().decode_bytes([token]) for token in range(50256)]
        assert [(tokens[a], tokens[b]) for a, b in zip(left, right)] == gpt2()._merges
        assert ids.tolist() == list(range(256, 50256))

    @given(texts | few_letters, st.integers(0, 60))
    def test_of_a_trained_vocabulary(self, text, merges):
        tokenizer = train_bpe(text, 256 + merges)
        left, right, ids = find_merges(tokenizer.ranks)
        tokens = list(tokenizer.ranks)
        assert [(tokens[a], tokens[b]) for a, b in zip(left, right)] == tokenizer.merges()
        assert [tokens[a] + tokens[b] for a, b in zip(left, right)] == [tokens[i] for i in ids]

    def test_a_token_that_no_merges_make_has_none(self):
        ranks = {bytes([byte]): byte for byte in range(256)} | {b"bc": 256, b"ab": 257, b"abc": 258, b"xyz": 259}
        left, right, ids = find_merges(ranks)
        assert list(zip(left, right, ids)) == [(98, 99, 256), (97, 98, 257), (97, 256, 258)]
        check(ranks, [b"abc", b"ab", b"xyz", b"abcbc"])

    def test_a_token_before_its_parts(self):
        ranks = {bytes([byte]): byte for byte in range(256)} | {b"abc": 256, b"ab": 257}
        assert find_merges(ranks) is None
        tokenizer = BPETokenizer(ranks)
        assert tokenizer._encoder.vectorized is None
        text = "abc ab xabc " * 1000
        assert tokenizer.encode(text) == tokenizer.encode("abc ab xabc ") * 1000

    def test_no_merges_at_all(self):
        ranks = {bytes([byte]): byte for byte in range(256)}
        assert [len(row) for row in find_merges(ranks)] == [0, 0, 0]
        check(ranks, [b"abc"])


def test_the_docstrings_picture():
    """Each line has GPT-2's ranks between its tokens, and the next line what one round makes of it."""
    ranks, lines = gpt2().ranks, re.findall(r"^    (_\S*(?: .*)?)$", merging.__doc__, re.MULTILINE)
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
