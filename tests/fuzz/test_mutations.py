"""Damage: the same for the same seed, different for others, and of every kind."""

import json

import numpy as np

from tests.fuzz.mutations import BYTE_CHANGES, ODD_VALUES, mutate_bytes, mutate_json

TREE = {"a": 1, "b": [1.5, {"c": None, "d": [True, "x"]}], "e": {"f": {}}}


def test_a_seed_determines_the_damage():
    data = bytes(range(200))
    for damage, value in ((mutate_bytes, data), (mutate_json, TREE)):
        first, second = ([damage(np.random.default_rng(seed), value) for seed in range(50)] for _ in range(2))
        assert first == second and len(set(first)) > 40


def test_each_change_of_bytes_works_on_few_bytes_and_on_none():
    for change in BYTE_CHANGES:
        for data in (b"", b"a", b"two\nlines\n"):
            changed = [change(np.random.default_rng(seed), data, len(data)) for seed in range(20)]
            assert all(isinstance(one, bytes) for one in changed)
            assert data != b"two\nlines\n" or any(one != data for one in changed), change.__name__


def test_damaged_json_is_text_that_differs_in_what_it_says():
    texts = [mutate_json(np.random.default_rng(seed), TREE) for seed in range(400)]
    values, errors = [], 0
    for text in texts:
        try:
            values.append(json.loads(text))
        except (ValueError, RecursionError):
            errors += 1
    assert 0 < errors < 100
    assert sum(value == TREE for value in values) < 60
    assert any(text.count(b'"a":') > 1 for text in texts), "a field twice"
    assert TREE == {"a": 1, "b": [1.5, {"c": None, "d": [True, "x"]}], "e": {"f": {}}}, "the value itself is unchanged"


def test_no_damage_changes_the_odd_values_themselves():
    before = repr(ODD_VALUES)
    for seed in range(2000):
        mutate_json(np.random.default_rng(seed), TREE)
    assert repr(ODD_VALUES) == before
