import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm.core import Parameter
from npllm.training import SGD, AdamW, decays_weight
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
            parameter.grad, tensor.grad = gradient, None if gradient is None else torch.tensor(gradient)
        ours.step()
        theirs.step()
    dtype = parameters[0].data.dtype
    tolerance = 1e-5 if dtype == np.float32 else 1e-11
    for parameter, tensor in zip(parameters, tensors):
        assert parameter.data.dtype == dtype
        np.testing.assert_allclose(parameter.data, tensor.detach(), rtol=tolerance, atol=tolerance)


@given(st.data(), dtypes, seeds, st.sampled_from([1e-3, 0.1]), OPTIONS)
def test_adamw_equals_pytorch(data, dtype, seed, learning_rate, options):
    rng = np.random.default_rng(seed)
    weights = [data.draw(arrays(shape, dtype)) for shape in ((3, 4), (5,))]
    gradients = [[rng.standard_normal(w.shape).astype(dtype) for w in weights] for _ in range(5)]
    for step in gradients:
        if rng.random() < 0.4:  # a parameter without a gradient is not updated, and its step count stays
            step[rng.integers(0, 2)] = None
    parameters = [Parameter(w.copy()) for w in weights]
    tensors = [torch.tensor(np.ascontiguousarray(w), requires_grad=True) for w in weights]
    ours = AdamW({str(i): p for i, p in enumerate(parameters)}, learning_rate, **options)
    run(ours, torch.optim.AdamW(tensors, learning_rate, **options), parameters, tensors, gradients)


@given(st.data(), dtypes, seeds, st.sampled_from([0.0, 0.5, 0.9]))
def test_sgd_equals_pytorch(data, dtype, seed, momentum):
    rng = np.random.default_rng(seed)
    weights = [data.draw(arrays((3, 4), dtype))]
    gradients = [[rng.standard_normal((3, 4)).astype(dtype)] for _ in range(3)]
    parameters = [Parameter(w.copy()) for w in weights]
    tensors = [torch.tensor(np.ascontiguousarray(w), requires_grad=True) for w in weights]
    ours, theirs = SGD({"w": parameters[0]}, 0.1, momentum), torch.optim.SGD(tensors, 0.1, momentum)
    run(ours, theirs, parameters, tensors, gradients)


EDGES = [np.inf, -np.inf, np.nan, np.finfo(np.float32).max, 1e20, 1e-25, np.finfo(np.float32).tiny, 1e-45, 0.0, -0.0]


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("weight", EDGES)
@pytest.mark.parametrize("name", ["AdamW", "SGD", "SGD with momentum"])
def test_numbers_at_the_edge_equal_pytorch(name, weight, edge):
    weights, gradient = np.array([1, weight, 0.5], np.float32), np.array([edge, 1, -edge], np.float32)
    parameter, tensor = Parameter(weights.copy()), torch.tensor(weights, requires_grad=True)
    make = {
        "AdamW": (lambda p: AdamW(p, 0.1), lambda t: torch.optim.AdamW(t, 0.1)),
        "SGD": (lambda p: SGD(p, 0.1), lambda t: torch.optim.SGD(t, 0.1)),
        "SGD with momentum": (lambda p: SGD(p, 0.1, 0.9), lambda t: torch.optim.SGD(t, 0.1, 0.9)),
    }[name]
    ours, theirs = make[0]({"w": parameter}), make[1]([tensor])
    for _ in range(2):
        parameter.grad, tensor.grad = gradient.copy(), torch.tensor(gradient)
        ours.step()
        theirs.step()
    np.testing.assert_allclose(parameter.data, tensor.detach(), rtol=1e-5, atol=0)


def test_decay_is_decoupled_from_the_gradient():
    # added to the gradient, the decay would be divided by √v̂ and be the same for large and small weights
    parameter = Parameter(np.array([100.0, 1.0]))
    parameter.grad = np.array([1.0, 1.0])
    AdamW({"w": parameter}, learning_rate=0.1, weight_decay=0.5).step()
    np.testing.assert_allclose(parameter.data, [100 * 0.95 - 0.1, 1 * 0.95 - 0.1])


@pytest.mark.parametrize("optimizer", [SGD, AdamW])
def test_a_parameter_without_a_gradient_is_not_changed(optimizer):
    parameter = Parameter(np.ones(3))
    optimizer({"w": parameter}, 0.1).step()
    np.testing.assert_array_equal(parameter.data, 1)


@pytest.mark.parametrize(("optimizer", "learning_rate"), [(SGD, 0.1), (AdamW, 0.1)])
def test_optimizers_converge_to_a_minimum(optimizer, learning_rate):
    parameter = Parameter(np.array([5.0, -3.0]))
    descent = optimizer({"w": parameter}, learning_rate)
    for _ in range(400):
        parameter.grad = 2 * (parameter.data - np.array([1.0, 2.0]))
        descent.step()
    np.testing.assert_allclose(parameter.data, [1, 2], atol=0.05)


def test_the_weight_decay_filter_selects_matrices():
    matrix, bias = Parameter(np.ones((2, 2))), Parameter(np.ones(2))
    matrix.grad, bias.grad = np.zeros((2, 2)), np.zeros(2)
    AdamW(
        {"weight": matrix, "bias": bias}, learning_rate=0.1, weight_decay=0.5, weight_decay_filter=decays_weight
    ).step()
    np.testing.assert_allclose(matrix.data, 0.95)
    np.testing.assert_array_equal(bias.data, 1)


@pytest.mark.parametrize("make", [lambda p: AdamW(p, 0.1), lambda p: SGD(p, 0.1, 0.9)])
def test_loading_the_state_continues_exactly(make):
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((6, 3))
    whole, resumed = Parameter(np.ones(3)), Parameter(np.ones(3))
    one, first = make({"w": whole}), make({"w": resumed})
    for step, gradient in enumerate(gradients):
        if step == 3:
            state = {name: array.copy() for name, array in first.state_dict().items()}
            steps = [dict(first.steps)] if isinstance(first, AdamW) else []
            first = make({"w": resumed})
            first.load_state_dict(state, *steps)
        for optimizer, parameter in ((one, whole), (first, resumed)):
            parameter.grad = gradient.copy()
            optimizer.step()
    np.testing.assert_array_equal(whole.data, resumed.data)
    with pytest.raises(KeyError, match="does not fit"):
        first.load_state_dict({}, *({} for _ in steps))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: AdamW(p, -1.0), ValueError, "learning_rate is -1.0; it must be at least 0"),
        (lambda p: AdamW(p, betas=(0.9, 1.0)), ValueError, r"betas\[1\] is 1.0; it must be at least 0 and less than 1"),
        (lambda p: SGD(p, 0.1, momentum=-1), ValueError, "momentum is -1"),
        (lambda p: SGD([], 0.1), ValueError, "parameters is empty"),
        (lambda p: AdamW([p["w"]]), TypeError, "parameters must be pairs of a name and a Parameter"),
    ],
)
def test_invalid_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make({"w": Parameter(np.ones(2))})


def test_the_defaults_equal_those_of_pytorch():
    def defaults(function):
        parameters = inspect.signature(function).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}

    theirs = defaults(torch.optim.AdamW)
    expected = {name: theirs[name] for name in ("betas", "eps", "weight_decay")} | {"learning_rate": theirs["lr"]}
    assert defaults(AdamW) == expected | {"weight_decay_filter": None}
    assert defaults(SGD) == {"momentum": defaults(torch.optim.SGD)["momentum"]}
