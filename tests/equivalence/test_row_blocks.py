"""Functions that are computed on blocks of rows give the same numbers in one block and in many."""

import numpy as np
import pytest

import npllm.functional as F
from npllm.core import row_blocks
from npllm.core.threads import limit_threads

SHAPES = [(40, 3), (3, 5, 7), (130,), (2, 70), (0, 3)]
ELEMENTWISE = [
    *((name, {}) for name in ("relu", "sigmoid", "silu", "gelu", "quick_gelu", "tanh", "squared_relu")),
    ("gelu", {"approximate": "tanh"}),
]


def in_blocks(monkeypatch, compute, num_threads):
    """The result of `compute()` in blocks of 16 numbers."""
    with monkeypatch.context() as patch, limit_threads(num_threads):
        patch.setattr(row_blocks, "BLOCK_SIZE", 16)
        patch.setattr(row_blocks, "MIN_SIZE", 32)
        return compute()


def check(monkeypatch, compute, rtol=0.0):
    """Compare the arrays that `compute()` returns, in one block and in many."""
    whole = compute()
    for num_threads in (1, 2):
        parts = in_blocks(monkeypatch, compute, num_threads)
        for expected, found in zip(whole, parts, strict=True):
            assert found.shape == expected.shape
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)


def forward_and_backward(name, *arguments, rng, **options):
    y, cache = getattr(F, f"{name}_forward")(*arguments, **options)
    gradients = getattr(F, f"{name}_backward")(rng.standard_normal(y.shape).astype(y.dtype), cache)
    return [y, *(gradients if isinstance(gradients, tuple) else (gradients,))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), ELEMENTWISE)
def test_activations(monkeypatch, name, options, dtype, shape):
    x = (3 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    rtol = 4 * np.finfo(dtype).eps  # NumPy may compute the last numbers of an array in another way
    check(monkeypatch, lambda: forward_and_backward(name, x, rng=np.random.default_rng(1), **options), rtol)
