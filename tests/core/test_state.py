import numpy as np
import pytest

from npllm.core.state import copy_into


def test_every_array_is_copied_and_keeps_its_dtype():
    own = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(2)}
    arrays = dict(own)
    state = {"b": np.array([1.0, 2.0]), "a": np.arange(6.0).reshape(2, 3)}
    copy_into(own, state, "the model")
    assert own["a"] is arrays["a"] and own["a"].dtype == np.float32
    np.testing.assert_array_equal(own["a"], state["a"])
    np.testing.assert_array_equal(own["b"], state["b"])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"b": None}, KeyError, r"state does not fit the model: missing \['b'\], unknown \[\]"),
        ({"c": np.zeros(1)}, KeyError, r"missing \[\], unknown \['c'\]"),
        ({"b": np.zeros((1, 2))}, ValueError, r"b has shape \(1, 2\); it must be \(2,\)"),
        ({"b": np.zeros(2, int)}, TypeError, "b has dtype int64; it must be floating point"),
    ],
)
def test_nothing_is_written_unless_everything_fits(changes, error, message):
    own = {"a": np.zeros(3), "b": np.zeros(2)}
    state = {"a": np.ones(3), "b": np.ones(2)} | changes
    with pytest.raises(error, match=message):
        copy_into(own, {name: array for name, array in state.items() if array is not None}, "the model")
    assert not own["a"].any() and not own["b"].any()
