"""Every pre-tokenizer with array operations against the regular expression of its pattern."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.byte_pair.pattern_spellings import SPELLINGS
from npllm.tokenizers.byte_pair.pre_tokenizers import Split
from npllm.tokenizers.byte_pair.pretokenize import PATTERNS, pretokenize
from npllm.tokenizers.byte_pair.published_patterns import CHINESE_OR_JAPANESE
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.vectorized.pretokenizers import LAST_STEPS, PRETOKENIZERS, find_pretokenizer
from tests.strategies import texts
from tests.tokenizers.vectorized.pretokens import awkward, split

patterns = st.sampled_from(list(PATTERNS.values()))
some_texts = texts.map(replace_surrogates)


def test_there_is_a_pretokenizer_for_each_pattern():
    assert PRETOKENIZERS.keys() == set(PATTERNS.values())


@given(awkward | some_texts.filter(bool), patterns)
def test_pretokenizers_give_the_pretokens_of_the_regular_expression(text, pattern):
    assert split(PRETOKENIZERS[pattern], text) == pretokenize(text, pattern)


@given(st.lists(awkward | st.just(""), min_size=1, max_size=5), patterns)
def test_separators_separate_independent_texts(parts, pattern):
    separators = np.cumsum([len(part) + 1 for part in parts]) - 1
    expected = [pretoken for part in parts for pretoken in [*pretokenize(part, pattern), "\n"]]
    assert split(PRETOKENIZERS[pattern], "\n".join([*parts, ""]), separators) == expected


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_long_runs_of_one_character(pattern):
    for character in " \n\t!a1\u4e2d\u0301'/":
        for text in ("x" + character * 10_001, character * 10_001 + "x"):
            assert split(PRETOKENIZERS[pattern], text) == pretokenize(text, pattern)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_spellings_have_the_pretokenizer_of_their_pattern(spelling):
    assert find_pretokenizer((Split(spelling),)) is LAST_STEPS[SPELLINGS[spelling]]


def test_an_unknown_pattern_has_no_pretokenizer():
    assert find_pretokenizer(r"\S+|\s+") is None


def test_the_pretokenizer_of_a_published_deepseek_file_is_known():
    written = (
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
        "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
    )
    assert find_pretokenizer((Split(r"\p{N}{1,3}"), Split(CHINESE_OR_JAPANESE), Split(written))) is not None
