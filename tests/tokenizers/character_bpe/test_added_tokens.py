"""Added tokens: the longest at a position, their options, and the pattern that finds thousands of them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.byte_pair.added_tokens import AddedToken
from npllm.tokenizers.character_bpe.added_tokens import TokenTable, find_added_tokens, prefix_tree_pattern

token_texts = st.sets(st.text("ab|<\n", min_size=1, max_size=5), min_size=1, max_size=8)


@given(token_texts, st.text("ab|<\n", max_size=30))
def test_the_pattern_finds_the_longest_text_at_each_position(texts, text):
    longest_first = "|".join(re.escape(t) for t in sorted(texts, key=len, reverse=True))
    assert re.findall(prefix_tree_pattern(texts), text) == re.findall(longest_first, text)


def test_thousands_of_tokens():
    texts = [f"<unused{i}>" for i in range(5000)] + ["\n" * n for n in range(1, 32)]
    assert re.findall(prefix_tree_pattern(texts), "<unused12>\n\n\na<unused4999>" + "\n" * 40) == [
        "<unused12>",
        "\n\n\n",
        "<unused4999>",
        "\n" * 31,
        "\n" * 9,
    ]


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        ({}, "a <x> b", [(None, 0, 2), ("<x>", 2, 5), (None, 5, 7)]),
        ({"lstrip": True}, "a \n<x> b", [(None, 0, 1), ("<x>", 1, 6), (None, 6, 8)]),
        ({"rstrip": True}, "a <x> \n b", [(None, 0, 2), ("<x>", 2, 8), (None, 8, 9)]),
        ({"lstrip": True, "rstrip": True}, "<x> <x>", [("<x>", 0, 4), ("<x>", 4, 7)]),
        ({"single_word": True}, "a<x> <x>", [(None, 0, 5), ("<x>", 5, 8)]),
        ({"single_word": True}, "<x>\u0338 <x>_", [(None, 0, 9)]),
        ({}, "", []),
    ],
)
def test_options(options, text, expected):
    tokens = TokenTable({"<x>": AddedToken("<x>", 7, **options)})
    found = [(token and token.text, first, end) for token, first, end in find_added_tokens(tokens, text)]
    assert found == expected


def test_without_tokens_the_text_is_one_part():
    assert [*find_added_tokens(TokenTable(), "text")] == [(None, 0, 4)]
