"""The machine's own limits, measured in the same run as the jobs: the rate of matrix products, the read bandwidth.

    least seconds of a job = max(Σ seconds of its matrix products, bytes / bandwidth)
    share of the limit     = least seconds / seconds

The products are timed alone, by NumPy's BLAS with its threads, at the very shapes that the job has. The bandwidth is
that of reading an array much larger than the caches. A share above 1 is possible: arrays may stay in a cache, and
products on one thread for each head can be faster than one product on all threads.

Williams, Waterman, Patterson 2009, Roofline: an insightful visual performance model, section 3.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

SQUARE = (2048, 2048, 2048)
BYTES_READ = 2**28
BLOCK_ROWS, ROW_LENGTH = 4096, 1024
FLOAT32 = 4  # bytes
MIN_TIME, MAX_REPEATS = 0.01, 100  # seconds and runs of one measurement: a short product is repeated more often


@dataclass(frozen=True)
class Work:
    """What a job must compute and move, whatever the implementation.

    products  matrix products as (how many, rows, inner size, columns); how many may be a fraction
    traffic   bytes: every input read once, every output written once
    """

    products: tuple[tuple[float, int, int, int], ...] = ()
    traffic: float = 0.0

    @property
    def operations(self):
        """Multiplications and additions of all matrix products."""
        return sum(2.0 * count * m * k * n for count, m, k, n in self.products)


@dataclass(frozen=True)
class Limit:
    """What limits a job: "matrix products" or "bandwidth", and the seconds that it needs at least."""

    kind: str
    seconds: float


class Limits:
    """The limits of this machine; each is measured when first asked for, as the best of at least `repeats` runs."""

    def __init__(self, repeats=5, clock=time.perf_counter):
        self.repeats, self.clock = repeats, clock
        self.product_seconds: dict[tuple[int, int, int], float] = {}
        self._bandwidth = None

    def of(self, work):
        """The Limit of a Work; None if it has neither products nor traffic."""
        products = sum(count * self.seconds_of_product(m, k, n) for count, m, k, n in work.products)
        traffic = work.traffic / self.bandwidth() if work.traffic else 0.0
        if products == traffic == 0.0:
            return None
        return Limit("matrix products", products) if products >= traffic else Limit("bandwidth", traffic)

    def seconds_of_product(self, m, k, n):
        """Seconds of x Wᵀ with x (m, k) and W (n, k)."""
        if (m, k, n) not in self.product_seconds:
            x, weight, y = np.ones((m, k), np.float32), np.ones((n, k), np.float32), np.empty((m, n), np.float32)
            self.product_seconds[m, k, n] = self._best(lambda: np.matmul(x, weight.T, out=y))
        return self.product_seconds[m, k, n]

    def bandwidth(self):
        """Bytes that are read in a second: the faster of a matrix-vector product and of a maximum on two threads."""
        if self._bandwidth is None:
            seconds = min(self._best(read_by_products()), self._best(_read_on_threads()))
            self._bandwidth = BYTES_READ / seconds
        return self._bandwidth

    def as_dict(self):
        """Bytes per second, and operations per second of every shape that was measured."""
        rates = {f"{m} × {k} × {n}": 2.0 * m * k * n / s for (m, k, n), s in self.product_seconds.items()}
        return {"bandwidth": self._bandwidth, "product_rates": rates}

    def _best(self, run):
        run()
        seconds = []
        while len(seconds) < self.repeats or (sum(seconds) < MIN_TIME and len(seconds) < MAX_REPEATS):
            start = self.clock()
            run()
            seconds.append(self.clock() - start)
        return max(min(seconds), 1e-9)


def with_backward(products):
    """The products of a linear map's forward, and the two of its backward for each: dx = dy W, dW = dyᵀ x."""
    backward = [shape for count, m, k, n in products for shape in ((count, m, n, k), (count, n, m, k))]
    return (*products, *backward)


def as_squares(operations):
    """The product of 2048² as often as it takes for so many operations: the machine's best rate as the limit."""
    m, k, n = SQUARE
    return ((operations / (2.0 * m * k * n), *SQUARE),)


def read_by_products(num_numbers=BYTES_READ // FLOAT32, times=1):
    """A function that reads an array of so many numbers by matrix-vector products, `times` times; returns how many."""
    num_rows = max(num_numbers // ROW_LENGTH, 1)
    blocks = [np.ones((min(BLOCK_ROWS, num_rows - r), ROW_LENGTH), np.float32) for r in range(0, num_rows, BLOCK_ROWS)]
    vector = np.ones(ROW_LENGTH, np.float32)

    def run():
        return int(sum((block @ vector).sum(dtype=np.float64) for _ in range(times) for block in blocks))

    return run


def _read_on_threads():
    halves = np.ones((2, BYTES_READ // FLOAT32 // 2), np.float32)
    pool = ThreadPoolExecutor(2)
    return lambda: list(pool.map(np.max, halves))
