"""Merges by the rank of the pair: the loop, the heap, and the definition written plainly."""

import math

from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.character_bpe.merge import merge_by_pair_rank, merge_by_pair_rank_heap, ranks_of_scores

letters = st.text("abc", max_size=40)


@st.composite
def rank_tables(draw):
    """Ranks of pairs of tokens over three letters; some pairs share a rank."""
    tokens, ranks = ["a", "b", "c"], {}
    for _ in range(draw(st.integers(0, 12))):
        pair = draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))
        ranks[pair] = draw(st.integers(0, 6))
        if pair[0] + pair[1] not in tokens:
            tokens.append(pair[0] + pair[1])
    return ranks


def merged(text, ranks):
    """The definition: merge the pair of lowest rank, the leftmost of equals, until there is none."""
    tokens = list(text)
    while True:
        found = [(ranks.get((tokens[i], tokens[i + 1]), math.inf), i) for i in range(len(tokens) - 1)]
        if not found or min(found)[0] == math.inf:
            return tokens
        i = min(found)[1]
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]


@given(letters, rank_tables())
def test_the_loop_and_the_heap_follow_the_definition(text, ranks):
    assert merge_by_pair_rank(text, ranks) == merge_by_pair_rank_heap(text, ranks) == merged(text, ranks)


@given(st.text("ab", min_size=500, max_size=3000), rank_tables())
def test_long_texts(text, ranks):
    assert merge_by_pair_rank_heap(text, ranks) == merge_by_pair_rank(text, ranks)


@given(letters, st.dictionaries(st.text("abc", min_size=1, max_size=5), st.sampled_from([-1.0, -2.0, -3.5, 0.0])))
def test_ranks_of_scores_merge_the_union_of_the_highest_score(text, scores):
    tokens = list(text)
    while True:
        unions = [(-scores.get(tokens[i] + tokens[i + 1], -math.inf), i) for i in range(len(tokens) - 1)]
        if not unions or min(unions)[0] == math.inf:
            break
        i = min(unions)[1]
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]
    assert merge_by_pair_rank(text, ranks_of_scores(scores)) == tokens


def test_equal_scores_have_the_same_rank_and_a_higher_score_a_lower_one():
    assert ranks_of_scores({"ab": -1.0, "bc": -1.0, "abc": -0.5}) == {
        ("a", "b"): 1,
        ("b", "c"): 1,
        ("ab", "c"): 0,
        ("a", "bc"): 0,
    }
