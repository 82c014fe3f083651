import os
import subprocess
import sys

import pytest

from npllm.utils import allocator
from npllm.utils.allocator import describe_allocator, glibc_version, keep_freed_memory

needs_glibc = pytest.mark.skipif(glibc_version() is None, reason="no glibc")
PROGRAM = """
import resource, sys
import numpy as np
from npllm.utils.allocator import describe_allocator, keep_freed_memory

print(describe_allocator())
if sys.argv[1] == "keep":
    print(keep_freed_memory())
    print(describe_allocator())

def work():
    arrays = [np.ones(2**22, np.uint8) for _ in range(12)]

work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(argument):
    """The lines that PROGRAM prints, in a process of its own: the setting cannot be undone."""
    clean = {name: value for name, value in os.environ.items() if name not in allocator.VARIABLES}
    command = [sys.executable, "-c", PROGRAM, argument]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=300, env=clean
    ).stdout.splitlines()


@pytest.fixture
def mallopt(monkeypatch):
    """Stands for glibc's mallopt: a list of its calls, and `answers`, which it returns."""

    class Calls(list):
        answers = (1, 1)

    calls = Calls()

    def record(option, value):
        calls.append((option, value))
        return calls.answers[len(calls) - 1]

    for name in allocator.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36", raising=False)
    monkeypatch.setattr(allocator._State, "is_kept", False)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: type("C", (), {"mallopt": staticmethod(record)}))
    return calls


@needs_glibc
def test_freed_memory_is_used_again():
    before, done, after, faults = run("keep")
    assert before.endswith(" with its own thresholds")
    assert done == f"allocator: {after}"
    assert after == f"{glibc_version()} keeps freed memory, M_TRIM_THRESHOLD = 2147483647, M_MMAP_THRESHOLD = 33554432"
    assert int(faults) < 1000, "48 MiB have 12,288 pages"


def test_both_thresholds_are_set_and_named(mallopt):
    text = keep_freed_memory()
    assert mallopt == [(-1, 2**31 - 1), (-3, 2**25)]
    assert (
        text == "allocator: glibc 2.36 keeps freed memory, M_TRIM_THRESHOLD = 2147483647, M_MMAP_THRESHOLD = 33554432"
    )
    assert describe_allocator() in text


@pytest.mark.parametrize(("answers", "name"), [((0, 1), "M_TRIM_THRESHOLD"), ((1, 0), "M_MMAP_THRESHOLD")])
def test_a_refused_threshold_is_named(mallopt, answers, name):
    mallopt.answers = answers
    assert f"allocator: glibc 2.36 refused {name} = " in keep_freed_memory()
    assert describe_allocator() == "glibc 2.36 with its own thresholds"


def test_settings_of_the_environment_are_named(mallopt, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=9")
    monkeypatch.setenv("LD_PRELOAD", "")
    assert describe_allocator() == "glibc 2.36 with its own thresholds, GLIBC_TUNABLES=glibc.malloc.trim_threshold=9"


@pytest.mark.parametrize("version", [None, "musl 1.2"])
def test_without_glibc_nothing_is_changed(version, monkeypatch):
    monkeypatch.setattr(os, "confstr", lambda name: version, raising=False)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("the C library must not be called"))
    assert "unchanged, because there is no glibc, and so no mallopt" in keep_freed_memory()
    assert describe_allocator() == f"that of {sys.platform}, without mallopt"


def test_a_name_that_the_system_does_not_have_means_no_glibc(monkeypatch):
    def refuse(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "confstr", refuse, raising=False)
    assert glibc_version() is None
