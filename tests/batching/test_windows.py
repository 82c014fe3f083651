import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from npllm.batching import epoch_stats, sliding_windows
from npllm.batching.windows import count_windows

windows = st.tuples(st.integers(2, 60), st.integers(1, 12), st.integers(1, 20))


@pytest.mark.covers("sliding_windows")
@given(windows)
def test_each_target_is_the_id_that_follows(drawn):
    n, max_length, stride = drawn
    assume(n > max_length)
    ids = np.arange(100, 100 + n)
    inputs, targets = sliding_windows(ids, max_length, stride)
    expected = [
        (list(ids[i : i + max_length]), list(ids[i + 1 : i + max_length + 1])) for i in range(0, n - max_length, stride)
    ]
    assert [(list(x), list(y)) for x, y in zip(inputs, targets)] == expected
    assert len(inputs) == math.ceil((n - max_length) / stride) == count_windows(n, max_length, stride)


def test_windows_are_read_only_views():
    ids = np.arange(1_000_000, dtype=np.uint16)
    inputs, targets = sliding_windows(ids, 1000, 1)
    assert np.shares_memory(inputs, ids)
    assert np.shares_memory(targets, ids)
    assert not inputs.flags.writeable
    assert not targets.flags.writeable
    assert inputs.shape == targets.shape == (999_000, 1000)


@given(windows, st.integers(1, 9), st.booleans())
def test_the_statistics_equal_counting(drawn, batch_size, drop_last):
    n, max_length, stride = drawn
    assume(n > max_length)
    _, targets = sliding_windows(np.arange(n), max_length, stride)
    used = len(targets) // batch_size * batch_size if drop_last else len(targets)
    found = epoch_stats(n, max_length, stride, batch_size, drop_last)
    assert (found.tokens, found.windows, found.windows_dropped) == (n, len(targets), len(targets) - used)
    assert found.batches == math.ceil(used / batch_size)
    assert found.predictions == targets[:used].size
    assert found.distinct_targets == len(np.unique(targets[:used]))
    assert found.dropped_at_end == n - 1 - targets[-1, -1]
    if len(targets) > 1:
        inputs = targets - 1
        assert found.overlap == len(np.intersect1d(inputs[0], inputs[1]))
        assert found.skipped_between == max(0, targets[1, 0] - targets[0, -1] - 1)


def test_the_statistics_as_text():
    text = str(epoch_stats(5145, 256, 128, 4))
    assert text.startswith(
        "5,145 tokens give 39 windows in 9 batches (3 windows dropped): 9,216 predictions of 4,736 distinct"
    )


@pytest.mark.parametrize(
    ("n", "max_length", "stride", "message"),
    [
        (10, 4, 0, "stride is 0; it must be at least 1"),
        (10, 4, -1, "stride is -1"),
        (10, 0, 1, "max_length is 0; it must be at least 1"),
        (4, 4, 1, "the text has 4 tokens; with max_length 4 it must have at least 5"),
        (0, 1, 1, "the text has 0 tokens"),
    ],
)
def test_invalid_sizes(n, max_length, stride, message):
    with pytest.raises(ValueError, match=message):
        sliding_windows(np.arange(n), max_length, stride)


def test_ids_must_be_one_dimensional_integers():
    with pytest.raises(TypeError, match=r"ids has shape \(5,\) and dtype float64"):
        sliding_windows(np.zeros(5), 2, 1)
    with pytest.raises(TypeError, match=r"ids has shape \(5, 2\)"):
        sliding_windows(np.zeros((5, 2), int), 2, 1)
