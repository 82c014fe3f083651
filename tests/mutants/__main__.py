"""Put bugs into copies of npllm and print whether the tests fail.

python -m tests.mutants                      every bug of the data files, against the tests named there (as CI does)
python -m tests.mutants "causal mask"        the bugs whose names contain this
python -m tests.mutants --folder attention   the bugs of one data file
python -m tests.mutants --whole-suite NAME   against all tests
"""

import argparse
import sys
import time

from tests.mutants.bug import load_bugs
from tests.mutants.run import run_each


def main():
    """Run the chosen bugs; returns 1 if the tests pass with one of them."""
    folders = load_bugs()
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__, formatter_class=formatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="part of a bug's name (default: all bugs)")
    parser.add_argument("--folder", choices=sorted(folders), help="the bugs of one data file only")
    parser.add_argument("--whole-suite", action="store_true", help="run all tests instead of those named with the bug")
    options = parser.parse_args()
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
    print(f"{len(changes) - len(survivors)} of {len(changes)} bugs caught in {seconds:.0f} s", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
