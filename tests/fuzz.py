"""Compare npllm with tiktoken on random texts, for as long as you like: python -m tests.fuzz tokenizers --minutes N

Repeats the rounds of tests/tokenizers/fuzzing.py, each at least once, with new random numbers. The run stops at the
first difference and shows it. It prints its seed at the start, and `--seed` repeats a run. tiktoken itself may
print that it panics: its regular expressions fail on very long runs.
"""

import argparse
import time

import numpy as np

from tests.tokenizers import fuzzing


def main(arguments=None):
    """Run for the given time; raise AssertionError at the first difference."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["tokenizers"])
    parser.add_argument("--minutes", metavar="N", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--seed", metavar="N", type=int, default=int(time.time()), help="default: the time")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    rng, end = np.random.default_rng(options.seed), time.monotonic() + 60 * options.minutes
    done = dict.fromkeys(fuzzing.ROUNDS, 0)
    while True:
        for name, (check, _) in fuzzing.ROUNDS.items():
            if done[name] and time.monotonic() > end:
                print(f"no difference to tiktoken in {options.minutes:g} minutes")
                return
            done[name] += check(rng)
            print(", ".join(f"{name} {number:,}" for name, number in done.items()), flush=True)


if __name__ == "__main__":
    main()
