"""`python -m benchmarks`: run the jobs, print the times, and save the results."""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from rich.console import Console

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # Hugging Face's tokenizers on one thread, as npllm's are
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise PyTorch's profiler logs verbosely

JOBS = [
    "tokenizing",
    "bpe_training",
    "embedding",
    "softmax",
    "attention",
    "attention_variants",
    "transformer_block",
    "gpt2",
    "smollm2",
]
NEEDED = {"torch": "PyTorch"} | {name: name for name in ("tiktoken", "tokenizers", "threadpoolctl", "transformers")}
INSTALL = (
    "The benchmarks need {}, which is not installed. In a checkout of npllm:\n"
    '  python -m pip install -e ".[test]" -c .ci/constraints.txt'
)
RESULTS = Path(__file__).parent / "results"


def main(arguments=None):
    """Run the jobs and return the exit status: 0, 1 where a package is missing or results differ, 130 after Ctrl-C."""
    options = _options(arguments)
    errors = Console(stderr=True, highlight=False)
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        errors.print(INSTALL.format(NEEDED[missing[0]]), markup=False, soft_wrap=True)
        return 1
    try:
        run(Console(highlight=False), options)
    except KeyboardInterrupt:
        errors.print("interrupted")
        return 130
    except (AssertionError, OSError, ValueError) as error:
        errors.print(str(error), markup=False, soft_wrap=True)
        return 1
    return 0


def run(console, options):
    """Measure the chosen jobs, file by file, then write the results."""
    from benchmarks import report
    from benchmarks.machine import machine
    from benchmarks.measure import measure

    settings = {"rounds": options.rounds, "min_time": options.min_time}
    found = machine()
    report.show_machine(console, found)
    console.print(
        f"{options.rounds} rounds, contenders in turn: median (quartiles), × time relative to npllm (quartiles)"
    )
    everything = []
    for name in options.jobs or JOBS:
        try:
            for job in importlib.import_module(f"benchmarks.{name}").jobs():
                everything.append(measure(job, **settings))
                report.show(console, everything[-1])
        except FileNotFoundError as error:  # a model that is not at hand
            if options.jobs:
                raise
            console.print(f"\n{name} is left out: {error}", soft_wrap=True)
    options.results.mkdir(parents=True, exist_ok=True)
    report.write_json(options.results / "results.json", found, settings, everything)
    report.draw(options.results / "results.png", everything)
    console.print(f"\nwrote results.json and results.png into {options.results}", soft_wrap=True)


def _options(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time npllm and other implementations of the same computation, in turn.",
    )
    parser.add_argument("jobs", metavar="JOB", nargs="*", help=f"files of jobs: {', '.join(JOBS)} (default: all)")
    parser.add_argument(
        "--rounds", metavar="N", type=int, default=7, help="rounds, in which every contender is timed once (default: 7)"
    )
    parser.add_argument(
        "--min-time", metavar="S", type=float, default=0.03, help="least seconds of one timing (default: 0.03)"
    )
    parser.add_argument("--results", metavar="FOLDER", type=Path, default=RESULTS, help=f"default: {RESULTS}")
    options = parser.parse_args(arguments)
    if unknown := set(options.jobs) - set(JOBS):
        parser.error(f"unknown job {', '.join(sorted(unknown))}; it must be one of {', '.join(JOBS)}")
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; it must be at least 1")
    if not options.min_time >= 0:
        parser.error(f"--min-time is {options.min_time}; it must be a number of seconds, at least 0")
    return options


if __name__ == "__main__":
    sys.exit(main())
