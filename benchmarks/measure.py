"""Timing that is fair: the contenders agree on the result, then run in turn, and are compared within each round.

    A B C   A B C   A B C   …        a round each; what slows the machine for a while slows all of them

A ratio is taken in each round, and the median of these ratios is reported with its quartiles: a round that was
disturbed moves neither much.
"""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

OURS, LOOPS = "npllm", "plain loops"
LONGEST = 20.0  # seconds


@dataclass(frozen=True)
class Job:
    """One thing to do, and everyone who can do it.

    npllm    a function without arguments that does it with npllm
    instead  the same for what a user would run instead, by name
    loops    the same as a plain loop, where that is bearable
    agree    called with another's result and npllm's; raises AssertionError if they are not the same
    memory   for whom peak memory is measured: by name a function of the contender that gives bytes
    before   called before every single run, and not timed: so that a "first time" is one
    """

    name: str
    size: str
    npllm: Callable[[], object]
    instead: dict[str, Callable[[], object]] = field(default_factory=dict)
    loops: Callable[[], object] | None = None
    agree: Callable[[object, object], None] | None = None
    memory: dict[str, Callable[[Callable], int]] = field(default_factory=dict)
    before: Callable[[], None] | None = None

    @property
    def contenders(self):
        """All of them by name, npllm first."""
        return {OURS: self.npllm, **self.instead} | ({} if self.loops is None else {LOOPS: self.loops})


@dataclass(frozen=True)
class Measurement:
    """What was measured of one job: for each contender the seconds of one call, one number a round."""

    name: str
    size: str
    seconds: dict[str, list[float]]
    calls: dict[str, int]  # how many calls were timed together in a round
    peaks: dict[str, int] = field(default_factory=dict)  # bytes that one call took at its highest point

    @property
    def others(self):
        """The contenders besides npllm."""
        return [name for name in self.seconds if name != OURS]

    def time(self, contender):
        """Seconds of one call as (lower quartile, median, upper quartile)."""
        return quartiles(self.seconds[contender])

    def ratio(self, contender):
        """How many times longer than npllm it takes, as (lower quartile, median, upper quartile) over the rounds."""
        return quartiles([theirs / ours for theirs, ours in zip(self.seconds[contender], self.seconds[OURS])])


def quartiles(numbers):
    """The lower quartile, the median and the upper quartile."""
    if len(numbers) == 1:
        return (numbers[0],) * 3
    return tuple(statistics.quantiles(numbers, n=4, method="inclusive"))


def measure(job, rounds, shortest, clock=time.perf_counter):
    """Run a job's contenders in turn, `rounds` times; return the Measurement.

    Each is first run to warm up, and its result is held against npllm's: a contender that does something else
    raises AssertionError and nothing is timed. In a round, a contender runs as often as fills `shortest` seconds; one
    that takes longer than LONGEST for a single run has its turn in the first round alone.
    """
    calls, ours = {}, None
    for name, run in job.contenders.items():
        result, seconds = _timed(run, 1, clock, job.before)
        if name == OURS:
            ours = result
        else:
            _compare(job, name, result, ours)
        if seconds < shortest:  # the first call also filled caches and woke threads: a second one tells better
            seconds = _timed(run, 1, clock, job.before)[1]
        calls[name] = max(1, round(shortest / seconds)) if seconds > 0 else 1
    seconds = {name: [] for name in calls}
    for number in range(rounds):
        for name, run in job.contenders.items():
            if number > 0 and seconds[name][0] > LONGEST:
                continue
            seconds[name].append(_timed(run, calls[name], clock, job.before)[1] / calls[name])
    peaks = {name: job.memory[name](run) for name, run in job.contenders.items() if name in job.memory}
    return Measurement(job.name, job.size, seconds, calls, peaks)


def close(result, expected):
    """Raise AssertionError unless the results are equal: arrays to the accuracy of float32, everything else exactly."""
    if isinstance(expected, tuple):
        assert len(result) == len(expected), f"{len(result)} results for {len(expected)}"
        for one, other in zip(result, expected):
            close(one, other)
    elif isinstance(expected, np.ndarray):
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-3, atol=1e-4 * scale)
    else:
        assert result == expected, "the results differ"


def _compare(job, name, result, ours):
    try:
        (job.agree or close)(result, ours)
    except AssertionError as error:
        raise AssertionError(
            f"{job.name}: {name} and npllm do not agree, so their times mean nothing\n{error}"
        ) from None


def _timed(run, calls, clock, before=None):
    """The last call's result, and the seconds that all calls took; the garbage collector waits meanwhile."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = clock()
        for _ in range(calls):
            if before is not None:
                pause = clock()
                before()
                start += clock() - pause
            result = run()
        return result, clock() - start
    finally:
        if collecting:
            gc.enable()
