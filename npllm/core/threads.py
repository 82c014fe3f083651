"""Threads: how many the process uses, for matrix products (BLAS) and for `parallel`, and how work is dealt out to them.

NumPy's functions release Python's lock (the GIL) while they compute, so Python threads run them on several cores at
once. One number limits both kinds of threads: that of `limit_threads`, or else that of BLAS, which is the number of
cores or what OPENBLAS_NUM_THREADS and the like say. While `parallel` runs, BLAS uses one thread, because its threads
and those of `parallel` would compete for the same cores.

Small matrix products gain nothing from a second thread. On busy cores they lose much: threads that wait for each other
spin, and a product of microseconds waits until the scheduler has run both. So small models use one thread. For larger
models a short trial decides, see `faster_num_threads`.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

NUM_TRIALS = 3
MIN_SECONDS = 1e-3  # a shorter step is not worth a second thread
MAX_SECONDS = 2.0  # of all trials, as long as each number of threads is measured once
MIN_SPEEDUP = 1.1  # below, one thread is chosen: it disturbs other processes less
Item = TypeVar("Item")
Result = TypeVar("Result")


class Choice(NamedTuple):
    """A number of threads and, where it was measured, the seconds of one step with 1 thread and with all threads."""

    num_threads: int
    seconds: dict[int, float]


class _State:
    """What the threads of a process share."""

    limit: int | None = None  # of limit_threads
    in_use = threading.Lock()  # held while `parallel` runs: a call from inside, or from another thread, runs in turn
    pool: ThreadPoolExecutor | None = None
    pool_size = 0


def num_threads() -> int:
    """The number of threads that are allowed: the limit of `limit_threads`, or else the number that BLAS started with.

    It is never more than the number of cores that the process may use, unless `limit_threads` says so.
    """
    return _default_num_threads() if _State.limit is None else _State.limit


@lru_cache
def _default_num_threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, current_num_threads()))


def parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """[function(item) for item in items], on several threads if more than one is allowed and there are several items.

    Each thread takes the next item when it has finished one, so a busy core delays the whole by one item at most. The
    calling thread is one of them. The settings of `np.errstate` hold in all. A call inside `function` runs in turn.
    An exception ends the call, after the items that have begun.
    """
    items = list(items)
    count = min(num_threads(), len(items))
    if count <= 1 or not _State.in_use.acquire(blocking=False):
        return [function(item) for item in items]
    try:
        with _blas().limit(limits=1):
            return _run(function, items, count)
    finally:
        _State.in_use.release()


def _run(function: Callable[[Item], Result], items: list[Item], count: int) -> list[Result]:
    results: list[Any] = [None] * len(items)
    waiting = deque(enumerate(items))  # deque.popleft is atomic

    def work() -> None:
        while True:
            try:
                index, item = waiting.popleft()
            except IndexError:
                return
            try:
                results[index] = function(item)
            except BaseException:
                waiting.clear()
                raise

    pool = _pool(count - 1)
    helpers: list[Future] = []
    try:
        helpers = [pool.submit(copy_context().run, work) for _ in range(count - 1)]
        work()
    finally:
        wait(helpers)  # they write into arrays of the caller
    for helper in helpers:
        helper.result()
    return results


def _pool(size: int) -> ThreadPoolExecutor:
    """The pool of this number of threads; it stays for the next call."""
    if _State.pool is None or _State.pool_size < size:
        if _State.pool is not None:
            _State.pool.shutdown(wait=False)
        _State.pool, _State.pool_size = ThreadPoolExecutor(size, "npllm"), size
    return _State.pool


def _forget_pool() -> None:
    """After a fork the child has neither the pool's threads nor the one that holds the lock."""
    _State.pool, _State.pool_size, _State.in_use = None, 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


@lru_cache
def _blas() -> "ThreadpoolController":
    """The BLAS that NumPy has loaded; finding it takes milliseconds."""
    from threadpoolctl import ThreadpoolController  # imported here: a model without threads does not need it

    return ThreadpoolController().select(user_api="blas")


def current_num_threads() -> int:
    """The number of threads that BLAS uses now: all cores, or what OPENBLAS_NUM_THREADS and the like say."""
    from threadpoolctl import threadpool_info

    return max((library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"), default=1)


@contextmanager
def limit_threads(num_threads: int) -> Iterator[None]:
    """A context in which BLAS and `parallel` use this number of threads; afterwards they use the number from before.

    Other libraries that are loaded, such as PyTorch with OpenMP, are limited, too.
    """
    from threadpoolctl import threadpool_limits

    before = _State.limit
    with threadpool_limits(limits=num_threads):
        _State.limit = num_threads
        try:
            yield
        finally:
            _State.limit = before


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
