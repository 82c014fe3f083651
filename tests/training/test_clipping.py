import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm.core import Parameter
from npllm.training import clip_gradient_norm, gradient_norm
from tests.strategies import dtypes, sizes


def parameters(rng, dtype, shapes):
    found = []
    for index, shape in enumerate(shapes):
        parameter = Parameter(np.zeros(shape, dtype))
        parameter.grad = rng.standard_normal(shape).astype(dtype)
        found.append((f"p{index}", parameter))
    return [*found, ("unused", Parameter(np.zeros(2, dtype)))]


@given(st.integers(0, 99), dtypes, sizes, sizes, st.floats(0.01, 10))
def test_equals_pytorchs(seed, dtype, m, n, limit):
    named = parameters(np.random.default_rng(seed), dtype, [(m, n), (n,), ()])
    theirs = [torch.zeros(p.shape, dtype=getattr(torch, dtype.name)) for _, p in named]
    for tensor, (_, parameter) in zip(theirs, named):
        tensor.grad = None if parameter.grad is None else torch.tensor(parameter.grad)
    expected = torch.nn.utils.clip_grad_norm_(theirs, limit)
    assert clip_gradient_norm(iter(named), limit) == pytest.approx(expected.item(), rel=1e-6)
    for tensor, (_, parameter) in zip(theirs, named):
        if tensor.grad is not None:
            assert parameter.grad.dtype == dtype
            np.testing.assert_allclose(parameter.grad, tensor.grad, rtol=1e-5, atol=1e-7)


@given(st.integers(0, 99), st.floats(0.01, 1))
def test_the_norm_is_that_of_all_together_and_the_direction_stays(seed, limit):
    named = parameters(np.random.default_rng(seed), np.dtype(np.float64), [(3, 4), (50,)])
    before = np.concatenate([p.grad.ravel() for _, p in named[:2]])
    assert clip_gradient_norm(named, limit) == pytest.approx(np.linalg.norm(before))
    after = np.concatenate([p.grad.ravel() for _, p in named[:2]])
    assert gradient_norm(named) == pytest.approx(limit, rel=1e-4)
    np.testing.assert_allclose(after / np.linalg.norm(after), before / np.linalg.norm(before), rtol=1e-9)


def test_a_short_gradient_stays():
    named = parameters(np.random.default_rng(0), np.dtype(np.float32), [(3,)])
    before = named[0][1].grad.copy()
    clip_gradient_norm(named, 1e9)
    np.testing.assert_array_equal(named[0][1].grad, before)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_ruined_gradient_is_an_error_not_a_step(value):
    named = parameters(np.random.default_rng(0), np.dtype(np.float32), [(3,)])
    named[0][1].grad[1] = value
    with pytest.raises(FloatingPointError, match="the gradient's norm is"):
        clip_gradient_norm(named, 1.0)
    with pytest.raises(ValueError, match="limit is 0"):
        clip_gradient_norm(named, 0)
