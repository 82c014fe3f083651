"""The machine, the versions and the threads that the numbers were measured with."""

import importlib.metadata
import os
import platform
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_info

from npllm.utils import allocator

TUNABLES = (
    f"glibc.malloc.trim_threshold={allocator.TRIM_THRESHOLD}:glibc.malloc.mmap_threshold={allocator.MMAP_THRESHOLD}"
)


def machine():
    """The processor, the versions, and the BLAS and threads of both sides, as a dict of texts."""
    found = {
        "processor": f"{_processor()}, {_cores()} cores",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "npllm": f"NumPy {np.__version__}, {_numpy_blas()}",
        "PyTorch": f"{torch.__version__}, {_torch_blas()}, {_threads(torch.get_num_threads())}",
        "others": ", ".join(
            f"{name} {importlib.metadata.version(name)}" for name in ("tiktoken", "tokenizers", "transformers")
        ),
        "allocator": allocator.describe_allocator(),
    }
    if hasattr(os, "getloadavg"):
        found["load"] = f"{os.getloadavg()[0]:.1f} processes on average in the minute before"
    slowed = [f"{name}={os.environ[name]}" for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if name in os.environ]
    if slowed:
        found["warning"] = f"{' '.join(slowed)} is set: NumPy's OpenBLAS may not run at its full speed"
    return found


def keep_freed_memory():
    """Let glibc keep freed memory, in this process for all contenders, and in the processes that it starts."""
    allocator.keep_freed_memory()
    before = os.environ.get("GLIBC_TUNABLES")
    os.environ["GLIBC_TUNABLES"] = f"{before}:{TUNABLES}" if before else TUNABLES


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "an unknown processor"


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _numpy_blas():
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    if not pools:
        return "an unknown BLAS"
    return ", ".join(
        f"{pool['internal_api']} {pool['version']} for {pool.get('architecture', 'this processor')}, "
        f"{_threads(pool['num_threads'])}"
        for pool in pools
    )


def _torch_blas():
    settings = torch.__config__.show()
    return next((name for name in ("mkl", "openblas", "accelerate") if f"BLAS_INFO={name}" in settings), "another BLAS")


def _threads(number):
    return f"{number} thread{'' if number == 1 else 's'}"
