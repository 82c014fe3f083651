"""Repeat every kind of work in one process and measure memory: python -m tests.soak --minutes N

    training, generation, encoding, BPE training, model folders, tokenizer files, token files → … → a table

A round does one unit of each job with new random numbers. After each round the resident memory, the open files, the
threads and the objects of the garbage collector are measured. The first quarter of the time is the warm-up, in which
caches reach their limits. The run fails if the line fitted by least squares to the memory of the other rounds rises
by more than MAX_GROWTH, or if the number of files, threads or objects grows. Needs Linux's /proc.
"""

import argparse
import gc
import math
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from npllm.utils.markdown import markdown_table
from tests.soak_jobs import JOBS

MIB = 1 << 20
MAX_GROWTH = 16.0  # MiB between the end of the warm-up and the end
MAX_NEW_OBJECTS = 500  # between the same two


@dataclass(frozen=True)
class Sample:
    """The state of this process after a round."""

    minutes: float
    memory: float  # resident, in MiB
    files: int
    threads: int
    objects: int  # of the garbage collector, without lists: the caches of pre-tokens hold up to 2¹⁷


@dataclass
class Job:
    """A function that does one unit of work, and its measurements: (minutes since the start, seconds) of each unit."""

    run: Callable[[], None]
    units: list[tuple[float, float]] = field(default_factory=list)
    peak: float = 0.0  # MiB of resident memory at the highest, above that at the start of the unit

    def measure(self, start: float) -> None:
        """Run one unit."""
        before, began = _status("VmRSS"), time.perf_counter()
        _reset_peak()
        self.run()
        self.units.append((_minutes(start), time.perf_counter() - began))
        self.peak = max(self.peak, _status("VmHWM") - before)


def main(arguments: list[str] | None = None) -> int:
    """Run for the given time, at least one round; return 1 if something grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", metavar="N", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--seed", metavar="N", type=int, default=int(time.time()), help="default: the time")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    with threadpool_limits(1), tempfile.TemporaryDirectory() as folder:
        jobs = {name: Job(make(Path(folder), np.random.default_rng(options.seed))) for name, make in JOBS.items()}
        samples = run(jobs, options.minutes)
    print(report(jobs, samples))
    found = growth(samples)
    print("; ".join(found) if found else f"nothing grew in {samples[-1].minutes:.1f} minutes")
    return 1 if found else 0


def run(jobs: dict[str, Job], minutes: float) -> list[Sample]:
    """Do rounds for the given time, at least one; return a sample for each."""
    samples, start = [], time.monotonic()
    while not samples or _minutes(start) < minutes:
        for job in jobs.values():
            job.measure(start)
        gc.collect()
        samples.append(
            Sample(
                _minutes(start), _status("VmRSS"), len(list(Path("/proc/self/fd").iterdir())),
                threading.active_count(), _count_objects(),
            )
        )  # fmt: skip
        if int(samples[-1].minutes) > int(samples[-2].minutes if len(samples) > 1 else 0):
            print(f"{samples[-1].minutes:.0f} min, {len(samples)} rounds, {samples[-1].memory:.1f} MiB", flush=True)
    return samples


def _count_objects() -> int:
    """The objects of the garbage collector, without lists and without the samples, of which each round adds one."""
    return sum(type(value) not in (list, Sample) for value in gc.get_objects())


def growth(samples: list[Sample]) -> list[str]:
    """What grew after the warm-up, as sentences; nothing for fewer than eight samples."""
    measured = [sample for sample in samples if sample.minutes >= samples[-1].minutes / 4]
    if len(samples) < 8 or len(measured) < 2:
        return []
    minutes = np.array([sample.minutes for sample in measured])
    duration, found = minutes[-1] - minutes[0], []
    for name, limit in (("memory", MAX_GROWTH), ("files", 0.5), ("threads", 0.5), ("objects", MAX_NEW_OBJECTS)):
        slope = np.polyfit(minutes, np.array([getattr(sample, name) for sample in measured], float), 1)[0]
        if slope * duration > limit:
            found.append(f"{name} grew by {slope * duration:.1f} in {duration:.1f} minutes; the limit is {limit:g}")
    return found


def report(jobs: dict[str, Job], samples: list[Sample]) -> str:
    """Two tables: the process, and the time of one unit of each job; first quarter of the time against the last."""
    end = samples[-1].minutes
    first = [sample for sample in samples if sample.minutes <= end / 4] or samples[:1]
    last = [sample for sample in samples if sample.minutes >= end * 3 / 4]
    lines = [
        [name, *(f"{np.mean([getattr(sample, name) for sample in part]):,.1f}" for part in (first, last))]
        for name in ("memory", "files", "threads", "objects")
    ]
    lines[0][0] = "memory, MiB"
    process = markdown_table(["process", "first quarter", "last quarter"], lines)
    lines = []
    for name, job in jobs.items():
        quarters = (
            [seconds for minute, seconds in job.units if minute <= end / 4],
            [seconds for minute, seconds in job.units if minute >= end * 3 / 4],
        )
        times = [f"{1000 * np.median(seconds):.1f}" if seconds else "" for seconds in quarters]
        lines.append([name, f"{len(job.units):,}", *times, f"{job.peak:.1f}"])
    columns = ["job", "units", "ms per unit, first quarter", "last quarter", "highest memory, MiB above the start"]
    return f"\n{process}\n\n{markdown_table(columns, lines)}\n"


def _minutes(start: float) -> float:
    return (time.monotonic() - start) / 60


def _status(name: str) -> float:
    """A field of /proc/self/status, in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / MIB
    return math.nan


def _reset_peak() -> None:
    """Let VmHWM, the highest resident memory, begin at the present one."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


if __name__ == "__main__":
    sys.exit(main())
