import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm.core import Parameter
from npllm.training import clip_grad_norm, grad_norm
from tests.strategies import dtypes, sizes


def parameters(rng, dtype, shapes):
    found = []
    for index, shape in enumerate(shapes):
        parameter = Parameter(np.zeros(shape, dtype))
        parameter.grad = rng.standard_normal(shape).astype(dtype)
        found.append((f"p{index}", parameter))
    return [*found, ("unused", Parameter(np.zeros(2, dtype)))]


@given(st.integers(0, 99), dtypes, sizes, sizes, st.floats(0.01, 10))
def test_equals_pytorch(seed, dtype, m, n, max_norm):
    named = parameters(np.random.default_rng(seed), dtype, [(m, n), (n,), ()])
    theirs = [torch.zeros(p.shape, dtype=getattr(torch, dtype.name)) for _, p in named]
    for tensor, (_, parameter) in zip(theirs, named):
        tensor.grad = None if parameter.grad is None else torch.tensor(parameter.grad)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    assert clip_grad_norm(iter(named), max_norm) == pytest.approx(expected.item(), rel=1e-6)
    for tensor, (_, parameter) in zip(theirs, named):
        if tensor.grad is not None:
            assert parameter.grad.dtype == dtype
            np.testing.assert_allclose(parameter.grad, tensor.grad, rtol=1e-5, atol=1e-7)


@given(st.integers(0, 99), st.floats(0.01, 1))
def test_all_gradients_are_scaled_by_one_factor(seed, max_norm):
    named = parameters(np.random.default_rng(seed), np.dtype(np.float64), [(3, 4), (50,)])
    before = np.concatenate([p.grad.ravel() for _, p in named[:2]])
    assert clip_grad_norm(named, max_norm) == pytest.approx(np.linalg.norm(before))
    after = np.concatenate([p.grad.ravel() for _, p in named[:2]])
    assert grad_norm(named) == pytest.approx(max_norm, rel=1e-4)
    np.testing.assert_allclose(after / np.linalg.norm(after), before / np.linalg.norm(before), rtol=1e-9)


def test_tiny_gradients_are_scaled_as_in_pytorch():
    named = parameters(np.random.default_rng(0), np.dtype(np.float64), [(3,)])
    named[0][1].grad *= 1e-6  # the 1e-6 in the denominator counts
    tensor = torch.zeros(3, dtype=torch.float64)
    tensor.grad = torch.tensor(named[0][1].grad)
    torch.nn.utils.clip_grad_norm_([tensor], 1e-7)
    clip_grad_norm(named, 1e-7)
    np.testing.assert_allclose(named[0][1].grad, tensor.grad, rtol=1e-12)


def test_the_norm_of_a_large_float32_gradient_is_summed_in_float64():
    gradient = np.random.default_rng(0).random(1_000_000, dtype=np.float32)
    parameter = Parameter(np.zeros_like(gradient))
    parameter.grad = gradient
    exact = math.sqrt(math.fsum((gradient.astype(np.float64) ** 2).tolist()))
    assert grad_norm([("w", parameter)]) == pytest.approx(exact, rel=1e-12)


def test_gradients_below_the_maximum_norm_are_not_changed():
    named = parameters(np.random.default_rng(0), np.dtype(np.float32), [(3,)])
    before = named[0][1].grad.copy()
    clip_grad_norm(named, 1e9)
    np.testing.assert_array_equal(named[0][1].grad, before)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_an_error_and_nothing_is_written(value):
    named = parameters(np.random.default_rng(0), np.dtype(np.float32), [(3,)])
    named[0][1].grad[1] = value
    with pytest.raises(FloatingPointError, match="the gradient norm is"):
        clip_grad_norm(named, 1.0)
    with pytest.raises(ValueError, match="max_norm is 0"):
        clip_grad_norm(named, 0)
