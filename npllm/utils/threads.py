"""The number of threads of BLAS, the library behind NumPy's matrix products.

Small matrix products gain nothing from a second thread. On busy cores they lose much: threads that wait for each other
spin, and a product of microseconds waits until the scheduler has run both. So small models use one thread. For larger
models a short trial decides, see `faster_num_threads`.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from threadpoolctl import threadpool_info, threadpool_limits

NUM_TRIALS = 3
MIN_SECONDS = 1e-3  # a shorter step is not worth a second thread
MAX_SECONDS = 2.0  # of all trials, as long as each number of threads is measured once
MIN_SPEEDUP = 1.1  # below, one thread is chosen: it disturbs other processes less


class Choice(NamedTuple):
    """A number of threads and, where it was measured, the seconds of one step with 1 thread and with all threads."""

    num_threads: int
    seconds: dict[int, float]


def current_num_threads() -> int:
    """The number of threads that BLAS uses now: all cores, or what OPENBLAS_NUM_THREADS and the like say."""
    return max((library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"), default=1)


def limit_threads(num_threads: int) -> AbstractContextManager:
    """A context in which BLAS uses this number of threads; afterwards it uses the number from before.

    Other libraries that are loaded, such as PyTorch with OpenMP, are limited, too.
    """
    return threadpool_limits(limits=num_threads)


def faster_num_threads(step: Callable[[], object]) -> Choice:
    """1 or all threads, whichever runs `step()` faster.

    The step runs once to warm up and once with one thread; if that takes less than a millisecond, one thread is chosen.
    Otherwise it runs up to three times with each number of threads, in turn, and the shortest times are compared. All
    threads must be at least 1.1 times as fast as one.
    """
    most = current_num_threads()
    if most == 1:
        return Choice(1, {})
    step()
    seconds = {1: _time(step, 1)}
    if seconds[1] < MIN_SECONDS:
        return Choice(1, {})
    started = time.perf_counter()
    for _ in range(NUM_TRIALS):
        for num_threads in (1, most):
            seconds[num_threads] = min(seconds.get(num_threads, float("inf")), _time(step, num_threads))
        if time.perf_counter() - started > MAX_SECONDS:
            break
    return Choice(most if seconds[1] > MIN_SPEEDUP * seconds[most] else 1, seconds)


def _time(step: Callable[[], object], num_threads: int) -> float:
    with limit_threads(num_threads):
        started = time.perf_counter()
        step()
        return time.perf_counter() - started
