"""The attention layers of chapter 3: equality with PyTorch, and properties that each of them has."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.attention import (
    CausalAttention,
    MultiHeadAttention,
    MultiHeadAttentionWrapper,
    SelfAttentionV1,
    SelfAttentionV2,
    causal_weights_by_infinity,
    causal_weights_by_prefix,
    causal_weights_by_renormalizing,
)
from npllm.core.gradient_check import check_layer_gradients
from tests.equivalence import check_layer, implementation
from tests.strategies import arrays, dtypes, leading, sizes

FREE = [pytest.param(name, marks=pytest.mark.covers(name)) for name in ("SelfAttentionV1", "SelfAttentionV2")]
CAUSAL = [
    pytest.param(name, marks=pytest.mark.covers(name))
    for name in ("CausalAttention", "MultiHeadAttentionWrapper", "MultiHeadAttention")
]


@st.composite
def configs(draw, name):
    """Constructor arguments of a class; d_in and d_out mostly differ."""
    config = {"d_in": draw(sizes), "d_out": draw(sizes)}
    if name != "SelfAttentionV1":
        config["qkv_bias"] = draw(st.booleans())
    if not name.startswith("SelfAttention"):
        config |= {"context_length": 7, "dropout": 0.3}
    if name.startswith("MultiHead"):
        config["num_heads"] = draw(st.integers(1, 3))
    if name == "MultiHeadAttention":
        config["d_out"] *= config["num_heads"]
    return config


def build(name, config, seed=0):
    """A float64 layer."""
    return implementation(name)(**config, rng=np.random.default_rng(seed), dtype="float64")


@pytest.mark.parametrize("name", FREE + CAUSAL)
@given(data=st.data(), dtype=dtypes, batch=leading, T=sizes)
def test_equals_pytorch(name, data, dtype, batch, T):
    config = data.draw(configs(name))
    x = data.draw(arrays((*batch, T, config["d_in"]), dtype))
    check_layer(name, config, x, dtype=dtype, loosen=2.0)


@pytest.mark.parametrize("name", CAUSAL)
@given(data=st.data(), dtype=dtypes, batch=leading, T=sizes)
def test_equals_pytorch_with_dropout(name, data, dtype, batch, T):
    config = data.draw(configs(name))
    x = data.draw(arrays((*batch, T, config["d_in"]), dtype))
    check_layer(name, config, x, dtype=dtype, dropout=True, loosen=2.0)


@pytest.mark.parametrize("name", FREE + CAUSAL)
@given(data=st.data(), batch=leading, T=sizes)
def test_attention_weights_are_those_of_the_forward(name, data, batch, T):
    config = data.draw(configs(name))
    x = data.draw(arrays((*batch, T, config["d_in"]), np.dtype(np.float64)))
    layer = build(name, config)
    weights = layer.attention_weights(x)
    heads = (config["num_heads"],) if "num_heads" in config else ()
    assert weights.shape == (*batch, *heads, T, T)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-12)
    if "context_length" in config:
        assert (weights[..., ~F.causal_mask(T, T)] == 0).all()
    if not heads:
        projected = x @ layer.W_value.data if name == "SelfAttentionV1" else layer.W_value(x)
        np.testing.assert_allclose(weights @ projected, layer(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CAUSAL)
@given(data=st.data(), T=st.integers(2, 7), seed=st.integers(0, 99))
def test_a_later_token_does_not_change_earlier_outputs(name, data, T, seed):
    config = data.draw(configs(name))
    layer, rng = build(name, config), np.random.default_rng(seed)
    x = rng.standard_normal((2, T, config["d_in"]))
    j = data.draw(st.integers(0, T - 1))
    changed = x.copy()
    changed[:, j] += 5 * rng.standard_normal(config["d_in"])
    before, after = layer(x), layer(changed)
    np.testing.assert_array_equal(after[:, :j], before[:, :j])
    assert (after[:, j] != before[:, j]).any()


@pytest.mark.parametrize("name", CAUSAL)
def test_a_prefix_has_the_same_outputs_in_a_longer_sequence(name):
    config = {"d_in": 5, "d_out": 4, "context_length": 8, "dropout": 0.0}
    if name != "CausalAttention":
        config["num_heads"] = 2
    layer = build(name, config)
    x = np.random.default_rng(0).standard_normal((8, 5))
    np.testing.assert_allclose(layer(x)[:3], layer(x[:3]), rtol=1e-12)


@pytest.mark.parametrize("name", FREE)
@given(data=st.data(), T=sizes)
def test_permutation_equivariance_without_mask(name, data, T):
    config = data.draw(configs(name))
    layer, rng = build(name, config), np.random.default_rng(T)
    x, order = rng.standard_normal((T, config["d_in"])), rng.permutation(T)
    np.testing.assert_allclose(layer(x[order]), layer(x)[order], rtol=1e-9, atol=1e-12)


@given(dtypes, st.integers(1, 8), st.integers(0, 99))
def test_the_three_ways_to_mask_agree(dtype, T, seed):
    scores = np.random.default_rng(seed).standard_normal((2, T, T)).astype(dtype)
    expected = causal_weights_by_prefix(scores)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    for weights in (causal_weights_by_infinity(scores), causal_weights_by_renormalizing(scores)):
        assert weights.dtype == dtype
        np.testing.assert_allclose(weights, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.covers("MultiHeadAttention", "MultiHeadAttentionWrapper")
@given(sizes, sizes, st.integers(1, 4), sizes, st.booleans())
def test_wrapper_equals_multi_head_with_the_same_weights(d_in, head_dim, num_heads, T, qkv_bias):
    common = {"d_in": d_in, "context_length": 7, "dropout": 0.0, "num_heads": num_heads, "qkv_bias": qkv_bias}
    wrapper = build("MultiHeadAttentionWrapper", common | {"d_out": head_dim})
    multi_head = build("MultiHeadAttention", common | {"d_out": head_dim * num_heads})
    state = multi_head.state_dict()
    for name, array in state.items():
        if name == "out_proj.weight":
            array[...] = np.eye(head_dim * num_heads)
        elif name == "out_proj.bias":
            array[...] = 0
        else:
            array[...] = np.concatenate([head.state_dict()[name] for head in wrapper.heads])
    x = np.random.default_rng(T).standard_normal((2, T, d_in))
    np.testing.assert_allclose(multi_head(x), wrapper(x), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(multi_head.attention_weights(x), wrapper.attention_weights(x), rtol=1e-10, atol=1e-12)


@pytest.mark.covers("SelfAttentionV1", "SelfAttentionV2")
def test_v1_equals_v2_with_transposed_weights():
    v1 = build("SelfAttentionV1", {"d_in": 5, "d_out": 3})
    v2 = build("SelfAttentionV2", {"d_in": 5, "d_out": 3})
    v2.load_state_dict({f"{name}.weight": array.T for name, array in v1.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((2, 4, 5))
    np.testing.assert_allclose(v2(x), v1(x), rtol=1e-12)


@pytest.mark.covers("MultiHeadAttention")
def test_equals_multihead_attention_of_pytorch():
    layer = build("MultiHeadAttention", {"d_in": 12, "d_out": 12, "context_length": 9, "dropout": 0.0, "num_heads": 3})
    own = torch.nn.MultiheadAttention(12, 3, bias=True, batch_first=True, dtype=torch.float64)
    state = {name: torch.tensor(array) for name, array in layer.state_dict().items()}
    with torch.no_grad():
        own.in_proj_weight.copy_(torch.cat([state[f"W_{part}.weight"] for part in ("query", "key", "value")]))
        own.in_proj_bias.zero_()
        own.out_proj.weight.copy_(state["out_proj.weight"])
        own.out_proj.bias.copy_(state["out_proj.bias"])
    x = np.random.default_rng(0).standard_normal((2, 7, 12))
    future = torch.ones(7, 7, dtype=torch.bool).triu(1)
    tensor = torch.tensor(x)
    y, weights = own(tensor, tensor, tensor, attn_mask=future, average_attn_weights=False)
    np.testing.assert_allclose(layer(x), y.detach(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(layer.attention_weights(x), weights.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", FREE + CAUSAL)
def test_finite_differences(name):
    rng = np.random.default_rng(0)
    config = {"d_in": 5, "d_out": 4}
    if name not in ("SelfAttentionV1", "SelfAttentionV2"):
        config |= {"context_length": 6, "dropout": 0.3}
    if name.startswith("MultiHead"):
        config["num_heads"] = 2
    layer, x = build(name, config), rng.standard_normal((2, 6, 5))

    def run():  # the same generator, so the same dropout every time
        return layer.forward(x, rng=np.random.default_rng(1)) if "dropout" in config else layer.forward(x)

    check_layer_gradients(layer, [x], rng, run)


def test_number_of_parameters_of_gpt2s_attention():
    rng = np.random.default_rng(0)
    layer = MultiHeadAttention(768, 768, context_length=1024, dropout=0.0, num_heads=12, rng=rng)
    assert layer.num_parameters() == 2_360_064


def test_invalid_arguments():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="d_out is 5 and num_heads 2; num_heads must divide d_out"):
        MultiHeadAttention(3, 5, 4, 0.0, 2)
    with pytest.raises(ValueError, match="num_heads is 0; it must be at least 1"):
        MultiHeadAttention(3, 5, 4, 0.0, 0)
    for layer in (
        CausalAttention(3, 2, 4, 0.0, rng=rng),
        MultiHeadAttention(3, 2, 4, 0.0, 2, rng=rng),
        MultiHeadAttentionWrapper(3, 2, 4, 0.0, 2, rng=rng),
    ):
        with pytest.raises(ValueError, match="the sequence has 5 positions; it must have at most 4"):
            layer(np.zeros((5, 3), np.float32))
        with pytest.raises(ValueError, match=r"x has shape \(4, 2\); it must be \(\.\.\., (T, )?I\) with I = 3"):
            layer(np.zeros((4, 2), np.float32))
        with pytest.raises(ValueError, match=r"x has shape \(3,\); it must be a sequence of vectors"):
            layer(np.zeros(3, np.float32))
    for layer in (SelfAttentionV1(3, 2, rng=rng), SelfAttentionV2(3, 2, rng=rng)):
        with pytest.raises(ValueError, match=r"x has shape \(3,\); it must be a sequence of vectors"):
            layer(np.zeros(3, np.float32))
        with pytest.raises(ValueError, match=r"x has shape \(4, 2\); it must be \(\.\.\., (T, )?I\) with I = 3"):
            layer(np.zeros((4, 2), np.float32))
        with pytest.raises(TypeError, match="float64"):
            layer(np.zeros((4, 3)))
