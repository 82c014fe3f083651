"""Timing: the contenders must give the same result, then run in turn, and are compared within each round.

    A B C   A B C   A B C   …        rounds; a slow period of the machine affects all contenders of a round

A ratio is taken in each round, and the median of these ratios is reported with its quartiles, on which a few
disturbed rounds have little influence.
"""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.limits import Limit, Work

OURS, LOOPS = "npllm", "plain loops"
PAUSE = 0.05  # seconds
LONGEST = 20.0  # seconds


@dataclass(frozen=True)
class Job:
    """One computation, and the contenders that can do it.

    npllm    a function without arguments that does it with npllm
    instead  the same by other libraries, by name
    loops    the same as a plain Python loop, where that ends in time
    agree    called with another's result and npllm's; raises AssertionError if they are not the same
    memory   by name of a contender, a function that measures its peak memory in bytes
    before   called before every run, and not timed: it empties a cache for a cold run
    tokens   how many tokens one call processes or generates, where the speed in tokens per second is of interest
    absent   names of contenders that are not installed
    skipped  by name of a contender that could not run here, the reason
    work     what any implementation must compute and move, from which the limit of the machine follows
    growth   for a row of a series over sizes: (series, name of the size, size); the slope is fitted over the rows
    """

    name: str
    size: str
    npllm: Callable[[], object]
    instead: dict[str, Callable[[], object]] = field(default_factory=dict)
    loops: Callable[[], object] | None = None
    agree: Callable[[object, object], None] | None = None
    memory: dict[str, Callable[[Callable], int]] = field(default_factory=dict)
    before: Callable[[], None] | None = None
    tokens: int | None = None
    absent: tuple[str, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    work: Work | None = None
    growth: tuple[str, str, float] | None = None

    @property
    def contenders(self):
        """All of them by name, npllm first."""
        return {OURS: self.npllm, **self.instead} | ({} if self.loops is None else {LOOPS: self.loops})


@dataclass(frozen=True)
class Measurement:
    """The measurement of one job: for each contender the seconds of one call in every round."""

    name: str
    size: str
    seconds: dict[str, list[float]]
    calls: dict[str, int]  # how many calls were timed together in a round
    peaks: dict[str, int] = field(default_factory=dict)  # peak memory of one call in bytes
    tokens: int | None = None  # that one call processes
    absent: tuple[str, ...] = ()  # contenders that are not installed
    skipped: dict[str, str] = field(default_factory=dict)  # reasons of contenders that could not run
    growth: tuple[str, str, float] | None = None
    limit: Limit | None = None  # what limits the machine in this job

    @property
    def others(self):
        """The contenders besides npllm."""
        return [name for name in self.seconds if name != OURS]

    def time(self, contender):
        """Seconds of one call as (lower quartile, median, upper quartile)."""
        return quartiles(self.seconds[contender])

    def ratio(self, contender):
        """Its time relative to npllm's, as (lower quartile, median, upper quartile) over the rounds."""
        return quartiles([theirs / ours for theirs, ours in zip(self.seconds[contender], self.seconds[OURS])])

    def share(self, contender):
        """The time that the machine needs at least, relative to the contender's median; None without a limit."""
        return None if self.limit is None else self.limit.seconds / self.time(contender)[1]


def quartiles(numbers):
    """The lower quartile, the median and the upper quartile."""
    if len(numbers) == 1:
        return (numbers[0],) * 3
    return tuple(statistics.quantiles(numbers, n=4, method="inclusive"))


@dataclass(frozen=True)
class Rough:
    """A result of 16-bit arithmetic: it is compared to 5% of the largest number."""

    result: object


def measure(job, rounds, min_time, clock=time.perf_counter, limits=None):
    """Run a job's contenders in turn, `rounds` times; return the Measurement.

    Before its turn each contender waits for PAUSE: the threads of OpenBLAS, MKL and OpenMP that the last one used go on
    waiting for work in a loop, some 20 ms, and would take a core. With `limits`, the Limits of the machine, the limit
    of the job's work is measured after its contenders.

    Each is first run once, and its result is compared with npllm's: AssertionError is raised where they differ. In a
    round, a contender runs until `min_time` seconds are filled; one that takes longer than LONGEST for a single run is
    timed in the first round only.
    """
    calls, ours = {}, None
    for name, run in job.contenders.items():
        result, seconds = _timed(run, 1, clock, job.before)
        if name == OURS:
            ours = result
        else:
            _compare(job, name, result, ours)
        if seconds < min_time:  # the first call also filled caches and started threads
            seconds = _timed(run, 1, clock, job.before)[1]
        calls[name] = max(1, round(min_time / seconds)) if seconds > 0 else 1
    seconds = {name: [] for name in calls}
    for number in range(rounds):
        for name, run in job.contenders.items():
            if number > 0 and seconds[name][0] > LONGEST:
                continue
            time.sleep(PAUSE)
            seconds[name].append(_timed(run, calls[name], clock, job.before)[1] / calls[name])
    peaks = {name: job.memory[name](run) for name, run in job.contenders.items() if name in job.memory}
    limit = None if limits is None or job.work is None else limits.of(job.work)
    return Measurement(
        job.name, job.size, seconds, calls, peaks, job.tokens, job.absent, job.skipped, job.growth, limit
    )


def close(result, expected, rtol=1e-3, atol=1e-4):
    """Raise AssertionError unless the results are equal: arrays to the accuracy of float32, everything else exactly."""
    if isinstance(result, Rough):
        close(result.result, expected, rtol=0.05, atol=0.05)
    elif isinstance(expected, tuple):
        assert len(result) == len(expected), f"{len(result)} results for {len(expected)}"
        for one, other in zip(result, expected):
            close(one, other, rtol, atol)
    elif isinstance(expected, np.ndarray):
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(np.asarray(result), expected, rtol=rtol, atol=atol * scale)
    else:
        assert result == expected, "the results differ"


def _compare(job, name, result, ours):
    try:
        (job.agree or close)(result, ours)
    except AssertionError as error:
        raise AssertionError(f"{job.name}: {name} and npllm give different results\n{error}") from None


def _timed(run, calls, clock, before=None):
    """The last call's result, and the seconds that all calls took; garbage collection is off meanwhile."""
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
