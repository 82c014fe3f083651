import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.vectorized.ragged import stretches


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9))), st.sampled_from([np.int32, np.int64]))
def test_one_behind_the_other(pairs, dtype):
    begins, lengths = np.array(pairs, dtype).reshape(-1, 2).T
    expected = [place for begin, length in pairs for place in range(begin, begin + length)]
    assert stretches(begins, lengths).tolist() == expected
