"""Stop strings: a text in parts ends where the whole text would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.generation import StopStrings

texts = st.text("abc", max_size=12)


def text_before(strings, parts):
    """What StopStrings gives for a text in parts, and the string found."""
    stop = StopStrings(strings)
    return "".join(map(stop.push, parts)) + stop.finish(), stop.found


def plain(strings, text):
    """The text before the stop string that is complete first, by trying every end."""
    for end in range(len(text) + 1):
        found = [string for string in strings if text[:end].endswith(string)]
        if found:
            longest = max(found, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.lists(texts, max_size=5))
def test_the_result_is_that_of_the_whole_text(strings, parts):
    assert text_before(strings, parts) == plain(strings, "".join(parts))


@given(st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.lists(texts, max_size=5))
def test_no_text_is_returned_too_early_and_none_is_held_longer_than_a_stop_string(strings, parts):
    stop, returned, pushed = StopStrings(strings), "", ""
    before, _ = plain(strings, "".join(parts))
    for part in parts:
        returned, pushed = returned + stop.push(part), pushed + part
        assert before.startswith(returned)
        if stop.found is None:
            assert len(pushed) - len(returned) < max(map(len, strings), default=1)


def test_a_stop_string_may_begin_and_end_inside_of_tokens():
    stop = StopStrings(["\nEND"])
    assert [stop.push(part) for part in ("one\n", "two\nE", "N", "D three", " four")] == ["one", "\ntwo", "", "", ""]
    assert stop.found == "\nEND" and stop.finish() == ""


@pytest.mark.parametrize(
    ("strings", "error", "message"),
    [
        ("\n", TypeError, "stop_strings is the text '.n'; it must be a list of texts"),
        (7, TypeError, "stop_strings is 7; it must be a list of texts"),
        ([7], TypeError, "a stop string is 7; it must be a text"),
        ([""], ValueError, "a stop string is empty"),
    ],
)
def test_invalid_arguments(strings, error, message):
    with pytest.raises(error, match=message):
        StopStrings(strings)
