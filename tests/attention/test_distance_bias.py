"""A bias by distance: the array of all pairs, the tiles of a head, and the gradient of the table agree."""

import numpy as np
import pytest

from npllm.attention.distance_bias import DistanceBias, add_by_distance

TABLE = np.arange(12.0).reshape(2, 6)


@pytest.mark.parametrize("batch", [False, True])
def test_array_tiles_and_gradient(batch):
    queries, keys = np.arange(2, 6), np.arange(6)
    if batch:
        padding = np.array([0, 1, 2])[:, None, None]
        queries, keys = queries - padding, keys - padding
    bias = DistanceBias(TABLE, queries, keys)
    array = bias.array()
    assert array.shape == ((3, 2, 4, 6) if batch else (2, 4, 6))
    dbias = np.random.default_rng(0).standard_normal(array.shape)
    dtable = np.zeros_like(TABLE)
    for index in np.ndindex(*array.shape[:-2]):
        head = bias.head(index)
        rows, columns = slice(1, 3), slice(2, 6)
        np.testing.assert_array_equal(head[rows, columns], array[index][rows, columns])
        for t, s in np.ndindex(4, 6):
            distance = max(t + 2 - s, 0)
            assert array[index][t, s] == TABLE[index[-1], distance]
            dtable[index[-1], distance] += dbias[index][t, s]
    np.testing.assert_allclose(bias.table_gradient(dbias), dtable)


def test_the_gradient_has_the_dtype_of_the_table():
    bias = DistanceBias(TABLE.astype(np.float32), np.arange(3), np.arange(3))
    assert bias.table_gradient(np.ones((2, 3, 3), np.float32)).dtype == np.float32


def test_sums_by_distance():
    dtable = np.ones(3)
    add_by_distance(dtable, np.array([[0, 2], [2, 2]]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert dtable.tolist() == [2, 1, 10]
