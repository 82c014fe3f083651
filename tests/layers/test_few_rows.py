import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.layers import few_rows
from npllm.layers.few_rows import times_transposed
from tests.strategies import dtypes, lay_out, layouts, seeds

SHAPES = [(2 * few_rows.MIN_SIZE // 300 + 5, 300), (33, few_rows.MIN_SIZE // 33 + 7), (4, 5), (0, 3), (3, 0)]


@given(st.integers(0, 40), st.sampled_from(SHAPES), seeds, dtypes, layouts, st.sampled_from(["C", "F"]))
def test_every_form_is_the_matrix_product(num_rows, shape, seed, dtype, layout, order):
    rng = np.random.default_rng(seed)
    x = lay_out(rng.standard_normal((num_rows, shape[1])).astype(dtype), layout)
    weight = np.asarray(rng.standard_normal(shape).astype(dtype), order=order)
    y = times_transposed(x, weight)
    assert (y.dtype, y.shape, y.flags.c_contiguous) == (dtype, (num_rows, shape[0]), True)
    scale = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(y, x.astype(np.float64) @ weight.astype(np.float64).T, rtol=scale, atol=50 * scale)


@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 9, 32])
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_special_numbers_reach_their_own_row_and_output_only(num_rows, special):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((num_rows, 700)), rng.standard_normal((101, 700))
    expected = times_transposed(x, weight)
    x[-1, 3] = special
    weight[100, 5] = special
    with np.errstate(invalid="ignore"):
        y = times_transposed(x, weight)
        np.testing.assert_array_equal(y[:-1, :-1], expected[:-1, :-1])
        np.testing.assert_array_equal(y[-1, :-1], x[-1] @ weight[:-1].T)
    assert not np.isfinite(y[:, -1]).any()


def test_each_number_of_rows_has_its_form(monkeypatch):
    used = []
    vecdot, in_blocks = np.vecdot, few_rows._in_blocks
    monkeypatch.setattr(np, "vecdot", lambda *a: used.append("dots") or vecdot(*a))
    monkeypatch.setattr(few_rows, "_in_blocks", lambda *a: used.append("blocks") or in_blocks(*a))
    weight = np.ones((few_rows.MIN_SIZE // 16, 16))
    for num_rows, form in ((0, []), (1, ["dots"]), (3, ["dots"]), (4, ["blocks"]), (32, ["blocks"]), (33, [])):
        used.clear()
        times_transposed(np.ones((num_rows, 16)), weight)
        assert used == form, num_rows
    times_transposed(np.ones((1, 16)), weight[1:])
    assert used == []
