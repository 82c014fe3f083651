"""`python -m benchmarks`: run the jobs, print the times, and save the results."""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from rich.console import Console

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # Hugging Face's tokenizers on one thread, as npllm's are
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # torch.compile starts no further processes
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise PyTorch's profiler logs verbosely

JOBS = [
    "tokenizing",
    "bpe_training",
    "embedding",
    "softmax",
    "attention",
    "attention_variants",
    "transformer_block",
    "kernels",
    "causal_attention",
    "optimizers",
    "gpt2",
    "training_steps",
    "decoding",
    "weight_forms",
    "growth",
    "ideas",
    "smollm2",
]
NEEDED = {"torch": "PyTorch"} | {name: name for name in ("tiktoken", "tokenizers", "threadpoolctl", "transformers")}
INSTALL = (
    "The benchmarks need {}, which is not installed. In a checkout of npllm:\n"
    '  python -m pip install -e ".[test]" -c .ci/constraints.txt'
)
ROUNDS, MIN_TIME = 7, 0.03  # unless others are given, or --quick
COMPILING = ("kernels", "training_steps")  # files that call torch.compile
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
    from benchmarks import plots, report
    from benchmarks.limits import Limits
    from benchmarks.machine import keep_freed_memory, machine
    from benchmarks.measure import measure
    from benchmarks.quick import QUICK

    if options.keep_freed_memory:
        keep_freed_memory()
    settings = {"rounds": options.rounds, "min_time": options.min_time, "quick": options.quick}
    found, limits = machine(), Limits(repeats=1 if options.quick else 5)
    report.show_machine(console, found)
    console.print(
        f"{options.rounds} rounds, contenders in turn: median (quartiles), × time relative to npllm (quartiles)"
    )
    everything = []
    options.results.mkdir(parents=True, exist_ok=True)
    for name in options.jobs or JOBS:
        sizes = QUICK[name] if options.quick else {"quick": True} if options.no_compile and name in COMPILING else {}
        try:
            for job in importlib.import_module(f"benchmarks.{name}").jobs(**sizes):
                everything.append(measure(job, options.rounds, options.min_time, limits=limits))
                report.show(console, everything[-1])
                report.write_json(options.results / "results.json", found, settings, everything, limits)
        except FileNotFoundError as error:  # a model that is not at hand
            if options.jobs:
                raise
            console.print(f"\n{name} is left out: {error}", soft_wrap=True)
    report.write_json(options.results / "results.json", found, settings, everything, limits)
    report.show_limits(console, limits)
    report.draw(options.results / "results.png", everything)
    drawn = plots.draw_all(options.results, report.read_json(options.results / "results.json"))
    names = ", ".join(["results.json", "results.png", *drawn])
    console.print(f"\nwrote {names} into {options.results}", soft_wrap=True)


def _options(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time npllm and other implementations of the same computation, in turn.",
    )
    parser.add_argument("jobs", metavar="JOB", nargs="*", help=f"files of jobs: {', '.join(JOBS)} (default: all)")
    parser.add_argument(
        "--rounds", metavar="N", type=int, help=f"rounds, in which every contender is timed once (default: {ROUNDS})"
    )
    parser.add_argument(
        "--min-time", metavar="S", type=float, help=f"least seconds of one timing (default: {MIN_TIME})"
    )
    parser.add_argument("--quick", action="store_true", help="every job at a small size, in one round")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes minutes")
    parser.add_argument("--keep-freed-memory", action="store_true", help="glibc keeps it, for all contenders alike")
    parser.add_argument("--results", metavar="FOLDER", type=Path, default=RESULTS, help=f"default: {RESULTS}")
    options = parser.parse_args(arguments)
    if unknown := set(options.jobs) - set(JOBS):
        parser.error(f"unknown job {', '.join(sorted(unknown))}; it must be one of {', '.join(JOBS)}")
    if options.rounds is None:
        options.rounds = 1 if options.quick else ROUNDS
    if options.min_time is None:
        options.min_time = 0.0 if options.quick else MIN_TIME
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; it must be at least 1")
    if not options.min_time >= 0:
        parser.error(f"--min-time is {options.min_time}; it must be a number of seconds, at least 0")
    return options


if __name__ == "__main__":
    sys.exit(main())
