import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.vectorized.ragged import gather_segments


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9))), st.sampled_from([np.int32, np.int64]))
def test_segments_are_concatenated_in_order(segments, dtype):
    values = np.random.default_rng(0).integers(0, 1000, 60)
    starts, lengths = np.array(segments, dtype).reshape(-1, 2).T
    expected = [value for start, length in segments for value in values[start : start + length]]
    assert gather_segments(values, starts, lengths).tolist() == expected
