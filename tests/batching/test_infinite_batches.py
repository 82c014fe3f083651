import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.batching import InfiniteBatches, WindowDataset


def batches(num_ids=50, batch_size=3, seed=0):
    return InfiniteBatches(WindowDataset(np.arange(num_ids), 4, 1), batch_size, np.random.default_rng(seed))


def test_every_epoch_has_each_window_once_in_a_new_order():
    infinite = batches(49, 3)  # 45 windows
    epochs = [np.concatenate([next(infinite)[0][:, 0] for _ in range(15)]) for _ in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(45))
    assert (epochs[0] != epochs[1]).any()
    inputs, targets = next(infinite)
    np.testing.assert_array_equal(targets, inputs + 1)


@given(st.integers(5, 40), st.integers(1, 4), st.integers(0, 60), st.integers(1, 30))
def test_a_saved_state_continues_exactly(num_ids, batch_size, before, after):
    batch_size = min(batch_size, num_ids - 4)
    one = batches(num_ids, batch_size)
    for _ in range(before):
        next(one)
    state = json.loads(json.dumps(one.state()))
    expected = [next(one)[0] for _ in range(after)]
    other = batches(num_ids, batch_size, seed=99)
    next(other)
    other.load_state(state)
    for batch in expected:
        np.testing.assert_array_equal(next(other)[0], batch)


@pytest.mark.parametrize("batch_size", [0, 47])
def test_invalid_batch_sizes(batch_size):
    with pytest.raises(
        ValueError, match=f"batch_size is {batch_size}; it must be .* at most 46, the number of windows"
    ):
        batches(50, batch_size)


def test_a_state_of_another_batch_size_or_of_other_data_is_refused():
    state = json.loads(json.dumps(batches(200, 8).state()))
    for other, message in [
        (batches(200, 3), "batch_size is 3; it must be 8"),
        (batches(100, 8), "number of windows is 96; it must be 196"),
        (InfiniteBatches(WindowDataset(np.arange(200) + 1, 4, 1), 8, np.random.default_rng(0)), "has other ids"),
    ]:
        before = other.state()
        with pytest.raises(ValueError, match=message):
            other.load_state(state)
        assert other.state() == before
    batches(200, 8).load_state({name: state[name] for name in ("epoch_rng", "batches_done")})  # of an older npllm
