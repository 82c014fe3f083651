import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.core.gradient_check import check_gradients
from tests.equivalence import check_function, implementation
from tests.strategies import arrays, dtypes, integers, leading, sizes


@st.composite
def lookups(draw):
    """Ids with many repetitions, and a table."""
    rows, channels = draw(st.integers(1, 9)), draw(sizes)
    ids = draw(integers((*draw(leading), draw(st.integers(0, 12))), rows))
    return ids, draw(arrays((rows, channels), draw(dtypes)))


@pytest.mark.covers("embedding")
class TestEmbedding:
    @given(lookups(), st.data())
    def test_equals_pytorch(self, drawn, data):
        ids, weight = drawn
        rows = len(weight)
        padding_idx = data.draw(st.none() | st.integers(-rows, rows - 1))
        check_function("embedding", ids, weight, padding_idx)

    @given(lookups())
    def test_equals_one_hot_times_matrix_in_value_and_in_gradient(self, drawn):
        ids, weight = drawn
        y, cache = F.embedding_forward(ids, weight)
        hot = F.one_hot(ids, len(weight), weight.dtype)
        np.testing.assert_array_equal(implementation("embedding")(ids, weight), hot @ weight)
        dy = np.random.default_rng(0).standard_normal(y.shape).astype(weight.dtype)
        rows = hot.reshape(-1, len(weight))
        expected = rows.T @ dy.reshape(-1, dy.shape[-1])
        np.testing.assert_allclose(F.embedding_backward(dy, cache), expected, rtol=1e-4, atol=1e-5)

    def test_a_repeated_id_gets_the_sum_of_its_gradients(self):
        _, cache = F.embedding_forward(np.array([1, 1, 1]), np.zeros((3, 2), np.float32))
        dweight = F.embedding_backward(np.array([[1, 10], [2, 20], [4, 40]], np.float32), cache)
        np.testing.assert_array_equal(dweight, [[0, 0], [7, 70], [0, 0]])

    def test_finite_differences(self):
        rng = np.random.default_rng(0)
        ids, weight = rng.integers(0, 4, (3, 5)), rng.standard_normal((4, 2))
        y, cache = F.embedding_forward(ids, weight)
        dy = rng.standard_normal(y.shape)
        check_gradients(lambda w: (F.embedding(ids, w) * dy).sum(), [weight], [F.embedding_backward(dy, cache)], rng)

    @pytest.mark.parametrize("bad", [-1, 4, 2**40])
    def test_an_id_without_a_row_is_an_error(self, bad):
        with pytest.raises(IndexError, match=rf"ids\[0, 1\] is {bad}; it must be in \[0, 4\)"):
            implementation("embedding")(np.array([[0, bad]]), np.zeros((4, 2)))

    def test_bad_arguments(self):
        with pytest.raises(TypeError, match="ids has dtype float64"):
            F.embedding(np.array([0.0]), np.zeros((4, 2)))
        with pytest.raises(ValueError, match=r"weight has shape \(4,\)"):
            F.embedding(np.array([0]), np.zeros(4))
        with pytest.raises(IndexError, match="padding_idx"):
            F.embedding(np.array([0]), np.zeros((4, 2)), padding_idx=4)


class TestOneHot:
    @given(lookups())
    def test_one_one_for_each_id(self, drawn):
        ids, weight = drawn
        hot = F.one_hot(ids, len(weight))
        assert hot.dtype == np.float32
        assert (hot.sum(axis=-1) == 1).all()
        np.testing.assert_array_equal(hot.argmax(axis=-1), ids)
