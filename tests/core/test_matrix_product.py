import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.core import matrix_product
from npllm.core.matrix_product import matmul
from npllm.core.threads import limit_threads

sizes = st.integers(1, 40)


@given(sizes, sizes, sizes, st.sampled_from([1, 2, 3]), st.booleans(), st.booleans(), st.sampled_from("fd"))
def test_equal_to_the_product(m, k, n, threads, transpose_a, transpose_b, dtype):
    rng = np.random.default_rng(0)
    a = rng.integers(-9, 9, (k, m) if transpose_a else (m, k)).astype(dtype)  # whole numbers: sums are exact
    b = rng.integers(-9, 9, (n, k) if transpose_b else (k, n)).astype(dtype)
    a, b = (a.T if transpose_a else a), (b.T if transpose_b else b)
    with pytest.MonkeyPatch.context() as patch, limit_threads(threads):
        patch.setattr(matrix_product, "MIN_OPERATIONS", 0.0)
        patch.setattr(matrix_product, "OPERATIONS", 1000.0)
        c = matmul(a, b)
        out = np.full((m, n), np.nan, dtype)
        assert matmul(a, b, out=out) is out
    assert c.dtype == dtype
    np.testing.assert_array_equal(c, a @ b)
    np.testing.assert_array_equal(out, c)


@pytest.mark.parametrize("shape", [(512, 768, 768), (512, 768, 2304), (2304, 512, 768), (300, 600, 5001)])
def test_the_number_of_threads_does_not_change_the_result(shape):
    m, k, n = shape
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k), dtype=np.float32), rng.standard_normal((n, k), dtype=np.float32).T
    results = []
    for threads in (1, 2, 5):
        with limit_threads(threads):
            results.append(matmul(a, b))
    np.testing.assert_allclose(results[0], a.astype(np.float64) @ b, rtol=1e-4, atol=1e-3)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_pieces_cover_the_product_once():
    for size in (1, 15, 16, 17, 100, 2304, 50257):
        for pieces in (2, 4, 8):
            slices = matrix_product._slices(size, pieces)
            covered = np.concatenate([np.arange(size)[piece] for piece in slices])
            np.testing.assert_array_equal(covered, np.arange(size))
            assert len(slices) <= pieces


def test_small_products_are_one_piece():
    assert matrix_product._num_pieces(1e8) == 1
    assert matrix_product._num_pieces(2 * 512 * 768 * 768) == 2
    assert matrix_product._num_pieces(2 * 512 * 768 * 2304) == 4
    assert matrix_product._num_pieces(1e15) == matrix_product.MAX_PIECES
