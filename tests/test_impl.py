"""`pytest --impl`: the suite run on right and wrong implementations of a function and a class."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

RIGHT = """
import numpy as np
from npllm.attention import CausalAttention as Npllms

def softmax(x, axis=-1):
    with np.errstate(all="ignore"):
        largest = x.max(axis=axis, keepdims=True, initial=-np.inf)
        e = np.exp(x - np.where(largest == -np.inf, 0, largest))
        total = e.sum(axis=axis, keepdims=True)
        return e / np.where(total == 0, 1, total)

class CausalAttention(Npllms):
    pass
"""
WRONG = """
import numpy as np
from npllm.attention import CausalAttention as Npllms

def softmax(x, axis=-1):  # overflows
    with np.errstate(all="ignore"):
        e = np.exp(x)
        return e / e.sum(axis=axis, keepdims=True)

class CausalAttention(Npllms):
    def backward(self, dy, cache):
        return super().backward(dy * 0.5, cache)
"""


def run(tmp_path, source, tests=("tests/layers/test_softmax.py", "tests/attention")):
    """pytest --impl on a module with this source; the exit status and what was printed."""
    (tmp_path / "my_module.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=mutants"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [*command, "--impl", "my_module", *tests], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_correct_implementations_pass_the_tests_that_cover_them(tmp_path):
    status, out = run(tmp_path, RIGHT)
    assert status == 0, out
    assert "deselected" in out
    assert "1 function and 1 layer equal PyTorch (value, gradients, dtype) in float32 and float64" in out


def test_wrong_implementations_fail(tmp_path):
    status, out = run(tmp_path, WRONG)
    assert status == 1
    assert "FAILED tests/layers/test_softmax.py" in out
    assert "FAILED tests/attention" in out
    assert "gradient of input" in out


def test_the_error_for_a_module_without_a_known_name_lists_the_known_names(tmp_path):
    status, out = run(tmp_path, "def hardmax(x):\n    return x\n", ["tests/layers/test_softmax.py"])
    assert status == 4
    assert "defines none of the functions and classes that can be tested" in out
    assert "log_softmax" in out


def test_a_missing_module_is_a_usage_error():
    command = [sys.executable, "-m", "pytest", "--impl", "no_such_module", "tests/layers/test_softmax.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4
    assert "it must be a module importable from here" in done.stderr
