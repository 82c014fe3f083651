import re

import pytest
from hypothesis import given

from npllm.tokenizers.byte_pair.pretokenize import CL100K_PATTERN, O200K_PATTERN, pretokenize
from npllm.tokenizers.vectorized import pretokenize_gpt4
from npllm.tokenizers.vectorized.pretokenize_gpt4 import cl100k_starts, o200k_starts
from tests.tokenizers.vectorized.pretokens import awkward, split


@given(awkward)
def test_cl100k_pretokens_are_those_of_the_regular_expression(text):
    assert split(cl100k_starts, text) == pretokenize(text, CL100K_PATTERN)


@given(awkward)
def test_o200k_pretokens_are_those_of_the_regular_expression(text):
    assert split(o200k_starts, text) == pretokenize(text, O200K_PATTERN)


def test_the_examples_of_case_changes():
    examples = re.findall(r"(\S+) → (\S+(?: \| \S+)?)", pretokenize_gpt4._split_at_case_changes.__doc__)
    assert len(examples) == 3
    for text, pretokens in examples:
        assert split(o200k_starts, text) == pretokenize(text, O200K_PATTERN) == pretokens.split(" | ")


@pytest.mark.parametrize("text", ["!!\u0301a", "a!\n/\n/b", "it's's're", "x \u0301", "\n!\u0301\u0301/", "'s's"])
def test_positions_that_neighbours_do_not_determine(text):
    for example in (text, f"a {text} b", f"{text}\n{text}"):
        assert split(o200k_starts, example) == pretokenize(example, O200K_PATTERN)


def test_whitespace_at_the_end_of_a_text():
    for text in ("a \n ", "a\n\n", "a \n \n  ", " \n ", "a! \n ", "a!\n\n "):
        assert split(cl100k_starts, text) == pretokenize(text, CL100K_PATTERN)
        assert split(o200k_starts, text) == pretokenize(text, O200K_PATTERN)
