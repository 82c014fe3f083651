import json
from dataclasses import dataclass
from typing import Literal

import pytest

from npllm.core.config import from_dict, to_dict


@dataclass(frozen=True)
class Inner:
    rate: float
    mode: Literal["fast", "slow"] = "fast"

    def __post_init__(self):
        if self.rate < 0:
            raise ValueError(f"rate is {self.rate}; it must be at least 0")


@dataclass(frozen=True)
class Other:
    pass


@dataclass(frozen=True)
class Outer:
    size: int
    inner: Inner | Other | None = None
    names: tuple[str, ...] = ()
    table: tuple[tuple[bool, ...], ...] | None = None
    layers: tuple[Inner | Other, ...] = ()
    flag: bool = False


@pytest.mark.parametrize(
    "config",
    [
        Outer(3),
        Outer(3, Inner(0.5, "slow"), ("a", "b"), ((True, False), (False,)), (Other(), Inner(2.0)), True),
        Outer(0, Other()),
    ],
)
def test_json_and_back(config):
    assert from_dict(json.loads(json.dumps(to_dict(config))), Outer) == config


def test_the_data():
    assert to_dict(Outer(3, Inner(0.5), table=((True,),))) == {
        "type": "Outer", "size": 3, "inner": {"type": "Inner", "rate": 0.5, "mode": "fast"}, "names": [],
        "table": [[True]], "layers": [], "flag": False,
    }  # fmt: skip


def test_fields_left_out_get_their_defaults_and_whole_numbers_become_floats():
    config = from_dict({"type": "Outer", "size": 3, "inner": {"type": "Inner", "rate": 2}}, Inner | Outer)
    assert config == Outer(3, Inner(2.0))
    assert type(config.inner.rate) is float


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, "config is 3; it must be Outer or Other"),
        ([], r"config is \[\]; it must be Outer or Other"),
        ({}, "config has the type None; it must be Outer or Other"),
        ({"type": "Inner", "rate": 1.0}, "config has the type 'Inner'; it must be Outer or Other"),
        ({"type": ["Outer"]}, r"config has the type \['Outer'\]"),
        ({"type": "Outer"}, "config has no size; Outer must have one"),
        ({"type": "Outer", "size": 1, "sizes": 2}, "config has the field 'sizes'; it must be one of size, inner"),
        ({"type": "Outer", "size": 1.0}, "config.size is 1.0; it must be int"),
        ({"type": "Outer", "size": True}, "config.size is True; it must be int"),
        ({"type": "Outer", "size": None}, "config.size is None; it must be int"),
        ({"type": "Outer", "size": {"type": "Other"}}, "config.size is a dict; it must not be one"),
        ({"type": "Outer", "size": 1, "flag": 1}, "config.flag is 1; it must be bool"),
        ({"type": "Outer", "size": 1, "names": "ab"}, "config.names is 'ab'; it must be a list of str"),
        ({"type": "Outer", "size": 1, "names": ["a", 2]}, r"config.names\[1\] is 2; it must be str"),
        ({"type": "Outer", "size": 1, "inner": 2}, "config.inner is 2; it must be Inner or Other or null"),
        ({"type": "Outer", "size": 1, "inner": {"type": "Inner", "rate": "1"}}, "config.inner.rate is '1'"),
        (
            {"type": "Outer", "size": 1, "inner": {"type": "Inner", "rate": 1, "mode": "x"}},
            "config.inner.mode is 'x'; it must be 'fast' or 'slow'",
        ),
        (
            {"type": "Outer", "size": 1, "layers": [{"type": "Inner", "rate": -1.0}]},
            r"config.layers\[0\]: rate is -1.0; it must be at least 0",
        ),
    ],
)
def test_invalid_data(data, message):
    with pytest.raises(ValueError, match=message):
        from_dict(data, Outer | Other)


def test_the_name_of_the_data_is_in_messages():
    with pytest.raises(ValueError, match="attention.size is 'x'"):
        from_dict({"type": "Outer", "size": "x"}, Outer, "attention")
