import pytest

from benchmarks.limits import Limit, Limits, Work, as_squares, read_by_products, with_backward


class Ticks:
    """A clock that advances by a second for every reading."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def test_the_larger_of_products_and_traffic_is_the_limit():
    limits = Limits(repeats=1, clock=Ticks())
    limits._bandwidth = 100.0
    assert limits.of(Work(((3, 2, 2, 2),), traffic=200.0)) == Limit("matrix products", 3.0)
    assert limits.of(Work(((1, 2, 2, 2),), traffic=200.0)) == Limit("bandwidth", 2.0)
    assert limits.of(Work()) is None
    assert limits.as_dict() == {"bandwidth": 100.0, "product_rates": {"2 × 2 × 2": 16.0}}


def test_a_shape_is_measured_once():
    clock = Ticks()
    limits = Limits(repeats=3, clock=clock)
    limits.of(Work(((1, 2, 3, 4), (2, 2, 3, 4))))
    assert clock.now == 2 * 3


def test_the_backward_has_two_products_for_each():
    assert with_backward([(1, 2, 3, 4)]) == ((1, 2, 3, 4), (1, 2, 4, 3), (1, 4, 2, 3))
    assert Work(with_backward([(1, 2, 3, 4)])).operations == 3 * 2 * 24


def test_operations_as_squares():
    assert Work(as_squares(1e12)).operations == pytest.approx(1e12)


def test_reading_covers_every_number(monkeypatch):
    monkeypatch.setattr("benchmarks.limits.BLOCK_ROWS", 2)
    assert read_by_products(5 * 1024, times=2)() == 2 * 5 * 1024  # all are 1


def test_the_bandwidth_is_positive(monkeypatch):
    monkeypatch.setattr("benchmarks.limits.BYTES_READ", 2**20)
    assert Limits(repeats=1).bandwidth() > 0
