import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.slopes import fit_slope, points, series, upper_half


@given(st.floats(-3, 3), st.floats(1e-6, 1e3), st.lists(st.integers(1, 10**6), min_size=2, max_size=9, unique=True))
def test_a_power_has_its_exponent_as_slope(exponent, factor, sizes):
    numbers = [factor * size**exponent for size in sizes]
    np.testing.assert_allclose(fit_slope(sizes, numbers), exponent, atol=1e-6)


def test_the_slope_equals_that_of_polyfit():
    sizes, numbers = [1, 2, 4, 8], [3.0, 5.0, 14.0, 20.0]
    assert fit_slope(sizes, numbers) == pytest.approx(np.polyfit(np.log(sizes), np.log(numbers), 1)[0])


def test_one_size_has_no_slope():
    assert fit_slope([4], [1.0]) is None
    assert fit_slope([4, 4], [1.0, 2.0]) is None
    assert fit_slope([], []) is None


def test_series_are_sorted_and_apart():
    jobs = [{"growth": ["a", "T", 4]}, {"growth": ["b", "T", 1]}, {"growth": ["a", "T", 2]}, {}]
    found = series(jobs)
    assert [job["growth"][2] for job in found["a", "T"]] == [2, 4] and len(found["b", "T"]) == 1
    assert points(found["a", "T"], "x", lambda job, who: 7.0 if job["growth"][2] == 4 else None) == ([4], [7.0])


def test_the_larger_half():
    assert upper_half([1, 2, 4, 8, 16, 32, 64, 128], [*range(8)]) == ([16, 32, 64, 128], [4, 5, 6, 7])
    assert upper_half([1, 2], [3, 4]) == ([1, 2], [3, 4])
