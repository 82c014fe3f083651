"""Random tests for as long as you like: python -m tests.fuzz files|numbers|tokenizers|commands --minutes N

    python -m tests.fuzz files --minutes 10                     rounds of every file format
    python -m tests.fuzz files --rounds "config.json" --seed 7  one of them, from this seed on

The rounds take turns, each with new random numbers; each runs at least once. The run stops at the first failure, which
it writes into fuzz-findings/ with the command that repeats it; with --keep-going it goes on and lists all failures at
the end. tiktoken itself may print that it panics: its regular expressions fail on very long runs.
"""

import argparse
import importlib
import sys
import time
import warnings
from pathlib import Path

from tests.fuzz.runner import Round, run

MODULES = {  # what is tested: the modules of tests.fuzz whose ROUNDS do it
    "files": ("weight_files", "vocabulary_files", "data_files", "run_files", "model_files"),
    "numbers": ("edges", "calls", "configs"),
    "tokenizers": ("tokenizers",),
    "commands": ("commands",),
}


def rounds_of(subject: str) -> dict[str, Round]:
    """The rounds of all modules of this subject, by name. Two rounds of one name are an error."""
    rounds: dict[str, Round] = {}
    for name in MODULES[subject]:
        module = importlib.import_module(f"tests.fuzz.{name}")
        twice = rounds.keys() & module.ROUNDS.keys()
        if twice:
            raise ValueError(f"tests/fuzz/{name}.py has a round {min(twice)!r}, which another module has")
        rounds |= module.ROUNDS
    return rounds


def main(arguments: list[str] | None = None) -> int:
    """Run for the given time; the exit status is 1 if there are findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=list(MODULES))
    parser.add_argument("--minutes", metavar="N", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--seed", metavar="N", type=int, default=int(time.time()), help="default: the time")
    parser.add_argument("--rounds", metavar="NAME", nargs="+", help="these rounds alone (default: all)")
    parser.add_argument("--keep-going", action="store_true", help="list all failures instead of stopping at the first")
    parser.add_argument(
        "--findings", metavar="FOLDER", type=Path, default=Path("fuzz-findings"), help="default: %(default)s"
    )
    options = parser.parse_args(arguments)
    rounds = rounds_of(options.what)
    unknown = set(options.rounds or ()) - rounds.keys()
    if unknown:
        parser.error(f"there is no round {min(unknown)!r}; the rounds are {', '.join(map(repr, rounds))}")
    chosen = {name: check for name, check in rounds.items() if not options.rounds or name in options.rounds}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        findings = run(options.what, chosen, options.seed, options.minutes, options.keep_going, options.findings)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
