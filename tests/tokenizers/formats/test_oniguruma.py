"""Translation of patterns between Python's `re` and Oniguruma."""

import pytest
from tokenizers import Regex, pre_tokenizers

from npllm.tokenizers import PATTERNS
from npllm.tokenizers.byte_pair.pre_tokenizers import Split
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, pretokenize
from npllm.tokenizers.formats.oniguruma import from_oniguruma, to_oniguruma
from tests.tokenizers.formats.test_hugging_face import STRANGE_PATTERNS


@pytest.mark.parametrize(
    "pattern",
    [r"^a", r"\w+", r"\p{P8}", r"\ba", r"a\Z", r"(?m)a", r"(?i:ss)", r"(?<=a)b", r"a{2}+", r"a{2}?", "a{,2}",
     "[a&&b]", "[]a]", "[^]a]", r"[\w]", r"\x41", r"a(b)\1", r"\p{Han}", "a*", r"(?!b)", r"\Aa", "[a", "a\\"],
)  # fmt: skip
def test_patterns_with_different_meanings_are_refused(pattern):
    with pytest.raises(ValueError, match="pattern"):
        to_oniguruma(pattern)
    with pytest.raises(ValueError, match="pattern"):
        from_oniguruma(pattern)


def test_the_end_of_the_text_is_translated():
    assert to_oniguruma(r"\s+$|[$]|\$|\s") == r"\s+\z|[$]|\$|\s"
    assert from_oniguruma(r"\s+\z|[$]|\$|\s") == r"\s+$|[$]|\$|\s"
    with pytest.raises(ValueError, match="interpret differently"):
        to_oniguruma(r"a\z")
    for pattern in (GPT2_PATTERN, *PATTERNS.values(), *STRANGE_PATTERNS):
        assert from_oniguruma(to_oniguruma(pattern)) == pattern


def test_the_end_of_a_line():
    assert from_oniguruma(r"\s+$|[$]") == r"\s+(?=\n|$)|[$]"
    assert to_oniguruma(from_oniguruma(r"\s+$")) == r"\s+(?=\n|\z)"
    assert_same_matches(r"\s+$", "a \n b \t\n\n c  ")


def test_brackets_inside_of_brackets_add_characters():
    assert from_oniguruma(r" ?[^(\s|[.,!?…。，、।۔،])]+") == r" ?[^(\s|.,!?…。，、।۔،)]+"
    assert from_oniguruma("[[a]b]") == "[ab]"
    assert_same_matches(r" ?[^(\s|[.,!?])]+", "a, b(c)|d [e]! f")
    with pytest.raises(ValueError, match="pattern"):
        to_oniguruma("[[a]b]")
    with pytest.raises(ValueError, match="pattern"):
        from_oniguruma("[a[^b]]")


def assert_same_matches(pattern, text):
    theirs = pre_tokenizers.Split(Regex(pattern), "isolated").pre_tokenize_str(text)
    assert pretokenize(text, (Split(from_oniguruma(pattern)),)) == [pretoken for pretoken, _ in theirs]
