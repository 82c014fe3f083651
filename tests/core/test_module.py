import numpy as np
import pytest

from npllm.core import Module, Parameter
from npllm.layers import FeedForward, Linear, MixtureOfExperts
from npllm.models import TransformerBlock


class Tied(Module):
    """Two layers with one weight, and a list."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.first = Linear(3, 3, rng=rng, dtype="float64")
        self.second = Linear(3, 3, rng=rng, dtype="float64")
        self.second.weight = self.first.weight
        self.more = [Linear(2, 2, bias=False, rng=rng)]
        self.scale = Parameter(np.ones(()))


def test_named_parameters_have_dotted_names_and_a_shared_parameter_occurs_once():
    module = Tied()
    assert [name for name, _ in module.named_parameters()] == [
        "scale", "first.weight", "first.bias", "second.bias", "more.0.weight"
    ]  # fmt: skip
    assert list(module.state_dict()) == [
        "scale", "first.weight", "first.bias", "second.weight", "second.bias", "more.0.weight"
    ]  # fmt: skip
    assert list(module.children) == ["first", "second", "more.0"]
    assert list(module.params) == ["scale"]
    assert module.num_parameters() == 1 + 9 + 3 + 3 + 4


def test_a_shared_parameter_adds_up_both_gradients():
    module = Tied()
    x, dy = np.random.default_rng(1).standard_normal((2, 4, 3))
    h, first = module.first.forward(x)
    _, second = module.second.forward(h)
    module.first.backward(module.second.backward(dy, second), first)
    both = module.first.weight.grad.copy()
    module.zero_grad()
    dh = module.second.backward(dy, second)
    alone = module.second.weight.grad.copy()
    module.zero_grad()
    module.first.backward(dh, first)
    np.testing.assert_allclose(both, alone + module.first.weight.grad)


def test_gradients_add_up_until_zero_grad_and_two_forwards_may_come_first():
    rng = np.random.default_rng(0)
    block = TransformerBlock(8, 6, 0.1, 2, rng=rng, dtype="float64")
    batches = [rng.standard_normal((2, 5, 8)) for _ in range(2)]
    caches = [block.forward(x, rng=rng)[1] for x in batches]
    dys = [rng.standard_normal(x.shape) for x in batches]
    for dy, cache in zip(dys, caches):
        block.backward(dy, cache)
    together = {name: parameter.grad.copy() for name, parameter in block.named_parameters()}
    block.zero_grad()
    assert all(parameter.grad is None for _, parameter in block.named_parameters())
    parts = []
    for dy, cache in zip(dys, caches):
        block.zero_grad()
        block.backward(dy, cache)
        parts.append({name: parameter.grad for name, parameter in block.named_parameters()})
    for name, gradient in together.items():
        np.testing.assert_allclose(gradient, parts[0][name] + parts[1][name], rtol=1e-10, atol=1e-12, err_msg=name)


def test_state_dict_round_trip():
    one, other = (TransformerBlock(8, 6, 0.0, 2, rng=np.random.default_rng(seed)) for seed in (1, 2))
    x = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    assert (one(x) != other(x)).any()
    other.load_state_dict(one.state_dict())
    np.testing.assert_array_equal(other(x), one(x))
    one.mlp.c_fc.weight.data += 1
    assert (one(x) != other(x)).any(), "loading must copy"


def test_loading_is_strict_and_all_or_nothing():
    layer = Linear(3, 2, rng=np.random.default_rng(0))
    before = {name: array.copy() for name, array in layer.state_dict().items()}
    with pytest.raises(KeyError, match=r"missing \['bias'\], unknown \['extra'\]"):
        layer.load_state_dict({"weight": np.ones((2, 3)), "extra": 1})
    with pytest.raises(ValueError, match=r"bias has shape \(3,\); it must be \(2,\)"):
        layer.load_state_dict({"weight": np.ones((2, 3)), "bias": np.ones(3)})
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_add_grads_matches_by_name_and_skips_none():
    layer = Linear(3, 2, rng=np.random.default_rng(0), dtype="float64")
    dbias = np.random.default_rng(1).standard_normal(2)
    layer.add_grads(bias=dbias.copy(), weight=None)
    assert layer.weight.grad is None
    np.testing.assert_array_equal(layer.bias.grad, dbias)
    layer.add_grads(bias=np.ones(2))
    np.testing.assert_allclose(layer.bias.grad, dbias + 1)
    with pytest.raises(AttributeError, match="scale"):
        layer.add_grads(scale=dbias)


def test_init_weights_draws_for_the_children_in_the_order_of_the_attributes():
    network = FeedForward(3, 2, init=False)
    network.init_weights(np.random.default_rng(0))
    rng = np.random.default_rng(0)
    for layer in (Linear(3, 2, rng=rng), Linear(2, 3, rng=rng)):
        expected, found = layer.state_dict(), (network.c_fc, network.c_proj)[layer.weight.shape == (3, 2)].state_dict()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)


def test_invalid_arguments():
    with pytest.raises(TypeError, match="rng is 0; it must be a numpy.random.Generator"):
        Linear(3, 2, rng=0)
    with pytest.raises(ValueError, match=r"the gradient has shape \(3,\); it must be the parameter's \(2,\)"):
        Parameter(np.zeros(2)).add_grad(np.zeros(3))
    with pytest.raises(NotImplementedError, match="Tied must define forward"):
        Tied()(1)
    with pytest.raises(NotImplementedError, match="Tied must define backward"):
        Tied().backward(1, None)


def test_the_representation_of_a_parameter_shows_shape_and_dtype():
    assert repr(Parameter(np.zeros((2, 3), np.float32))) == "Parameter(2 × 3, float32)"


def test_the_representation_of_a_module_shows_the_tree_with_shapes_and_the_number_of_parameters():
    assert repr(Linear(3, 2)) == "Linear(weight (2, 3), bias (2,))  # 8 parameters"
    assert repr(FeedForward(300, 400)).split("\n") == [
        "FeedForward(  # 240,700 parameters",
        "  (c_fc): Linear(weight (400, 300), bias (400,))",
        "  (c_proj): Linear(weight (300, 400), bias (300,))",
        ")",
    ]


def test_the_representation_groups_equal_neighbours_in_a_list():
    lines = repr(MixtureOfExperts(3, 4, d_hidden=2)).split("\n")
    assert lines[0] == "MixtureOfExperts(  # 84 parameters"
    assert lines[1] == "  (gate): Linear(weight (4, 3))"
    assert lines[2] == "  (experts.0 … 3): 4 × GatedFeedForward("
    assert lines[3] == "    (gate_proj): Linear(weight (2, 3))"
    assert len(lines) == 8
