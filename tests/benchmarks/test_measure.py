"""The timing, with a simulated clock: the order of the runs, the statistics, and the errors."""

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measure import LOOPS, OURS, Job, Measurement, close, measure, quartiles


class Clock:
    """A simulated clock: only the contenders advance it."""

    def __init__(self):
        self.now, self.ran = 0.0, []

    def __call__(self):
        return self.now

    def contender(self, name, seconds, result=7):
        """A function that takes the given seconds, or those that an iterator gives, call by call."""

        def run():
            self.ran.append(name)
            self.now += seconds if isinstance(seconds, float) else next(seconds)
            return result

        return run


def test_contenders_take_turns():
    clock = Clock()
    job = Job("j", "s", clock.contender("a", 1.0), {"B": clock.contender("b", 2.0)}, clock.contender("c", 3.0))
    found = measure(job, rounds=4, min_time=0.0, clock=clock)
    assert clock.ran == ["a", "b", "c"] + ["a", "b", "c"] * 4
    assert found.seconds == {OURS: [1.0] * 4, "B": [2.0] * 4, LOOPS: [3.0] * 4}
    assert found.others == ["B", LOOPS]
    assert found.ratio("B") == (2.0, 2.0, 2.0)


def test_a_quick_contender_runs_often_enough_in_each_round():
    clock = Clock()
    job = Job("j", "s", clock.contender("a", 0.001), {"B": clock.contender("b", 0.5)})
    found = measure(job, rounds=3, min_time=0.02, clock=clock)
    assert found.calls == {OURS: 20, "B": 1}
    assert clock.ran.count("a") == 2 + 3 * 20, "to warm up, to see how long it takes, and three rounds"
    assert clock.ran.count("b") == 1 + 3
    np.testing.assert_allclose(found.seconds[OURS], 0.001)


def test_the_first_call_does_not_count():
    clock = Clock()
    ours = clock.contender("a", iter([100.0] + [1.0] * 9))
    found = measure(Job("j", "s", ours, {"B": clock.contender("b", 1.0)}), rounds=3, min_time=0.0, clock=clock)
    assert found.seconds[OURS] == [1.0, 1.0, 1.0]


def test_setup_runs_before_every_call_and_is_not_timed():
    clock = Clock()
    job = Job("j", "s", clock.contender("a", 0.01), {"B": clock.contender("b", 2.0)}, before=clock.contender("-", 5.0))
    found = measure(job, rounds=2, min_time=0.02, clock=clock)
    assert clock.ran[1::2].count("a") == 2 + 2 * 2
    assert set(clock.ran[::2]) == {"-"}
    np.testing.assert_allclose(found.seconds[OURS], 0.01)
    np.testing.assert_allclose(found.seconds["B"], 2.0)


def test_a_very_slow_contender_runs_once():
    clock = Clock()
    job = Job("j", "s", clock.contender("a", 1.0), loops=clock.contender("b", 50.0))
    found = measure(job, rounds=3, min_time=0.0, clock=clock)
    assert clock.ran == ["a", "b", "a", "b", "a", "a"]
    assert found.ratio(LOOPS) == (50.0, 50.0, 50.0)


def test_ratios_are_taken_within_a_round():
    slow_phase = [1.0, 1.0, 10.0, 10.0, 10.0]  # from the third round on, the whole machine is slow
    found = Measurement("j", "s", {OURS: slow_phase, "B": [2 * s for s in slow_phase]}, {OURS: 1, "B": 1})
    assert found.ratio("B") == (2.0, 2.0, 2.0)
    assert found.time("B") == (2.0, 20.0, 20.0)


def test_a_disturbed_round_does_not_change_the_median():
    found = Measurement("j", "s", {OURS: [1.0] * 5, "B": [3.0, 3.0, 300.0, 3.0, 3.0]}, {OURS: 1, "B": 1})
    assert found.ratio("B")[1] == 3.0


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=20))
def test_quartiles_equal_those_of_numpy(numbers):
    np.testing.assert_allclose(quartiles(numbers), np.percentile(numbers, [25, 50, 75]), rtol=1e-12)


def test_contenders_that_disagree_are_not_timed():
    clock = Clock()
    job = Job("sums", "s", clock.contender("a", 1.0, 7), {"wrong": clock.contender("b", 1.0, 8)})
    with pytest.raises(AssertionError, match="sums: wrong and npllm give different results"):
        measure(job, rounds=3, min_time=0.0, clock=clock)
    assert clock.ran == ["a", "b"]


def test_a_job_may_define_agreement():
    clock, calls = Clock(), []
    job = Job(
        "j", "s", clock.contender("a", 1.0, 7), {"B": clock.contender("b", 1.0, 8)}, agree=lambda *r: calls.append(r)
    )
    measure(job, rounds=1, min_time=0.0, clock=clock)
    assert calls == [(8, 7)]


def test_the_garbage_collector_is_disabled_while_timing():
    states = []
    measure(Job("j", "s", lambda: states.append(gc.isenabled())), rounds=2, min_time=0.0)
    assert states == [False] * 3
    assert gc.isenabled()

    def broken():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        measure(Job("j", "s", broken), rounds=1, min_time=0.0)
    assert gc.isenabled()


ARRAY = np.array([1.0, 2.0], np.float32)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (ARRAY + np.float32(1e-6), ARRAY),
        ([1.0, 2.0], ARRAY),
        ((ARRAY, 3), (ARRAY, 3)),
        ([1, 2, 3], [1, 2, 3]),
        (1e6 * ARRAY + 1, 1e6 * ARRAY),
    ],
)
def test_close_numbers_pass(result, expected):
    close(result, expected)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (ARRAY + np.float32(0.01), ARRAY),
        (np.array([1.0, np.nan]), ARRAY),
        ((ARRAY,), (ARRAY, ARRAY)),
        ((ARRAY, ARRAY + 1), (ARRAY, ARRAY)),
        ([1, 2, 4], [1, 2, 3]),
        ([1, 2], [1, 2, 3]),
        (np.zeros((2, 2)), np.zeros(2)),
    ],
)
def test_distant_numbers_fail(result, expected):
    with pytest.raises(AssertionError):
        close(result, expected)
