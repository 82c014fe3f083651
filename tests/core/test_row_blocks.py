import numpy as np
import pytest

from npllm.core import row_blocks
from npllm.core.row_blocks import for_each_block, map_elements, map_rows, update_rows
from npllm.core.threads import limit_threads

SHAPES = [(0, 3), (3, 0), (1,), (7,), (64,), (65,), (5, 13), (4, 3, 16), (129, 1), (1, 200), (2, 3, 1)]


@pytest.fixture(autouse=True, params=[1, 2])
def small_blocks(request, monkeypatch):
    """Blocks of 16 numbers, so that small arrays have many, on one thread and on two."""
    monkeypatch.setattr(row_blocks, "BLOCK_SIZE", 16)
    monkeypatch.setattr(row_blocks, "MIN_SIZE", 32)
    with limit_threads(request.param):
        yield


def softmax_and_maximum(x):
    maximum = x.max(axis=-1, initial=-np.inf)
    y = np.exp(x - maximum[..., None])
    return y / y.sum(axis=-1, keepdims=True), maximum


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_elements(shape, dtype):
    x, y = np.random.default_rng(0).standard_normal((2, *shape)).astype(dtype)
    result = map_elements(lambda a, b: a * b + 1, x, y)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, x * y + 1)
    pair = map_elements(lambda a: (a > 0, -a), x)
    assert isinstance(pair, tuple)
    np.testing.assert_array_equal(pair[0], x > 0)
    np.testing.assert_array_equal(pair[1], -x)


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_and_results_of_other_shapes(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    for result, expected in zip(map_rows(softmax_and_maximum, x), softmax_and_maximum(x), strict=True):
        assert result.shape == expected.shape
        np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(map_rows(lambda a: a.sum(axis=-1), x), x.sum(axis=-1))


@pytest.mark.parametrize("shape", [(5, 13), (4, 3, 16), (40, 2)])
def test_further_arrays_have_the_leading_axes(shape):
    rng = np.random.default_rng(0)
    x, scale, ids = rng.standard_normal(shape), rng.standard_normal((*shape[:-1], 1)), rng.integers(2, size=shape[:-1])
    result = map_rows(lambda x, scale, ids: x * scale + ids[..., None], x, scale, ids)
    np.testing.assert_array_equal(result, x * scale + ids[..., None])


@pytest.mark.parametrize("shape", [(1, 3), (5, 13), (4, 3, 16), (40, 2)])
def test_what_the_blocks_return(shape):
    x = np.arange(np.prod(shape), dtype=float).reshape(shape)
    rows = np.concatenate([block.reshape(-1, shape[-1]) for block in update_rows(lambda x: 2 * x, x)])
    np.testing.assert_array_equal(rows.reshape(shape), 2 * x)  # in order


def test_arrays_that_are_not_contiguous():
    x = np.random.default_rng(0).standard_normal((30, 40))
    for view in (x.T, x[::2, ::3], x[::-1], np.broadcast_to(x[0], (9, 40))):
        np.testing.assert_array_equal(map_elements(lambda a: a + 1, view), view + 1)
        np.testing.assert_array_equal(map_rows(lambda a: a + a[..., :1], view), view + view[..., :1])


def test_blocks_have_the_size_that_is_said():
    sizes = []
    map_rows(lambda a: (sizes.append(a.shape), a)[1], np.zeros((10, 7)))
    assert sorted(sizes) == [(2, 7)] * 5
    sizes.clear()
    map_rows(lambda a: (sizes.append(a.shape), a)[1], np.zeros((2, 31)))  # a row is never divided
    assert sizes == [(1, 31)] * 2
    sizes.clear()
    map_elements(lambda a: (sizes.append(a.shape), a)[1], np.zeros((3, 5)))  # small: as it is
    assert sizes == [(3, 5)]


@pytest.mark.parametrize("shape", [(1, 3), (5, 13), (4, 3, 16), (40, 2)])
def test_a_formula_that_returns_a_tuple_of_one(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    (result,) = map_rows(lambda a: (a + 1,), x)
    np.testing.assert_array_equal(result, x + 1)
    (result,) = map_elements(lambda a: (a + 1,), x)
    np.testing.assert_array_equal(result, x + 1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axis", [-1, -2])
def test_rows_that_are_written(shape, axis):
    if len(shape) < -axis:
        pytest.skip("no such axis")

    def formula(x, y, maximum):
        np.subtract(x, x.max(axis=axis, keepdims=True, initial=0), out=y)
        maximum[...] = x.max(axis=-1, keepdims=True, initial=0)

    x = np.random.default_rng(0).standard_normal(shape)
    y, maximum = np.full(x.shape, np.nan), np.full((*x.shape[:-1], 1), np.nan)
    update_rows(formula, x, y, maximum, axis=axis)
    np.testing.assert_array_equal(y, x - x.max(axis=axis, keepdims=True, initial=0))
    np.testing.assert_array_equal(maximum, x.max(axis=-1, keepdims=True, initial=0))


def test_each_block_of_several_arrays():
    arrays = [np.arange(20.0), np.arange(40.0).reshape(5, 8).T, np.zeros((0, 3)), np.ones((4, 9)), np.ones(())]
    assert sum(for_each_block(np.sum, arrays)) == sum(array.sum() for array in arrays)
    assert {block.size for block in for_each_block(lambda block: block, arrays)} == {16, 4, 40, 1}
    expected = [2 * array for array in arrays]
    for_each_block(lambda block: np.multiply(block, 2, out=block), arrays)
    for array, twice in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(array, twice)
