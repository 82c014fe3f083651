"""The steps that divide a text into pre-tokens, compared with those of Hugging Face's tokenizers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from npllm.tokenizers.byte_pair.pre_tokenizers import (
    BEHAVIORS,
    NUMERIC,
    PUNCTUATION,
    WORDS,
    ByteAlphabet,
    PrefixSpace,
    Split,
)
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, pretokenize
from tests.tokenizers.mixed_texts import mixed_texts

PATTERNS = [r"\p{N}", r"\p{N}{1,3}", r"a|\p{P}|\s", r" ?[^\s\p{L}\p{N}]+", r"\p{S}+", r"[\p{L}\p{M}]+"]
BYTES_ALONE = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
PIPELINES = {
    "Digits, individual": (pre_tokenizers.Digits(True), (Split(NUMERIC),)),
    "Digits": (pre_tokenizers.Digits(False), (Split(NUMERIC, "contiguous"),)),
    "Punctuation": (pre_tokenizers.Punctuation(), (Split(PUNCTUATION),)),
    "Punctuation, removed": (pre_tokenizers.Punctuation("removed"), (Split(PUNCTUATION, "removed"),)),
    "Whitespace": (pre_tokenizers.Whitespace(), (Split(WORDS, "removed", True),)),
    "WhitespaceSplit": (pre_tokenizers.WhitespaceSplit(), (Split(r"\s", "removed"),)),
    "StarCoder": (
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
        (Split(NUMERIC), Split(GPT2_PATTERN), ByteAlphabet()),
    ),
    "Falcon": (
        [
            pre_tokenizers.Punctuation("contiguous"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            pre_tokenizers.Digits(False),
            pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated"),
        ],
        (
            Split(PUNCTUATION, "contiguous"),
            Split(GPT2_PATTERN),
            ByteAlphabet(),
            Split(NUMERIC, "contiguous"),
            Split("[0-9][0-9][0-9]"),
        ),
    ),
    "a space before each pre-token": (
        [pre_tokenizers.Punctuation("isolated"), pre_tokenizers.ByteLevel(add_prefix_space=True)],
        (Split(PUNCTUATION), PrefixSpace(), Split(GPT2_PATTERN), ByteAlphabet()),
    ),
}


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("behavior", BEHAVIORS)
@given(mixed_texts, st.sampled_from(PATTERNS))
def test_split(behavior, invert, text, pattern):
    theirs = pre_tokenizers.Split(Regex(pattern), behavior, invert)
    compare(theirs, (Split(pattern, behavior, invert),), text)


@pytest.mark.parametrize("name", PIPELINES)
@given(mixed_texts)
def test_sequences(name, text):
    theirs, steps = PIPELINES[name]
    compare(pre_tokenizers.Sequence(theirs) if isinstance(theirs, list) else theirs, steps, text)


def compare(theirs, steps, text):
    """Raise AssertionError unless the pre-tokens and their positions are those of Hugging Face's library."""
    expected = theirs.pre_tokenize_str(text)
    assert pretokenize(text, steps) == [pretoken for pretoken, _ in expected]
    aligned = [(text, list(range(len(text))))] if text else []
    for step in steps:
        aligned = [part for pretoken, positions in aligned for part in step.split_aligned(pretoken, positions)]
    assert [(pretoken, (p[0], p[-1] + 1)) for pretoken, p in aligned] == expected


def test_every_split_applies_to_a_pretoken_as_to_a_text_of_its_own():
    assert pretokenize("a   5", (Split(r"\p{N}{1,3}"), Split(GPT2_PATTERN))) == ["a", "   ", "5"]
    assert pretokenize("a   5", GPT2_PATTERN) == ["a", "  ", " 5"]
    assert pretokenize("a \n5", (Split("5"), Split(r"\s+$|\S"))) == ["a", " \n", "5"]


def test_steps_are_compared_by_value():
    assert (Split("a"), PrefixSpace()) == (Split("a"), PrefixSpace())
    assert Split("a") != Split("a", "removed")
    assert len({Split("a"), Split("a"), ByteAlphabet(), ByteAlphabet()}) == 2


def test_a_pattern_as_a_str_is_an_inverted_split_that_removes():
    assert pretokenize("a1 b", r"\p{L}") == pretokenize("a1 b", (Split(r"\p{L}", "removed", True),)) == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "remove"), "behavior is 'remove'; it must be one of isolated, removed"),
        (("a*",), r"pattern is 'a\*'; it must not match the empty text"),
        (("(a",), "must be a regular expression"),
    ],
)
def test_invalid_steps(arguments, message):
    with pytest.raises(ValueError, match=message):
        Split(*arguments)
