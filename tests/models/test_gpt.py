import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm.core.gradient_check import check_gradients
from npllm.inspect.cost import (
    activation_bytes,
    count_activation_bytes,
    count_operations,
    count_parameters,
    count_training_bytes,
)
from npllm.inspect.trace import trace
from npllm.layers.activations import ACTIVATIONS
from npllm.models import GPT, GPTConfig
from tests.equivalence import check_layer, implementation, torch_reference
from tests.strategies import dtypes, integers, sizes

SMALL = GPTConfig(vocab_size=11, context_length=8, d_model=12, num_layers=2, num_heads=3)


@st.composite
def configs(draw):
    """Small GPTs of every kind."""
    num_heads = draw(st.integers(1, 3))
    return GPTConfig(
        vocab_size=draw(st.integers(2, 13)),
        context_length=7,
        d_model=num_heads * draw(st.integers(2, 4)),
        num_layers=draw(st.integers(1, 3)),
        num_heads=num_heads,
        qkv_bias=draw(st.booleans()),
        tied=draw(st.booleans()),
        embedding_dropout=0.1,
        attention_dropout=0.2,
        residual_dropout=0.3,
        layer_norm_eps=draw(st.sampled_from([1e-5, 1e-3])),
        d_hidden=draw(st.none() | st.integers(1, 9)),
        activation=draw(st.sampled_from(list(ACTIVATIONS))),
        scale_scores=draw(st.booleans()),
        scale_by_layer=draw(st.booleans()),
    )


def small(dtype="float64", **changes):
    """A small model whose weights are large enough to matter, and a batch for it."""
    rng = np.random.default_rng(0)
    model = implementation("GPT")(dataclasses.replace(SMALL, **changes), rng=rng, dtype=dtype)
    for _, parameter in model.named_parameters():
        parameter.data += (0.3 * rng.standard_normal(parameter.shape)).astype(dtype)
    return model, *rng.integers(0, 11, (2, 3, 7))


@pytest.mark.covers("GPT")
@given(st.data(), configs(), dtypes, st.sampled_from([(), (1,), (3,)]), sizes, st.booleans())
def test_equals_pytorch(data, config, dtype, batch, T, dropout):
    ids = data.draw(integers((*batch, T), config.vocab_size))
    # norms of few channels, one behind the other: see test_transformer_block
    check_layer("GPT", {"config": config}, ids, dtype=dtype, dropout=dropout, loosen=100.0)


@pytest.mark.covers("GPT")
@pytest.mark.parametrize("tied", [True, False])
def test_finite_differences(tied):
    model, ids, targets = small(tied=tied)
    model.zero_grad()
    _, cache = model.loss_forward(ids, targets)
    model.loss_backward(1.0, cache)
    parameters = [parameter for _, parameter in model.named_parameters()]
    check_gradients(
        lambda *_: model.loss(ids, targets),
        [parameter.data for parameter in parameters],
        [parameter.grad for parameter in parameters],
        np.random.default_rng(1),
    )


def test_loss_with_ignored_targets_equals_pytorch():
    model, ids, targets = small()
    targets[0, ::2] = -100
    reference = torch_reference("GPT")(model.config).double()
    reference.load_state_dict({name: torch.tensor(array) for name, array in model.state_dict().items()})
    loss = reference.loss(torch.tensor(ids), torch.tensor(targets))
    loss.backward()
    ours, cache = model.loss_forward(ids, targets)
    model.loss_backward(2.0, cache)
    assert ours == pytest.approx(loss.item(), rel=1e-12)
    assert model.loss(ids, targets) == ours
    for name, parameter in reference.named_parameters():
        ours = dict(model.named_parameters())[name].grad
        np.testing.assert_allclose(ours, 2 * parameter.grad.numpy(), rtol=1e-9, atol=1e-12, err_msg=name)


@given(sizes, st.integers(0, 6), st.integers(0, 10))
def test_causality(T, j, new):
    model, ids, _ = small()
    j = min(j, T - 1)
    before = model(ids[:, :T])
    changed = ids[:, :T].copy()
    changed[:, j] = new
    np.testing.assert_array_equal(model(changed)[:, :j], before[:, :j])


def test_weights_are_shared_not_copied():
    model, ids, targets = small()
    assert model.lm_head.weight is model.wte.weight
    _, cache = model.loss_forward(ids, targets)
    model.loss_backward(1.0, cache)
    unused = np.setdiff1d(np.arange(11), ids)
    assert unused.size
    assert (model.wte.weight.grad[unused] != 0).any(), "the head reaches rows that no id used"
    untied, *_ = small(tied=False)
    assert untied.lm_head.weight is not untied.wte.weight


def test_initial_weights_are_those_of_gpt2():
    model = GPT(GPTConfig(500, 64, 96, 8, 4), rng=np.random.default_rng(0))
    for name, parameter in model.named_parameters():
        assert parameter.data.dtype == np.float32
        if name.endswith(".bias"):
            assert (parameter.data == 0).all()
        elif ".ln_" in f".{name}":
            assert (parameter.data == 1).all()
        else:
            expected = 0.02 / 4 if name.endswith("c_proj.weight") else 0.02
            assert parameter.data.std() == pytest.approx(expected, rel=0.05), name
    again = GPT(model.config, rng=np.random.default_rng(0))
    for name, array in again.state_dict().items():
        np.testing.assert_array_equal(array, model.state_dict()[name])
    ids, targets = np.random.default_rng(0).integers(0, 500, (2, 4, 64))
    assert model.loss(ids, targets) == pytest.approx(np.log(500), abs=0.1), "near the uniform baseline before training"


@pytest.mark.parametrize(
    ("size", "parameters"), [("124M", 124439808), ("355M", 354823168), ("774M", 774030080), ("1558M", 1557611200)]
)
def test_the_sizes_of_gpt2(size, parameters):
    assert count_parameters(GPTConfig.gpt2(size))["total"] == parameters


def test_golden_parameter_counts():
    assert count_parameters(GPTConfig.gpt2("124M", qkv_bias=False))["total"] == 124412160
    assert count_parameters(GPTConfig.gpt2("124M", qkv_bias=False, tied=False))["total"] == 163009536


@given(configs())
def test_counted_costs_equal_measured_ones(config):
    rng = np.random.default_rng(0)
    config = dataclasses.replace(config, embedding_dropout=0.0, attention_dropout=0.0, residual_dropout=0.0)
    model = GPT(config, rng=rng)
    assert count_parameters(config)["total"] == model.num_parameters()
    ids, targets = (rng.integers(0, config.vocab_size, (3, 5)) for _ in range(2))
    _, cache = model.loss_forward(ids, targets)
    assert count_activation_bytes(config, 3, 5) == activation_bytes(model, cache)
    total = count_training_bytes(config, 3, 5)
    assert total["total"] == 4 * 4 * model.num_parameters() + activation_bytes(model, cache)
    _, inputs_only = model.loss_forward(ids, targets, recompute=True)
    assert count_activation_bytes(config, 3, 5, recompute=True) == activation_bytes(model, inputs_only)
    one_block = activation_bytes(model, cache.model.h[0])
    found = count_training_bytes(config, 3, 5, recompute=True)
    assert found["activations"] == activation_bytes(model, inputs_only) + one_block


def test_operations_equal_those_that_pytorch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    for config in (SMALL, dataclasses.replace(SMALL, num_layers=3, tied=False)):
        reference = torch_reference("GPT")(config)
        with FlopCounterMode(display=False) as counter:
            logits = reference(torch.zeros(2, 7, dtype=torch.long))
        counted = count_operations(config, 2, 7)
        assert counter.get_total_flops() == counted["forward"]
        with FlopCounterMode(display=False) as counter:
            logits.backward(torch.ones_like(logits))
        assert counter.get_total_flops() == counted["training step"] - counted["forward"]


class TestTrace:
    def test_the_trace_has_every_module_forward_and_backward(self):
        model, ids, targets = small(attention_dropout=0.2)
        found = trace(model, ids, targets, rng=np.random.default_rng(1))
        for name in ("wte", "wpe", "drop", "h.1.ln_1", "h.0.attn.c_attn", "h.1.attn.weights", "h.0.mlp.c_fc", "logits"):
            assert name in found.values
            assert found.gradients[name].shape == found.values[name].shape
        assert set(found.values) - set(found.gradients) == {"wte.input", "wpe.input"}, "ids have no gradient"
        assert found.loss == pytest.approx(model.loss_forward(ids, targets, rng=np.random.default_rng(1))[0])

    def test_the_model_is_left_unchanged(self):
        model, ids, targets = small()
        _, cache = model.loss_forward(ids, targets)
        model.loss_backward(1.0, cache)
        before = {name: parameter.grad.copy() for name, parameter in model.named_parameters()}
        trace(model, ids, targets)
        for name, parameter in model.named_parameters():
            np.testing.assert_array_equal(parameter.grad, before[name])
        assert "forward" not in vars(model.h[0])
        with pytest.raises(IndexError):
            trace(model, ids + 99, targets)
        assert "forward" not in vars(model.h[0]), "also after an error"

    @pytest.mark.parametrize(
        "name", ["wte", "wpe", "h.0", "h.0.ln_1", "h.1.attn", "h.0.mlp.c_fc", "ln_f", "logits", "h.1.attn.c_attn"]
    )
    def test_gradients_equal_pytorch(self, name):
        model, ids, targets = small()
        found = trace(model, ids, targets)
        reference = torch_reference("GPT")(model.config).double()
        reference.load_state_dict({key: torch.tensor(array) for key, array in model.state_dict().items()})
        kept = {}
        path = {"logits": "lm_head"}.get(name, name)

        def keep(module, inputs, output):
            output.retain_grad()
            kept["output"] = output

        reference.get_submodule(path).register_forward_hook(keep)
        reference.loss(torch.tensor(ids), torch.tensor(targets)).backward()
        np.testing.assert_allclose(found.values[name], kept["output"].detach().numpy(), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(found.gradients[name], kept["output"].grad.numpy(), rtol=1e-8, atol=1e-12)

    def test_inside_attention(self):
        model, ids, targets = small()
        found = trace(model, ids, targets)
        prefix = "h.1.attn."
        q, k, v, scores = (
            torch.tensor(found.values[prefix + part], requires_grad=True) for part in ("q", "k", "v", "scores")
        )
        np.testing.assert_allclose((q @ k.mT).detach() / 2.0, found.values[prefix + "scores"], atol=1e-12)
        visible = torch.ones(7, 7, dtype=torch.bool).tril()
        weights = torch.softmax(scores.masked_fill(~visible, -torch.inf), dim=-1)
        weights.retain_grad()
        context = weights @ v
        context.backward(torch.tensor(found.gradients[prefix + "context"].copy()))
        np.testing.assert_allclose(context.detach(), found.values[prefix + "context"], atol=1e-12)
        np.testing.assert_allclose(weights.detach(), found.values[prefix + "weights"], atol=1e-12)
        np.testing.assert_allclose(weights.grad, found.gradients[prefix + "weights"], atol=1e-12)
        np.testing.assert_allclose(scores.grad, found.gradients[prefix + "scores"], atol=1e-12)
        np.testing.assert_allclose(v.grad, found.gradients[prefix + "v"], atol=1e-12)
        dq = found.gradients[prefix + "scores"] @ found.values[prefix + "k"] / 2.0
        np.testing.assert_allclose(dq, found.gradients[prefix + "q"], atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 5}, "d_model is 12 and num_heads 5; num_heads must divide d_model"),
        ({"vocab_size": 0}, "vocab_size is 0; it must be at least 1"),
        ({"residual_dropout": 1.0}, "residual_dropout is 1.0; it must be at least 0 and less than 1"),
    ],
)
def test_invalid_configurations(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_invalid_input():
    model, ids, _ = small()
    with pytest.raises(ValueError, match="the sequence has 9 positions; it must have at most 8"):
        model(np.zeros((1, 9), int))
    with pytest.raises(ValueError, match="ids is a single number"):
        model(3)
    with pytest.raises(IndexError, match=r"ids\[0, 0\] is 11; it must be in \[0, 11\)"):
        model(ids * 0 + 11)
    with pytest.raises(ValueError, match="size is '7B'; it must be one of 124M, 355M"):
        GPTConfig.gpt2("7B")
