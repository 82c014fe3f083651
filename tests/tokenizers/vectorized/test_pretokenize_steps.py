"""Pre-tokenizers of several steps against the steps one after another, and against the tokenizers library."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from npllm.tokenizers.byte_pair.pre_tokenizers import NUMERIC, PrefixSpace, Split
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, pretokenize
from npllm.tokenizers.byte_pair.published_patterns import CHINESE_OR_JAPANESE, DEEPSEEK_V3_PATTERN, LLAMA3_PATTERN
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.vectorized import blocks
from npllm.tokenizers.vectorized.blocks import split_into_blocks
from npllm.tokenizers.vectorized.pretokenizers import find_pretokenizer
from tests.strategies import texts
from tests.tokenizers.peers import plain_texts
from tests.tokenizers.vectorized.pretokens import awkward, split

DEEPSEEK_V3 = (Split(r"\p{N}{1,3}"), Split(CHINESE_OR_JAPANESE), Split(DEEPSEEK_V3_PATTERN))
PIPELINES = {
    "smollm": (Split(NUMERIC), Split(GPT2_PATTERN)),
    "starcoder": (Split(r"\p{N}"), Split(GPT2_PATTERN)),
    "runs of digits": (Split(NUMERIC, "contiguous"), Split(GPT2_PATTERN)),
    "deepseek-v3": DEEPSEEK_V3,
    "deepseek's last step": DEEPSEEK_V3[2:],
    "numbers, then llama3": (Split(r"\p{N}+"), Split(LLAMA3_PATTERN)),
}
more_awkward = st.lists(
    st.sampled_from(
        [".", "..", ".a", ".\u00e9", "a\u00e9\u0301", "\x00", "\x00\x01", "\u200b", "$", "\u20ac", "\u3002", "\u30fb"]
        + ["\u3042", "\u4e2d\u6587", "\u3099", "1234", "\u00bd", "\U00011de0", "\U00016ff4", " ", "  ", "\n", "\t", "a"]
    ),
    min_size=1,
    max_size=14,
).map("".join)
some_texts = awkward | more_awkward | texts.map(replace_surrogates).filter(bool)
pipelines = st.sampled_from(list(PIPELINES.values()))


@given(some_texts, pipelines)
def test_pretokens_are_those_of_the_steps(text, steps):
    assert split(find_pretokenizer(steps), text) == pretokenize(text, steps)


@given(st.lists(some_texts | st.just(""), min_size=1, max_size=5), pipelines)
def test_separators_separate_independent_texts(parts, steps):
    separators = np.cumsum([len(part) + 1 for part in parts]) - 1
    expected = [pretoken for part in parts for pretoken in [*pretokenize(part, steps), "\n"]]
    assert split(find_pretokenizer(steps), "\n".join([*parts, ""]), separators) == expected


@given(some_texts, pipelines, st.integers(1, 20))
def test_blocks_have_the_pretokens_of_the_text(text, steps, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_SIZE", size)
        found = []
        for data, starts, lengths in split_into_blocks(text, find_pretokenizer(steps)):
            found += [data[start : start + length].tobytes().decode() for start, length in zip(starts, lengths)]
    assert found == pretokenize(text, steps)


@given((awkward | more_awkward | plain_texts).filter(bool))
def test_pretokens_of_deepseek_v3_are_those_of_the_tokenizers_library(text):
    steps = [pre_tokenizers.Split(Regex(step.pattern), "isolated") for step in DEEPSEEK_V3]
    theirs = [pretoken for pretoken, _ in pre_tokenizers.Sequence(steps).pre_tokenize_str(text)]
    assert split(find_pretokenizer(DEEPSEEK_V3), text) == theirs


def test_digits_come_before_the_pattern():
    assert split(find_pretokenizer(PIPELINES["smollm"]), "x   12a") == ["x", "   ", "1", "2", "a"]
    assert pretokenize("x   12a", GPT2_PATTERN) == ["x", "  ", " 12", "a"]


@pytest.mark.parametrize(
    "steps",
    [
        (Split(r"\d"), Split(GPT2_PATTERN)),
        (Split(r"\p{N}", "removed"), Split(GPT2_PATTERN)),
        (Split(r"\p{N}"), Split(GPT2_PATTERN, "merged_with_previous")),
        (Split(r"\p{N}"), Split(r"\p{L}+")),
        (PrefixSpace(), Split(GPT2_PATTERN)),
        (Split(r"\p{N}", invert=True), Split(GPT2_PATTERN)),
    ],
)
def test_other_steps_have_no_pretokenizer(steps):
    assert find_pretokenizer(steps) is None
