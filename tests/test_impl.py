"""`pytest --impl`: the suite run on right and wrong implementations of a function or class."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

RIGHT = """
import numpy as np

def softmax(x, axis=-1):
    with np.errstate(all="ignore"):
        largest = x.max(axis=axis, keepdims=True, initial=-np.inf)
        e = np.exp(x - np.where(largest == -np.inf, 0, largest))
        total = e.sum(axis=axis, keepdims=True)
        return e / np.where(total == 0, 1, total)
"""
NAIVE = """
import numpy as np

def softmax(x, axis=-1):
    with np.errstate(all="ignore"):
        e = np.exp(x)
        return e / e.sum(axis=axis, keepdims=True)
"""
RIGHT_CLASS = """
from npllm.attention import CausalAttention as Theirs

class CausalAttention(Theirs):
    pass
"""
WRONG_CLASS = """
from npllm.attention import CausalAttention as Theirs
from npllm import functional as F

class CausalAttention(Theirs):
    def backward(self, dy, cache):
        return super().backward(dy * 0.5, cache)
"""


def run(tmp_path, source):
    """pytest --impl on a module with this source; the exit status and what was printed."""
    (tmp_path / "my_module.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--impl", "my_module"]
    command += ["tests/layers", "tests/attention"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_a_right_function_passes_the_tests_that_cover_it(tmp_path):
    status, out = run(tmp_path, RIGHT)
    assert status == 0, out
    assert "deselected" in out


def test_a_naive_function_fails(tmp_path):
    status, out = run(tmp_path, NAIVE)
    assert status == 1
    assert "test_equals_pytorch" in out


def test_classes(tmp_path):
    assert run(tmp_path, RIGHT_CLASS)[0] == 0
    status, out = run(tmp_path, WRONG_CLASS)
    assert status == 1
    assert "gradient of input" in out


def test_a_module_without_any_known_name_says_which_are_known(tmp_path):
    status, out = run(tmp_path, "def hardmax(x):\n    return x\n")
    assert status == 4
    assert "defines none of the functions and classes that can be tested" in out
    assert "scaled_dot_product_attention" in out


def test_a_missing_module_is_a_usage_error(tmp_path):
    command = [sys.executable, "-m", "pytest", "--impl", "no_such_module", "tests/layers"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4
    assert "it must be a module importable from here" in done.stderr
