"""Functions that are computed on blocks of rows give the same numbers in one block and in many."""

from functools import partial

import numpy as np
import pytest

import npllm.functional as F
from npllm.attention.variants import rope
from npllm.core import Parameter, row_blocks
from npllm.core.threads import limit_threads
from npllm.training import SGD, AdamW, clip_grad_norm

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
    gradients = getattr(F, f"{name}_backward")(np.asarray(rng.standard_normal(y.shape)).astype(y.dtype), cache)
    return [y, *(gradients if isinstance(gradients, tuple) else (gradients,))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), ELEMENTWISE)
def test_activations(monkeypatch, name, options, dtype, shape):
    x = (3 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    rtol = 4 * np.finfo(dtype).eps  # NumPy may compute the last numbers of an array in another way
    check(monkeypatch, lambda: forward_and_backward(name, x, rng=np.random.default_rng(1), **options), rtol)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_along_every_axis(monkeypatch, name, dtype, shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    x.flat[::5] = -np.inf
    for axis in range(-len(shape), len(shape)):
        run = partial(forward_and_backward, name, x, axis=axis)
        check(monkeypatch, lambda run=run: run(rng=np.random.default_rng(1)), 4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(40, 3), (3, 5, 7), (2, 70)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "num_parameters"),
    [("layer_norm", 0), ("layer_norm", 1), ("layer_norm", 2), ("rms_norm", 0), ("rms_norm", 1), ("l2_normalize", 0)],
)
def test_normalization(monkeypatch, name, num_parameters, dtype, shape):
    rng = np.random.default_rng(0)
    parameters = rng.standard_normal((num_parameters, shape[-1])).astype(dtype)
    x = rng.standard_normal(shape).astype(dtype)
    x[1] *= np.sqrt(np.finfo(dtype).max)  # the squares overflow
    run = partial(forward_and_backward, name, x, *parameters)
    check(monkeypatch, lambda: run(rng=np.random.default_rng(1)), 40 * np.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(40, 3), (3, 5, 7), (2, 70)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.3}])
def test_cross_entropy(monkeypatch, options, reduction, dtype, shape):
    rng = np.random.default_rng(0)
    logits, targets = rng.standard_normal(shape).astype(dtype), rng.integers(shape[-1], size=shape[:-1])
    targets.flat[1] = -100
    run = partial(
        forward_and_backward, "cross_entropy", logits, targets, rng.random(shape[-1]).astype(dtype),
        reduction=reduction, **options,
    )  # fmt: skip
    check(monkeypatch, lambda: run(rng=np.random.default_rng(1)), 40 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("momentum", [None, 0.0, 0.9])
def test_optimizers_and_clipping(monkeypatch, momentum, dtype):
    def compute():
        rng = np.random.default_rng(0)
        shapes = {"a": (40, 3), "b": (7,), "c": (130,), "d": (9, 20)}
        parameters = {name: Parameter(rng.standard_normal(shape).astype(dtype)) for name, shape in shapes.items()}
        parameters["d"].data = parameters["d"].data.T  # not contiguous
        optimizer = AdamW(parameters) if momentum is None else SGD(parameters, 0.1, momentum)
        norms = []
        for _ in range(3):
            for parameter in parameters.values():
                parameter.grad = rng.standard_normal(parameter.shape).astype(dtype)
            norms.append(np.array(clip_grad_norm(parameters.items(), 2.0)))
            optimizer.step()
        return [*norms, *(p.data for p in parameters.values()), *optimizer.state_dict().values()]

    check(monkeypatch, compute, 40 * np.finfo(dtype).eps)


@pytest.mark.parametrize("layout", ["halves", "pairs"])
@pytest.mark.parametrize("shape", [(5, 12), (3, 5, 12), (2, 3, 5, 12)])
@pytest.mark.parametrize("smallest_head", [1, 10**9])
def test_rope(monkeypatch, smallest_head, shape, layout):
    x, dy = np.random.default_rng(0).standard_normal((2, *shape))
    positions = np.arange(5) if len(shape) < 4 else np.arange(10).reshape(2, 1, 5)

    def compute():
        y, cache = rope.rotary_forward(x, positions, np.array([1.0, 0.5, 0.1]), layout, 1.5)
        return y, rope.rotary_backward(dy, cache)

    whole = compute()
    monkeypatch.setattr(rope, "MIN_SIZE", 0)
    monkeypatch.setattr(rope, "MIN_HEAD_SIZE", smallest_head)
    for expected, found in zip(whole, compute(), strict=True):
        np.testing.assert_array_equal(found, expected)
