import os
import subprocess
import sys

import pytest

from npllm.utils import allocator
from npllm.utils.allocator import glibc_version, keep_freed_memory

PROGRAM = "from npllm.utils.allocator import keep_freed_memory; print(keep_freed_memory())"


@pytest.mark.skipif(glibc_version() is None, reason="no glibc")
def test_the_thresholds_are_set_and_named():
    """In a process of its own: the setting cannot be undone."""
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=300)
    assert found.stdout.startswith("allocator: glibc ")
    assert f"M_MMAP_THRESHOLD = {2**25}" in found.stdout


@pytest.mark.parametrize("version", [None, "musl 1.2"])
def test_without_glibc_nothing_is_changed(version, monkeypatch):
    monkeypatch.setattr(os, "confstr", lambda name: version, raising=False)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("the C library must not be called"))
    assert "unchanged" in keep_freed_memory()


def test_a_name_that_the_system_does_not_have_means_no_glibc(monkeypatch):
    def refuse(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "confstr", refuse, raising=False)
    assert glibc_version() is None


def test_a_refused_threshold_is_named(monkeypatch):
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36", raising=False)
    monkeypatch.setattr(
        allocator.ctypes, "CDLL", lambda name: type("C", (), {"mallopt": staticmethod(lambda option, value: 0)})
    )
    assert "refused M_TRIM_THRESHOLD" in keep_freed_memory()
