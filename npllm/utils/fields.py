"""The fields of a JSON file: what each may be, and its value where the file leaves it out.

    LLAMA = {
        "hidden_size": size(4096),
        "num_key_value_heads": optional(size(None)),
        "rms_norm_eps": number(1e-6, low=0.0, high=1.0),
        "hidden_act": choice("silu", ACTIVATIONS),
    }
    fields = read_fields(path, config, LLAMA)

A table is checked before anything is allocated: a file may hold null, a text, true or 10⁹ where a small integer must
be. A field without a default must be in the file. Fields that a table does not name are ignored.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from npllm.utils.file_errors import FileError
from npllm.utils.json_files import as_json

MAX_SIZE = 2**31 - 1  # of an axis
REQUIRED: Any = object()  # the default of a field that must be in the file


@dataclass(frozen=True)
class Field:
    """One field. `accepts` tells whether a value is valid, `must_be` says in words which values are."""

    default: Any
    must_be: str
    accepts: Callable[[Any], bool]
    convert: Callable[[Any], Any] = lambda value: value


def size(default: int | None, low: int = 1, high: int = MAX_SIZE) -> Field:
    """An integer in [low, high]; true and 1.0 are none."""
    return Field(default, f"an integer from {low} to {high}", lambda value: type(value) is int and low <= value <= high)


def number(default: float | None, low: float = -math.inf, high: float = 1e30, above: float = -math.inf) -> Field:
    """A finite number in [low, high], greater than `above`; it is converted to float."""
    parts = [f"at least {low:g}"] if low > -math.inf else [f"greater than {above:g}"] if above > -math.inf else []
    must_be = " and ".join([*parts, f"at most {high:g}"] if high < 1e30 else parts)

    def accepts(value: Any) -> bool:
        return type(value) in (int, float) and low <= value <= high and value > above and abs(value) <= 1e30

    return Field(default, f"a finite number {must_be}".rstrip(), accepts, float)


def flag(default: bool) -> Field:
    """true or false; 0 and 1 are neither."""
    return Field(default, "true or false", lambda value: type(value) is bool)


def choice(default: Any, values: Collection[Any]) -> Field:
    """One of these values; `values` may be a dict, whose keys they are."""
    names = " or ".join(as_json(value) for value in values)
    return Field(default, names, lambda value: any(type(value) is type(one) and value == one for one in values))


def only(value: Any, *others: Any) -> Field:
    """A feature that npllm does not have: the field must have the value that switches it off, its default."""
    field = choice(value, (value, *others))
    return replace(field, must_be=f"{field.must_be}, all that npllm supports")


def items(default: Any, item: Field, min_length: int = 0) -> Field:
    """A list whose items are valid for `item`."""

    def accepts(value: Any) -> bool:
        return type(value) is list and len(value) >= min_length and all(item.accepts(each) for each in value)

    def convert(value: list[Any]) -> list[Any]:
        return [item.convert(each) for each in value]

    return Field(default, f"a list, each item {item.must_be}", accepts, convert)


def text(default: str | None = REQUIRED) -> Field:
    """A text, without half of a surrogate pair."""

    def accepts(value: Any) -> bool:
        return type(value) is str and not any("\ud800" <= character <= "\udfff" for character in value)

    return Field(default, "a text", accepts)


def table(default: Any = None, min_length: int = 0) -> Field:
    """An object with at least `min_length` entries."""
    must_be = f"an object with at least {min_length} entry" if min_length else "an object"
    return Field(default, must_be, lambda value: type(value) is dict and len(value) >= min_length)


def has_texts(*names: str) -> Field:
    """An object whose fields of these names are texts; without names, all of its fields."""
    is_text = text().accepts

    def accepts(value: Any) -> bool:
        return type(value) is dict and all(is_text(value.get(name)) for name in names or value)

    return Field(None, f"an object with the texts {', '.join(names)}" if names else "an object of texts", accepts)


def any_of(*fields: Field, must_be: str | None = None) -> Field:
    """A value that is valid for one of the fields, whose default is that of the first."""

    def convert(value: Any) -> Any:
        return next(field for field in fields if field.accepts(value)).convert(value)

    must_be = must_be or ", or ".join(field.must_be for field in fields)
    return Field(fields[0].default, must_be, lambda value: any(field.accepts(value) for field in fields), convert)


def optional(field: Field) -> Field:
    """The same field, which may also be null."""
    return replace(
        field,
        must_be=f"{field.must_be}, or null",
        accepts=lambda value: value is None or field.accepts(value),
        convert=lambda value: None if value is None else field.convert(value),
    )


def read_fields(
    path: str | Path, content: Mapping[str, Any], fields: Mapping[str, Field], within: str = ""
) -> dict[str, Any]:
    """The value of every field of the table, from the file or by default.

    path     of the file
    within   the field of the file that `content` is, such as "rope_scaling": its fields are rope_scaling.factor, …

    Raises FileError that names every invalid or missing field, what it is and what it must be.
    """
    invalid = [key for key, field in fields.items() if key in content and not field.accepts(content[key])]
    missing = [key for key, field in fields.items() if key not in content and field.default is REQUIRED]
    prefix = f"{within}." if within else ""
    problems = [f"{prefix}{key} {as_json(content[key])}; it must be {fields[key].must_be}" for key in invalid]
    problems += [f"no {prefix}{key}; it must be {fields[key].must_be}" for key in missing]
    first = next(iter(invalid + missing), None)
    if first is not None:
        value = content.get(first)
        refuse(path, problems, field=f"{prefix}{first}", value=value, must_be=fields[first].must_be)
    return {key: field.convert(content[key]) if key in content else field.default for key, field in fields.items()}


def refuse(path: str | Path, problems: list[str], **first: Any) -> None:
    """Raise FileError if there are problems: one error for all of them, with the field of the `first`."""
    if problems:
        raise FileError(path, f"has {'. It has '.join(problems)}", **first)
