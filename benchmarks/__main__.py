"""`python -m benchmarks`: run the jobs, print what they took, and keep the results."""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from rich.console import Console

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # Hugging Face's tokenizers on one thread, as npllm's are
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # PyTorch's profiler, which measures memory, tells its life otherwise

JOBS = [
    "tokenizing",
    "bpe_training",
    "embedding",
    "softmax",
    "attention",
    "attention_family",
    "transformer_block",
    "gpt2",
]
NEEDED = {"torch": "PyTorch"} | {name: name for name in ("tiktoken", "tokenizers", "threadpoolctl", "transformers")}
INSTALL = (
    "The benchmarks need {}, which is not installed. In a checkout of npllm:\n"
    '  python -m pip install -e ".[test]" -c .ci/constraints.txt'
)
RESULTS = Path(__file__).parent / "results"


def main(arguments=None):
    """Run the jobs and return the exit status: 0, or 1 where something is missing or contenders do not agree."""
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

    settings = {"rounds": options.rounds, "shortest": options.shortest}
    found = machine()
    report.show_machine(console, found)
    console.print(f"{options.rounds} rounds in turn: median (quartiles) × how many times longer than npllm (quartiles)")
    everything = []
    for name in options.jobs or JOBS:
        for job in importlib.import_module(f"benchmarks.{name}").jobs():
            everything.append(measure(job, **settings))
            report.show(console, everything[-1])
    options.results.mkdir(parents=True, exist_ok=True)
    report.write_json(options.results / "results.json", found, settings, everything)
    report.draw(options.results / "results.png", everything)
    console.print(f"\nwrote results.json and results.png into {options.results}", soft_wrap=True)
    if options.readme is not None:
        report.write_readme(options.readme, found, settings, everything)


def _options(arguments):
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast npllm is, beside others.")
    parser.add_argument("jobs", metavar="JOB", nargs="*", help=f"which, of {', '.join(JOBS)} (default: all)")
    parser.add_argument("--rounds", metavar="N", type=int, default=7, help="how often each has its turn (default: 7)")
    parser.add_argument(
        "--shortest", metavar="S", type=float, default=0.03, help="seconds that a turn takes at least (default: 0.03)"
    )
    parser.add_argument("--results", metavar="FOLDER", type=Path, default=RESULTS, help=f"default: {RESULTS}")
    parser.add_argument("--readme", metavar="FILE", help="also write the table into this file's section “benchmarks”")
    options = parser.parse_args(arguments)
    if unknown := set(options.jobs) - set(JOBS):
        parser.error(f"unknown job {', '.join(sorted(unknown))}; it must be one of {', '.join(JOBS)}")
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; it must be at least 1")
    if not options.shortest >= 0:
        parser.error(f"--shortest is {options.shortest}; it must be a number of seconds, 0 or more")
    if options.readme is not None and options.jobs:
        parser.error("--readme takes the table of all jobs; leave the JOBs out")
    return options


if __name__ == "__main__":
    sys.exit(main())
