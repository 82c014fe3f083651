import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.utils.fields import choice, flag, items, number, only, optional, read_fields, size, table, text
from npllm.utils.file_errors import FileError
from npllm.utils.json_files import as_json, parse_json_object

FIELDS = {
    "layers": size(2, high=9),
    "eps": number(1e-5, low=0.0, high=1.0),
    "theta": number(1e4, above=1.0),
    "is_tied": flag(True),
    "act": choice("silu", ["silu", "relu"]),
    "window": optional(size(None)),
    "cross": only(False),
    "types": items(None, choice(None, ["full", "sliding"]), min_length=1),
    "rope": optional(table()),
}
VALID = {
    "layers": [1, 9],
    "eps": [0, 0.5, 1],
    "theta": [2, 1e6, 1.5],
    "is_tied": [True, False],
    "act": ["silu", "relu"],
    "window": [None, 1, 2**31 - 1],
    "cross": [False],
    "types": [["full"], ["full", "sliding"]],
    "rope": [None, {}, {"a": 1}],
}
INVALID = {
    "layers": [0, -1, 10, True, 1.0, "1", None, [1], 10**30],
    "eps": [-1e-9, 1.1, True, "0.1", None, math.nan, math.inf, 10**400],
    "theta": [1, 1.0, 0, -1, math.inf, 1e31, 10**400],
    "is_tied": [0, 1, "true", None],
    "act": ["SILU", None, 0, ["silu"]],
    "window": [0, False, 2**31],
    "cross": [True, 0, None],
    "types": [[], "full", ["other"], [None], {"full": 1}, None],
    "rope": [[], "x", 0, False],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in VALID.items() for value in values])
def test_valid_values_are_read_and_the_rest_has_its_default(name, value):
    fields = read_fields("config.json", {name: value, "unknown": object()}, FIELDS)
    assert fields == {key: field.default for key, field in FIELDS.items()} | {name: value}
    assert all(type(fields[key]) is float for key in ("eps", "theta"))


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in INVALID.items() for value in values])
def test_invalid_values_are_refused_with_file_field_and_value(name, value):
    with pytest.raises(ValueError, match=f"^config.json has {name} .*; it must be ") as error:
        read_fields("config.json", {name: value}, FIELDS)
    assert as_json(value) in str(error.value)


def test_all_invalid_fields_are_named_at_once():
    with pytest.raises(
        ValueError, match="config.json has layers 0; it must be an integer from 1 to 9. It has act null; "
    ):
        read_fields("config.json", {"act": None, "layers": 0}, FIELDS)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(list(FIELDS)), values))
def test_anything_that_json_can_hold_is_read_or_refused(config):
    config = json.loads(json.dumps(config))
    try:
        fields = read_fields("config.json", config, FIELDS)
    except ValueError:
        return
    assert list(fields) == list(FIELDS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "x is damaged: Expecting value"),
        (b"[1]", "x is damaged: it is a list; it must be a JSON object"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', 'x is damaged: the field "c" is there more than once'),
        (b"[" * 10**5, "x is damaged: its lists and objects are nested too deeply"),
        (b"\xff", "x is damaged: 'utf-8' codec"),
        (b"\xef\xbb\xbf{}", "x is damaged: Unexpected UTF-8 BOM"),
    ],
)
def test_damaged_json_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_json_object(text, "x")


def test_values_in_messages_are_short():
    assert as_json(None) == "null"
    assert as_json("\x1b[31m") == '"\\u001b[31m"'
    assert len(as_json(list(range(1000)))) == 80
    nested = []
    for _ in range(10**5):
        nested = [nested]
    assert as_json(nested) == "a deeply nested list"


def test_a_field_without_a_default_must_be_there():
    with pytest.raises(FileError, match="^a.json has no name; it must be a text$") as error:
        read_fields("a.json", {}, {"name": text()})
    assert (error.value.path, error.value.field, error.value.must_be) == ("a.json", "name", "a text")
    assert read_fields("a.json", {"name": "x"}, {"name": text()}) == {"name": "x"}
    with pytest.raises(FileError, match="has name"):
        read_fields("a.json", {"name": "\ud800"}, {"name": text()})
