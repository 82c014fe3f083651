"""Configurations: frozen dataclasses that become plain JSON data, and are read back with every field checked.

    to_dict(GQA(num_heads=8, rope=RoPE(theta=1e6)))
    {"type": "GQA", "num_heads": 8, …, "rope": {"type": "RoPE", "theta": 1000000.0, …}}

A field is annotated with what it may hold: bool, int, float, str, a Literal, None, another configuration, a tuple of
these, or a union. `from_dict` checks data, such as that of a file, against the annotations.
"""

import dataclasses
import reprlib
import sys
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as data for JSON: its fields, those of nested ones as dicts, and the class's name as `type`."""
    values = {field.name: _to_data(getattr(config, field.name)) for field in dataclasses.fields(config)}
    return {"type": type(config).__name__, **values}


def from_dict(data: Any, expected: Any, name: str = "config") -> Any:
    """The configuration that `to_dict` made the data from.

    expected   the class, or a union of classes; `type` names the class: from_dict(data, GQA | MLA)
    name       what the data is called in messages

    A field that is left out gets its default. Raises ValueError that names the field, what it was and what it must be.
    """
    choices = _choices(expected)
    if isinstance(data, dict):
        return _read_config(data, [choice for choice in choices if dataclasses.is_dataclass(choice)], name)
    for choice in choices:
        if get_origin(choice) is tuple and isinstance(data, (list, tuple)):
            return tuple(from_dict(item, get_args(choice)[0], f"{name}[{i}]") for i, item in enumerate(data))
        if get_origin(choice) is Literal and data in get_args(choice):
            return data
        if choice is float and type(data) in (int, float) and abs(data) <= sys.float_info.max:
            return float(data)
        if type(data) is choice:
            return data
    raise ValueError(
        f"{name} is {reprlib.repr(data)}; it must be {' or '.join(_describe(choice) for choice in choices)}"
    )


def _to_data(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return [_to_data(item) for item in value] if isinstance(value, (list, tuple)) else value


def _read_config(data: dict[str, Any], classes: list[Any], name: str) -> Any:
    """The instance of that class of the list which data["type"] names."""
    found = {cls.__name__: cls for cls in classes}
    kind = data.get("type")
    if not found:
        raise ValueError(f"{name} is a dict; it must not be one")
    if not isinstance(kind, str) or kind not in found:
        raise ValueError(f"{name} has the type {reprlib.repr(kind)}; it must be {' or '.join(found)}")
    hints = get_type_hints(found[kind])
    fields = {field.name: field for field in dataclasses.fields(found[kind])}
    if unknown := [key for key in data if key != "type" and key not in fields]:
        raise ValueError(f"{name} has the field {unknown[0]!r}; it must be one of {', '.join(fields)}")
    for field in fields.values():
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if field.name not in data and not has_default:
            raise ValueError(f"{name} has no {field.name}; {kind} must have one")
    values = {key: from_dict(value, hints[key], f"{name}.{key}") for key, value in data.items() if key != "type"}
    try:
        return found[kind](**values)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _choices(expected: Any) -> tuple[Any, ...]:
    """The members of a union; anything else as the only one."""
    return get_args(expected) if get_origin(expected) in (Union, UnionType) else (expected,)


def _describe(choice: Any) -> str:
    if choice is NoneType:
        return "null"
    if get_origin(choice) is Literal:
        return " or ".join(repr(value) for value in get_args(choice))
    if get_origin(choice) is tuple:
        return f"a list of {' or '.join(_describe(item) for item in _choices(get_args(choice)[0]))}"
    return choice.__name__
