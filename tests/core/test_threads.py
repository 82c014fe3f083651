import multiprocessing
import os
import threading

import numpy as np
import pytest

from npllm.core import threads
from npllm.core.threads import current_num_threads, faster_num_threads, limit_threads, num_threads, parallel


@pytest.fixture
def two_threads():
    """BLAS uses two threads, whatever the environment variables are."""
    with limit_threads(2):
        if current_num_threads() != 2:
            pytest.skip("BLAS has one thread")
        yield


def times(monkeypatch, with_one, with_two):
    """Let a step take these seconds; returns the list of the numbers of threads that are timed."""
    timed = []
    monkeypatch.setattr(threads, "_time", lambda step, n: (timed.append(n), {1: with_one, 2: with_two}[n])[1])
    return timed


def test_limit_threads_holds_inside_its_context_only(two_threads):
    with limit_threads(1):
        assert current_num_threads() == 1
    assert current_num_threads() == 2


@pytest.mark.parametrize(
    ("with_one", "with_two", "chosen"),
    [(0.2, 0.1, 2), (0.1, 0.2, 1), (0.112, 0.1, 2), (0.108, 0.1, 1), (0.0011, 0.0005, 2)],
)
def test_the_faster_number_is_chosen(two_threads, monkeypatch, with_one, with_two, chosen):
    timed = times(monkeypatch, with_one, with_two)
    assert faster_num_threads(lambda: None) == (chosen, {1: with_one, 2: with_two})
    assert timed == [1, 1, 2, 1, 2, 1, 2]


def test_a_short_step_gets_one_thread(two_threads, monkeypatch):
    timed = times(monkeypatch, 0.0009, 0.0001)
    assert faster_num_threads(lambda: None) == (1, {})
    assert timed == [1]


def test_a_slow_step_is_timed_once_with_each_number(two_threads, monkeypatch):
    timed = times(monkeypatch, 2.0, 1.0)
    monkeypatch.setattr(threads, "MAX_SECONDS", 0.0)
    assert faster_num_threads(lambda: None).num_threads == 2
    assert timed == [1, 1, 2]


def test_steps_run_with_the_number_of_threads_that_is_timed(two_threads):
    numbers = []
    threads._time(lambda: numbers.append(current_num_threads()), 1)
    threads._time(lambda: numbers.append(current_num_threads()), 2)
    assert numbers == [1, 2]


def test_without_a_second_thread_nothing_is_timed():
    with limit_threads(1):
        assert faster_num_threads(lambda: pytest.fail("the step must not run")) == (1, {})


@pytest.mark.parametrize("number", [1, 2, 3])
def test_parallel_returns_the_results_in_order(number):
    with limit_threads(number):
        assert num_threads() == number
        assert parallel(lambda item: item * item, range(20)) == [item * item for item in range(20)]
        assert parallel(str, []) == []


def test_several_threads_take_part():
    barrier = threading.Barrier(2, timeout=60)
    with limit_threads(2):
        names = parallel(lambda item: (barrier.wait(), threading.get_ident())[1], range(2))
    assert len(set(names)) == 2


def test_nested_and_simultaneous_calls_run_in_turn(two_threads):
    def inner(item):
        return set(parallel(lambda _: threading.get_ident(), range(8))) == {threading.get_ident()}

    assert parallel(inner, range(8)) == [True] * 8


def test_blas_has_one_thread_inside_and_the_number_from_before_afterwards(two_threads):
    assert parallel(lambda item: current_num_threads(), range(3)) == [1, 1, 1]
    assert current_num_threads() == 2


@pytest.mark.parametrize("raising", range(6))
def test_an_exception_is_raised_after_the_items_that_have_begun(raising):
    def function(item):
        begun.append(item)
        if item == raising:
            raise IndexError("of this item")
        finished.append(item)

    begun, finished = [], []
    with limit_threads(2), pytest.raises(IndexError, match="of this item"):
        parallel(function, range(6))
    assert sorted([*finished, raising]) == sorted(begun)
    with limit_threads(2):
        assert parallel(abs, [-1, -2, -3]) == [1, 2, 3]


def test_errstate_holds_in_all_threads():
    barrier = threading.Barrier(2, timeout=60)

    def divide(item):
        barrier.wait()
        return float(np.ones(3)[0] / np.zeros(3)[0])

    with limit_threads(2), np.errstate(divide="ignore"):
        assert parallel(divide, range(2)) == [np.inf, np.inf]
    with limit_threads(2), np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        parallel(divide, range(2))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_has_a_pool_of_its_own(two_threads):
    assert parallel(abs, [-1, -2]) == [1, 2]
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_squares).get(timeout=60) == [0, 1, 4, 9]


def _squares():
    return parallel(lambda item: item * item, range(4))
