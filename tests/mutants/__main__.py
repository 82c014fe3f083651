"""Put bugs into copies of npllm and print whether the tests fail.

python -m tests.mutants                      every bug of the data files, against the tests named there (as CI does)
python -m tests.mutants "causal mask"        the bugs whose names contain this
python -m tests.mutants --folder attention   the bugs of one data file
python -m tests.mutants --whole-suite NAME   against all tests
python -m tests.mutants --random 50 --seed 1 --folder layers
                                             50 random changes of one token in npllm/layers, instead of the bugs; a
                                             survivor may be harmless, or something that no test checks
"""

import argparse
import sys
import time

from tests.mutants.bug import load_bugs
from tests.mutants.random_changes import random_changes
from tests.mutants.run import run_each


def main():
    """Run the chosen bugs; returns 1 if the tests pass with one of them."""
    folders = load_bugs()
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__, formatter_class=formatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="part of a bug's name (default: all bugs)")
    parser.add_argument("--folder", metavar="NAME", help="one data file (with --random: a folder or file of npllm)")
    parser.add_argument("--whole-suite", action="store_true", help="run all tests instead of those named with the bug")
    parser.add_argument("--random", type=int, metavar="N", help="run N random changes instead")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random changes (default: 0)")
    options = parser.parse_args()
    if options.random:
        return report(random_changes(options.folder or "", options.random, options.seed), options.whole_suite)
    if options.folder not in (None, *folders):
        parser.error(f"--folder is {options.folder}; it must be one of {', '.join(folders)}")
    bugs = [bug for folder, found in folders.items() if options.folder in (None, folder) for bug in found]
    chosen = [bug for bug in bugs if not options.names or any(name in bug.name for name in options.names)]
    if not chosen:
        parser.error(f"no bug's name contains {' or '.join(options.names)}")
    return report(chosen, options.whole_suite)


def report(changes, whole_suite=False):
    """Print one line a change and a summary; returns 1 if one of them survived."""
    start, survivors = time.perf_counter(), []
    for change, caught in run_each(changes, whole_suite):
        print(f"{'caught  ' if caught else 'SURVIVED'}  {change}", flush=True)
        if not caught:
            survivors.append(change)
    seconds = time.perf_counter() - start
    print(f"{len(changes) - len(survivors)} of {len(changes)} caught in {seconds:.0f} s", flush=True)
    if survivors:
        print("not caught:", *survivors, sep="\n  ", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
