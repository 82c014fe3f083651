import pytest

from npllm.utils import threads
from npllm.utils.threads import current_num_threads, faster_num_threads, limit_threads


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
