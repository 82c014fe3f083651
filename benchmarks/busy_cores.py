"""A matrix product on idle cores and on busy ones: by one thread, by BLAS's threads, and in pieces.

    python -m benchmarks.busy_cores --json benchmarks/measured/busy_cores.json

Other processes that compute all the time make the cores busy. Then it measures softmax directly after a product, while
BLAS's threads still wait for the next one. The forms are measured one after the other, with a pause of 0.1 s between
them: in turn, the threads of one form would disturb the next.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from npllm.core import matrix_product
from npllm.core.threads import limit_threads, num_threads
from npllm.layers.softmax import softmax
from npllm.utils.files import atomic_write

PAUSE = 0.1  # seconds; OpenBLAS's threads wait some 20 ms for the next product
SHAPE = (512, 3072, 768)  # the second product of GPT-2's feed-forward network, 512 positions


def forms(shape=SHAPE):
    """The product as functions without arguments, by name."""
    rng = np.random.default_rng(0)
    rows, inner, columns = shape
    a = rng.standard_normal((rows, inner), dtype=np.float32)
    b = rng.standard_normal((columns, inner), dtype=np.float32).T

    def one_thread():
        with limit_threads(1):
            np.matmul(a, b)

    return {
        "one thread": one_thread,
        "BLAS's threads": lambda: np.matmul(a, b),
        "pieces (npllm)": lambda: matrix_product.matmul(a, b),
    }


@contextmanager
def busy(num_processes):
    """A context in which this many other processes compute all the time."""
    processes = [
        multiprocessing.get_context("spawn").Process(target=_compute, daemon=True) for _ in range(num_processes)
    ]
    for process in processes:
        process.start()
    if processes:
        time.sleep(2.0)  # until they have started
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _compute():
    while True:
        pass


def measure(rounds, shape=SHAPE, busy_processes=(0, 1, 2)):
    """Medians in seconds: of the product by number of busy processes and form, and of softmax after each form."""
    functions = forms(shape)
    products = {}
    for number in busy_processes:
        with busy(number):
            products[str(number)] = {name: _median(function, rounds) for name, function in functions.items()}
    scores = np.random.default_rng(0).standard_normal((4096, 1024), dtype=np.float32)
    softmax_after = {
        name: _median(lambda: softmax(scores), rounds, before=function) for name, function in functions.items()
    }
    return {"products": products, "softmax after": softmax_after}


def _median(function, rounds, before=lambda: None):
    time.sleep(PAUSE)
    function()
    seconds = []
    for _ in range(rounds):
        before()
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def rows(content):
    """The table: a row for each number of busy processes, and softmax; milliseconds."""
    names = list(content["softmax after"])
    table = [
        [f"product, {number} other processes compute", *_milliseconds(times, names)]
        for number, times in content["products"].items()
    ]
    return names, [*table, ["softmax directly after the product", *_milliseconds(content["softmax after"], names)]]


def _milliseconds(times, names):
    return [f"{1e3 * times[name]:.1f} ms" for name in names]


def main(arguments=None):
    """Measure, print, and write the JSON file if one is named."""
    from benchmarks.machine import machine
    from benchmarks.report import show_machine

    parser = argparse.ArgumentParser(prog="python -m benchmarks.busy_cores", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", metavar="N", type=int, default=15, help="calls of each form (default: 15)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers into this file")
    options = parser.parse_args(arguments)
    console, found = Console(highlight=False), machine()
    show_machine(console, found)
    content = {"machine": found, "threads": num_threads(), "shape": SHAPE, **measure(options.rounds)}
    names, table = rows(content)
    printed = Table("", *names)
    for row in table:
        printed.add_row(*row)
    console.print(printed)
    if options.json is not None:
        with atomic_write(options.json) as file:
            file.write(json.dumps(content, indent=1).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
