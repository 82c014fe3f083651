import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import torch_ref.layers
from npllm.core.gradient_check import check_gradients
from npllm.layers import GatedFeedForward, MixtureOfExperts
from tests.equivalence import check_layer, implementation
from tests.strategies import arrays, dtypes, leading, seeds, sizes

NAME = "MixtureOfExperts"
pytestmark = pytest.mark.covers(NAME)


@st.composite
def configs(draw):
    """Constructor arguments."""
    num_experts = draw(st.integers(1, 5))
    return {"d_model": draw(sizes), "num_experts": num_experts, "d_hidden": draw(sizes),
            "top_k": draw(st.integers(1, num_experts)), "norm_topk_prob": draw(st.booleans())}  # fmt: skip


def build(seed=0, **changes):
    """A float64 layer."""
    config = {"d_model": 4, "num_experts": 5, "top_k": 2, "d_hidden": 3} | changes
    return implementation(NAME)(**config, rng=np.random.default_rng(seed), dtype="float64")


@given(st.data(), configs(), dtypes, leading, sizes, seeds)
def test_equals_pytorch(data, config, dtype, batch, T, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((*batch, T, config["d_model"])).astype(dtype)  # no ties: of equals, either may be chosen
    check_layer(NAME, config, x, dtype=dtype, rng=rng)


@given(st.data(), sizes)
def test_a_single_expert_gives_the_result_of_its_network(data, T):
    layer = build(num_experts=1, top_k=1)
    x = data.draw(arrays((T, 4), np.dtype(np.float64)))
    np.testing.assert_allclose(layer(x), layer.experts[0](x), rtol=1e-12)


def test_equal_experts_give_the_result_of_one_network():
    layer, one = build(), GatedFeedForward(4, 3, rng=np.random.default_rng(9), dtype="float64")
    for expert in layer.experts:
        expert.load_state_dict(one.state_dict())
    x = np.random.default_rng(0).standard_normal((7, 4))
    np.testing.assert_allclose(layer(x), one(x), rtol=1e-12)


@pytest.mark.parametrize("norm_topk_prob", [True, False])
def test_finite_differences_with_aux_loss(norm_topk_prob):
    rng, layer = np.random.default_rng(0), build(norm_topk_prob=norm_topk_prob)
    x = rng.standard_normal((2, 6, 4))
    y, cache = layer.forward(x)
    dy = rng.standard_normal(y.shape)
    dx = layer.backward(dy, cache, daux_loss=0.7)

    def loss(*_):
        y, cache = layer.forward(x)
        return (y * dy).sum() + 0.7 * cache.aux_loss

    parameters = [parameter for _, parameter in layer.named_parameters()]
    check_gradients(loss, [x, *(p.data for p in parameters)], [dx, *(p.grad for p in parameters)], rng)


@given(seeds, st.integers(1, 4))
def test_aux_loss_equals_the_reference(seed, k):
    rng, layer = np.random.default_rng(seed), build(top_k=k)
    reference = torch_ref.layers.MixtureOfExperts(4, 5, k, 3).double()
    reference.load_state_dict({name: torch.tensor(array) for name, array in layer.state_dict().items()})
    x = rng.standard_normal((2, 6, 4))
    _, cache = layer.forward(x)
    layer.backward(np.zeros_like(x), cache, daux_loss=1.0)
    reference(torch.tensor(x))
    aux_loss = reference.aux_loss()
    assert cache.aux_loss == pytest.approx(aux_loss.item())
    assert 0 <= cache.aux_loss <= 5 + 1e-9
    (expected,) = torch.autograd.grad(aux_loss, [reference.gate.weight])
    np.testing.assert_allclose(layer.gate.weight.grad, expected, rtol=1e-9, atol=1e-12)


def test_the_auxiliary_loss_is_least_for_a_balanced_router():
    layer = build(num_experts=4, top_k=1)
    layer.gate.weight.data[...] = 30 * np.eye(4)
    assert layer.forward(np.eye(4))[1].aux_loss == pytest.approx(1.0)
    assert layer.forward(np.eye(4)[[2, 2, 2, 2]])[1].aux_loss == pytest.approx(4.0)


def test_only_the_selected_experts_get_a_gradient():
    layer = build()
    x = np.random.default_rng(0).standard_normal((1, 4))
    y, cache = layer.forward(x)
    layer.backward(np.random.default_rng(1).standard_normal(y.shape), cache)
    for number, expert in enumerate(layer.experts):
        assert (expert.up_proj.weight.grad != 0).any() == (number in cache.chosen)


def test_invalid_arguments():
    for k in (0, 6):
        with pytest.raises(ValueError, match=f"top_k is {k}; it must be at least 1 and at most num_experts, 5"):
            MixtureOfExperts(4, 5, k)
