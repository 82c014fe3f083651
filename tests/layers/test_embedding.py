import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm import layers
from npllm.core.gradient_check import check_gradients
from npllm.layers import Embedding
from npllm.layers.embedding import sum_by_id, sums_by_id
from tests.equivalence import check_function, check_layer, implementation
from tests.strategies import arrays, dtypes, integers, leading, sizes


@st.composite
def lookups(draw):
    """Ids with many repetitions, and a table."""
    rows, channels = draw(st.integers(1, 9)), draw(sizes)
    ids = draw(integers((*draw(leading), draw(st.integers(0, 12))), rows))
    return ids, draw(arrays((rows, channels), draw(dtypes)))


@pytest.mark.covers("embedding")
class TestFunction:
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
        assert dweight.dtype == np.float32
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

    def test_invalid_arguments(self):
        with pytest.raises(TypeError, match="ids has dtype float64"):
            F.embedding(np.array([0.0]), np.zeros((4, 2)))
        with pytest.raises(ValueError, match=r"weight has shape \(4,\)"):
            F.embedding(np.array([0]), np.zeros(4))
        with pytest.raises(IndexError, match="padding_idx"):
            F.embedding(np.array([0]), np.zeros((4, 2)), padding_idx=4)


class TestOneHot:
    @given(lookups())
    def test_a_single_one_in_the_row_of_each_id(self, drawn):
        ids, weight = drawn
        hot = F.one_hot(ids, len(weight))
        assert hot.dtype == np.float32
        assert (hot.sum(axis=-1) == 1).all()
        np.testing.assert_array_equal(hot.argmax(axis=-1), ids)


@pytest.mark.covers("Embedding")
class TestLayer:
    @given(st.data(), dtypes, leading, sizes, sizes)
    def test_equals_pytorch(self, data, dtype, batch, rows, channels):
        config = {"num_embeddings": rows, "embedding_dim": channels}
        config["padding_idx"] = data.draw(st.none() | st.integers(0, rows - 1))
        check_layer("Embedding", config, data.draw(integers((*batch, 5), rows)), dtype=dtype)

    def test_invalid_arguments(self):
        with pytest.raises(IndexError, match=r"padding_idx is 4; it must be in \[-4, 4\)"):
            Embedding(4, 2, padding_idx=4)
        with pytest.raises(ValueError, match="num_embeddings is 0; it must be at least 1"):
            Embedding(0, 2)


class TestSumById:
    @given(st.data(), dtypes, st.integers(0, 40), sizes, sizes)
    def test_equals_a_plain_loop(self, data, dtype, num_rows, num_ids, channels):
        ids = data.draw(integers((num_rows,), num_ids))
        rows = data.draw(arrays((num_rows, channels), dtype))
        expected = np.zeros((num_ids, channels), dtype)
        for id_, row in zip(ids, rows):
            expected[id_] += row
        y = sum_by_id(rows, ids, num_ids)
        assert y.dtype == dtype
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "uint64"])
    def test_ids_of_every_integer_dtype(self, dtype):
        y = sum_by_id(np.array([[1.0], [2.0], [4.0]]), np.array([2, 0, 2], dtype), 3)
        np.testing.assert_array_equal(y, [[2], [0], [5]])

    def test_equals_pytorch_for_ids_as_frequent_as_in_a_text(self):
        rng = np.random.default_rng(0)
        ids, rows = rng.zipf(1.2, 500) % 97, rng.standard_normal((500, 33), dtype=np.float32)
        expected = torch.zeros(97, 33).index_add_(0, torch.from_numpy(ids), torch.from_numpy(rows)).numpy()
        np.testing.assert_allclose(sum_by_id(rows, ids, 97), expected, rtol=1e-5, atol=1e-5)

    def test_the_ids_are_distinct_and_ascending(self):
        ids, sums = sums_by_id(np.array([[1.0], [2.0], [4.0]]), np.array([7, 3, 7]))
        np.testing.assert_array_equal(ids, [3, 7])
        np.testing.assert_array_equal(sums, [[2], [5]])


@given(lookups(), st.data())
def test_a_gradient_that_is_there_already_is_added_to(drawn, data):
    ids, weight = drawn
    padding_idx = data.draw(st.none() | st.integers(0, len(weight) - 1))
    layer = Embedding(*weight.shape, padding_idx, dtype=weight.dtype)
    y, cache = layer.forward(ids)
    rng = np.random.default_rng(0)
    first, dy = rng.standard_normal(weight.shape).astype(weight.dtype), rng.standard_normal(y.shape).astype(y.dtype)
    layer.weight.grad = first.copy()
    layer.backward(dy, cache)
    np.testing.assert_allclose(layer.weight.grad, first + F.embedding_backward(dy, cache), rtol=1e-6)


@pytest.mark.filterwarnings("error")
def test_gradients_that_overflow_are_infinite_without_a_warning():
    layer = layers.Embedding(5, 3)
    y, cache = layer.forward(np.array([[1, 1, 2]]))
    for _ in range(2):
        layer.backward(np.full_like(y, np.finfo(y.dtype).max), cache)
    assert np.isinf(layer.weight.grad).any()
