"""How sequences are cut; that the numbers are right is tested with the functions that use it."""

import numpy as np
import pytest

from npllm.attention.paths import attention_path
from npllm.attention.variants import chunks
from npllm.core.threads import limit_threads


@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("leading", [(), (1,), (3,), (12,), (17,), (2, 5), (2, 1, 3), (0, 2), (2, 0)])
def test_every_head_is_in_one_group(leading, num_threads):
    x, counts = np.zeros((*leading, 4, 2)), np.zeros((*leading, 4, 1))
    sizes = []

    def count(x, counts, nothing):
        assert nothing is None
        assert x.shape[-2:] == (4, 2)
        assert len(x) == len(counts) <= chunks.MAX_HEADS
        counts += 1
        sizes.append(len(x))

    with limit_threads(num_threads):
        chunks.for_head_groups(count, x, counts, None)
    np.testing.assert_array_equal(counts, np.ones_like(counts))
    if leading == (12,):
        assert len(sizes) >= num_threads


@pytest.mark.parametrize("last_first", [False, True])
def test_chunks_cover_all_positions(last_first):
    k = np.zeros((2, 11, 3))
    found = [rows for rows, _ in chunks.each_chunk(k, None, 4, last_first)]
    expected = [slice(0, 4), slice(4, 8), slice(8, 11)]
    assert found == (expected[::-1] if last_first else expected)


def test_factors_between_positions_of_documents():
    ids = np.array([[7, 7, 1, 1, 1, 2, 2, 2]])
    starts = chunks.starts_of_documents(ids, (1, 8))
    first, second = (reach for _, reach in chunks.each_chunk(np.zeros((1, 8, 3)), starts, 4))
    np.testing.assert_array_equal(first.from_start[..., 0], [[1, 1, 0, 0]])
    np.testing.assert_array_equal(first.to_end[..., 0], [[0, 0, 1, 1]])
    np.testing.assert_array_equal(first.within[0], [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]])
    np.testing.assert_array_equal(first.before[0], first.within[0] - np.eye(4))
    np.testing.assert_array_equal(second.from_start[..., 0], [[1, 0, 0, 0]])
    assert first.across == second.across == 0


def test_the_length_decides_unless_a_path_is_forced():
    assert chunks.takes_chunks(8, 8)
    assert not chunks.takes_chunks(7, 8)
    with attention_path("tiled"):
        assert chunks.takes_chunks(1, 8)
    with attention_path("plain"):
        assert not chunks.takes_chunks(999, 8)
