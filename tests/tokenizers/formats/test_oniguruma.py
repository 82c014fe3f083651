"""Translation of patterns between Python's `re` and Oniguruma."""

import pytest

from npllm.tokenizers import PATTERNS
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN
from npllm.tokenizers.formats.oniguruma import from_oniguruma, to_oniguruma
from tests.tokenizers.formats.test_hugging_face import STRANGE_PATTERNS


@pytest.mark.parametrize(
    "pattern",
    [r"^a", r"\w+", r"\p{P8}", r"\ba", r"a\Z", r"(?m)a", r"(?i:ss)", r"(?<=a)b", r"a{2}+", r"a{2}?", "a{,2}", "[[a]b]",
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
    for spelling, refuse in ((r"a\z", to_oniguruma), ("a$", from_oniguruma)):
        with pytest.raises(ValueError, match="interpret differently"):
            refuse(spelling)
    for pattern in (GPT2_PATTERN, *PATTERNS.values(), *STRANGE_PATTERNS):
        assert from_oniguruma(to_oniguruma(pattern)) == pattern
