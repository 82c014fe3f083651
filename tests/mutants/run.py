"""Run tests in copies of the project, each with one change, two at a time.

Importing PyTorch takes longer than most of these tests. A server process imports it once, and every run is a fork of it
(multiprocessing's "forkserver"), which then imports npllm from its own copy.
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.bug import ROOT

COPIED = ["npllm", "torch_ref", "tests", "benchmarks", "data", "setup.cfg", "pyproject.toml", "README.md", ".ci"]
HEAVY_IMPORTS = ["hypothesis", "numpy", "pytest", "rich.console", "tiktoken", "torch", "transformers"]
OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-profile=mutants"]
OPTIONS += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what has been imported before pytest's start
CANNOT_RUN = 70  # none of pytest's own exit codes
TIMEOUT = 300  # seconds; a run that takes longer has failed


def run_each(changes, whole_suite=False):
    """Yield (change, caught) for each change, in order; `caught` is whether its tests fail.

    A change has `file`, `apply(source)` and `tests`. Raises RuntimeError if pytest cannot run at all.
    """
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MPLBACKEND="agg")
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(HEAVY_IMPORTS)
    starting = threading.Lock()  # two threads must not both start the server

    def is_caught(change):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            _copy_project(folder)
            path = Path(folder) / change.file
            path.write_text(change.apply(path.read_text(encoding="utf-8")), encoding="utf-8")
            selected = ["tests", "--ignore=tests/test_mutants.py"] if whole_suite else change.tests.split()
            process = context.Process(target=_run_pytest, args=(folder, selected), daemon=True)
            with starting:
                process.start()
            process.join(TIMEOUT * (10 if whole_suite else 1))
            if process.is_alive():
                process.kill()
                process.join()
                return True
            if process.exitcode not in (0, 1):
                output = (Path(folder) / "output").read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"{change}: pytest ended with code {process.exitcode}\n{output[-3000:]}")
            return process.exitcode == 1

    changes = list(changes)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            yield from zip(changes, pool.map(is_caught, changes))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _copy_project(folder):
    for name in COPIED:
        source, target = ROOT / name, Path(folder) / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "results"))
        else:
            shutil.copy(source, target)


def _run_pytest(folder, selected):
    """In a process of its own: run the tests in `folder`, and exit with pytest's code."""
    with open(Path(folder) / "output", "w", encoding="utf-8") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.chdir(folder)
    sys.path[:] = [folder, *(entry for entry in sys.path if entry and Path(entry).resolve() != ROOT)]
    os.environ["PYTHONPATH"] = folder
    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "npllm", "torch_ref", "benchmarks")]:
        del sys.modules[name]  # they are imported again from the copy
    code = CANNOT_RUN
    try:
        import pytest

        code = pytest.main([*OPTIONS, *selected])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
