"""PyTorch's faster forms as contenders: compiled, with bfloat16, and with MKL's fast path on processors of AMD.

Each has a function that says why it cannot run on this machine, or returns None.

MKL, the library behind PyTorch's matrix products, takes a slower path on processors that are not Intel's. A library
with one function, loaded before it, makes it take the fast one; PyTorch then needs a process of its own.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.measure import Rough
from benchmarks.worker import Worker

EAGER, COMPILED, BF16 = "PyTorch", "PyTorch compiled", "PyTorch bf16"
UNLOCKED, COMPILED_UNLOCKED = "PyTorch, MKL unlocked", "PyTorch compiled, MKL unlocked"
SOURCE = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"


def variants(contenders, worker=None, quick=False):
    """Two dicts by name: the contenders that can run here, and the reasons of those that cannot.

    contenders  by name, a function that returns the contender; it is called if the form can run
    worker      (function, arguments) for a Worker with MKL unlocked; `arguments` also get compiled=True
    quick       leave out what must be compiled
    """
    reasons = {COMPILED: why_not_compiled, BF16: lambda: None}
    if quick:
        reasons[COMPILED] = reasons[COMPILED_UNLOCKED] = lambda: (
            "compiling takes long: left out by --quick or --no-compile"
        )
    found, skipped = {}, {}
    for name, build in contenders.items():
        reason = reasons.get(name, lambda: None)()
        if reason is None:
            found[name] = build()
        else:
            skipped[name] = reason
    if worker is not None:
        function, arguments = worker
        for name, compiled in ((UNLOCKED, False), (COMPILED_UNLOCKED, True)):
            if compiled and COMPILED not in contenders:
                continue
            reason = why_not_unlocked() or (reasons[COMPILED]() if compiled else None)
            if reason is None:
                environment = {"LD_PRELOAD": str(unlocking_library())}
                found[name] = Worker(function, arguments | ({"compiled": True} if compiled else {}), environment)
            else:
                skipped[name] = reason
    return found, skipped


def close_workers(contenders):
    """End the processes of those that are Workers."""
    for run in contenders.values():
        if isinstance(run, Worker):
            run.close()


def bf16(run):
    """The contender with bfloat16 in matrix products; its result is compared roughly."""

    def run_in_bf16():
        with torch.autocast("cpu", torch.bfloat16):
            result = run()
        return Rough(result)

    return run_in_bf16


@functools.cache
def why_not_compiled():
    """Why torch.compile does not work here, in one line; None if it does."""
    try:
        torch.compile(lambda x: torch.tanh(x) + 1.0)(torch.ones(8))
    except Exception as error:  # of many kinds: no compiler, no headers, a version of Python that is too new
        return f"torch.compile fails: {(str(error).strip().splitlines() or [type(error).__name__])[0][:100]}"
    return None


@functools.cache
def why_not_unlocked():
    """Why MKL's path cannot be changed here; None if it can."""
    if not sys.platform.startswith("linux"):
        return "LD_PRELOAD needs Linux"
    if "BLAS_INFO=mkl" not in torch.__config__.show():
        return "this PyTorch does not use MKL"
    if "AuthenticAMD" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        return "MKL has one path for this processor"
    if shutil.which("gcc") is None:
        return "gcc is not installed"
    return None


@functools.cache
def unlocking_library():
    """The path of the compiled library."""
    folder = Path(tempfile.gettempdir()) / f"npllm-benchmarks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path, source = folder / "unlocked_mkl.so", folder / "unlocked_mkl.c"
    source.write_text(SOURCE)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", path, source], check=True)
    return path
