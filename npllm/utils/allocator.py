"""The memory allocator of glibc: freed memory can be kept in the process for the next array.

By default glibc returns a freed array of 128 KB or more to the operating system, and at first asks it anew for each
one. Every page of fresh memory is then filled with zeros and mapped when it is first written to. A training step
allocates the same arrays as the step before; with `keep_freed_memory()` most of them are the memory of earlier ones.

    print(keep_freed_memory())     once, at the start of a program
    npllm train --keep-freed-memory, python -m benchmarks --keep-freed-memory

The process then holds its peak memory until it ends. Results do not change. The setting is for the whole process, so
npllm never makes it without being asked. `describe_allocator()` says whether it is in effect.

mallopt(3), M_TRIM_THRESHOLD and M_MMAP_THRESHOLD.
"""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
TRIM_THRESHOLD = 2**31 - 1  # bytes at the top of the heap that are kept; the largest int
MMAP_THRESHOLD = 2**25  # arrays of fewer bytes are on the heap; the largest value that glibc takes
VARIABLES = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "LD_PRELOAD")  # have a say, too


class _State:
    """Whether this process has set the thresholds; malloc cannot be asked."""

    is_kept = False


def keep_freed_memory() -> str:
    """Set the two thresholds of glibc's malloc to their largest values; return what was done, in words.

    Without glibc (macOS, Windows, musl) nothing is changed, and the text says so.
    """
    version = glibc_version()
    if version is None:
        return f"allocator: unchanged, because there is no glibc, and so no mallopt, on {sys.platform}"
    mallopt = ctypes.CDLL(None).mallopt
    for name, option, value in (
        ("M_TRIM_THRESHOLD", M_TRIM_THRESHOLD, TRIM_THRESHOLD),
        ("M_MMAP_THRESHOLD", M_MMAP_THRESHOLD, MMAP_THRESHOLD),
    ):
        if mallopt(option, value) != 1:
            return f"allocator: {version} refused {name} = {value}"
    _State.is_kept = True
    return f"allocator: {describe_allocator()}"


def describe_allocator() -> str:
    """The C library, whether `keep_freed_memory` is in effect, and the environment's settings of malloc."""
    version = glibc_version()
    if version is None:
        return f"that of {sys.platform}, without mallopt"
    if _State.is_kept:
        return f"{version} keeps freed memory, M_TRIM_THRESHOLD = {TRIM_THRESHOLD}, M_MMAP_THRESHOLD = {MMAP_THRESHOLD}"
    found = [f"{name}={os.environ[name]}" for name in VARIABLES if os.environ.get(name)]
    return f"{version} with its own thresholds" + (f", {' '.join(found)}" if found else "")


def glibc_version() -> str | None:
    """The name and version of glibc, such as "glibc 2.36"; None for another C library."""
    try:
        version = os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, ValueError, OSError):  # no such function (Windows), no such name (macOS)
        return None
    return version if version and version.startswith("glibc") else None
