import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm.layers import Parameter
from npllm.training import SGD, AdamW
from tests.strategies import arrays, dtypes, seeds

OPTIONS = st.fixed_dictionaries(
    {
        "betas": st.sampled_from([(0.9, 0.999), (0.8, 0.95), (0.0, 0.0)]),
        "eps": st.sampled_from([1e-8, 1e-3]),
        "weight_decay": st.sampled_from([0.0, 0.01, 0.5]),
    }
)


def run(ours, theirs, parameters, tensors, gradients):
    for step in gradients:
        for parameter, tensor, gradient in zip(parameters, tensors, step):
            parameter.grad, tensor.grad = gradient, torch.tensor(gradient)
        ours.step()
        theirs.step()
    dtype = parameters[0].data.dtype
    tolerance = 1e-5 if dtype == np.float32 else 1e-11
    for parameter, tensor in zip(parameters, tensors):
        assert parameter.data.dtype == dtype
        np.testing.assert_allclose(parameter.data, tensor.detach(), rtol=tolerance, atol=tolerance)


@given(st.data(), dtypes, seeds, st.sampled_from([1e-3, 0.1]), OPTIONS)
def test_adamw_equals_pytorchs(data, dtype, seed, learning_rate, options):
    rng = np.random.default_rng(seed)
    weights = [data.draw(arrays(shape, dtype)) for shape in ((3, 4), (5,))]
    gradients = [[rng.standard_normal(w.shape).astype(dtype) for w in weights] for _ in range(5)]
    parameters = [Parameter(w.copy()) for w in weights]
    tensors = [torch.tensor(np.ascontiguousarray(w), requires_grad=True) for w in weights]
    ours = AdamW({str(i): p for i, p in enumerate(parameters)}, learning_rate, **options)
    run(ours, torch.optim.AdamW(tensors, learning_rate, **options), parameters, tensors, gradients)


@given(st.data(), dtypes, seeds)
def test_sgd_equals_pytorchs(data, dtype, seed):
    rng = np.random.default_rng(seed)
    weights = [data.draw(arrays((3, 4), dtype))]
    gradients = [[rng.standard_normal((3, 4)).astype(dtype)] for _ in range(3)]
    parameters = [Parameter(w.copy()) for w in weights]
    tensors = [torch.tensor(np.ascontiguousarray(w), requires_grad=True) for w in weights]
    run(SGD({"w": parameters[0]}, 0.1), torch.optim.SGD(tensors, 0.1), parameters, tensors, gradients)


def test_decay_is_decoupled_from_the_gradient():
    # put into the gradient, the decay would be divided by √v̂ and move a large weight no more than a small one
    parameter = Parameter(np.array([100.0, 1.0]))
    parameter.grad = np.array([1.0, 1.0])
    AdamW({"w": parameter}, learning_rate=0.1, weight_decay=0.5).step()
    np.testing.assert_allclose(parameter.data, [100 * 0.95 - 0.1, 1 * 0.95 - 0.1])


@pytest.mark.parametrize("optimizer", [SGD, AdamW])
def test_a_parameter_without_a_gradient_stays(optimizer):
    parameter = Parameter(np.ones(3))
    optimizer({"w": parameter}, 0.1).step()
    np.testing.assert_array_equal(parameter.data, 1)


@pytest.mark.parametrize(("optimizer", "learning_rate"), [(SGD, 0.1), (AdamW, 0.1)])
def test_they_find_a_minimum(optimizer, learning_rate):
    parameter = Parameter(np.array([5.0, -3.0]))
    descent = optimizer({"w": parameter}, learning_rate)
    for _ in range(400):
        parameter.grad = 2 * (parameter.data - np.array([1.0, 2.0]))
        descent.step()
    np.testing.assert_allclose(parameter.data, [1, 2], atol=0.05)
