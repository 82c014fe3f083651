import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.attention import CrossAttention
from npllm.core.gradient_check import check_layer_gradients
from tests.equivalence import check_layer, implementation
from tests.strategies import arrays, dtypes, leading, seeds, sizes

NAME = "CrossAttention"
pytestmark = pytest.mark.covers(NAME)


@st.composite
def configs(draw):
    """Constructor arguments."""
    heads = draw(st.integers(1, 3))
    return {"d_model": heads * draw(sizes), "num_heads": heads, "d_context": draw(sizes), "dropout": 0.2,
            "qkv_bias": draw(st.booleans())}  # fmt: skip


def build(seed=0, **changes):
    """A float64 layer."""
    config = {"d_model": 6, "num_heads": 2, "d_context": 5} | changes
    return implementation(NAME)(**config, rng=np.random.default_rng(seed), dtype="float64")


@given(st.data(), configs(), dtypes, leading, sizes, sizes, st.booleans(), st.booleans())
def test_equals_pytorch(data, config, dtype, batch, T, S, masked, dropout):
    x = data.draw(arrays((*batch, T, config["d_model"]), dtype))
    context = data.draw(arrays((*batch, S, config["d_context"]), dtype))
    options = {"mask": np.arange(S) < data.draw(st.integers(1, S))} if masked else {}
    check_layer(NAME, config, x, context, dtype=dtype, dropout=dropout, loosen=4.0, **options)


def test_finite_differences():
    rng, layer = np.random.default_rng(0), build(dropout=0.2)
    x, context = rng.standard_normal((2, 4, 6)), rng.standard_normal((2, 3, 5))

    def run():
        return layer.forward(x, context, rng=np.random.default_rng(1), mask=F.padding_mask([2, 3], 3))

    check_layer_gradients(layer, [x, context], rng, run)


def test_equals_multihead_attention_of_pytorch():
    layer = build(qkv_bias=True)
    own = torch.nn.MultiheadAttention(6, 2, kdim=5, vdim=5, batch_first=True, dtype=torch.float64)
    state = {name: torch.tensor(array) for name, array in layer.state_dict().items()}
    with torch.no_grad():
        for name in "qkv":
            getattr(own, f"{name}_proj_weight").copy_(state[f"{name}_proj.weight"])
        own.in_proj_bias.copy_(torch.cat([state[f"{name}_proj.bias"] for name in "qkv"]))
        own.out_proj.weight.copy_(state["o_proj.weight"])
        own.out_proj.bias.zero_()
    rng = np.random.default_rng(0)
    x, context = rng.standard_normal((2, 4, 6)), rng.standard_normal((2, 3, 5))
    tensor = torch.tensor(context)
    y, weights = own(
        torch.tensor(x), tensor, tensor, average_attn_weights=False,
        key_padding_mask=torch.tensor([[False, False, True], [False, False, False]]),
    )  # fmt: skip
    mask = F.padding_mask([2, 3], 3)
    np.testing.assert_allclose(layer(x, context, mask=mask), y.detach(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(layer.attention_weights(x, context, mask=mask), weights.detach(), rtol=1e-10, atol=1e-12)


@given(seeds, sizes)
def test_padding_of_the_context_changes_nothing(seed, S):
    rng, layer = np.random.default_rng(seed), build(seed)
    x, context = rng.standard_normal((2, 4, 6)), rng.standard_normal((2, S + 2, 5))
    y = layer(x, context, mask=F.padding_mask([S, S + 1], S + 2))
    np.testing.assert_allclose(y[0], layer(x[0], context[0, :S]), rtol=1e-10)
    np.testing.assert_allclose(y[1], layer(x[1], context[1, : S + 1]), rtol=1e-10)


def test_keys_and_values_of_a_context_are_computed_once_for_many_queries():
    rng, layer = np.random.default_rng(0), build()
    x, context = rng.standard_normal((2, 4, 6)), rng.standard_normal((2, 3, 5))
    kv, mask = layer.precompute_kv(context), F.padding_mask([2, 3], 3)
    one_by_one = [layer(x[:, t : t + 1], kv=kv, mask=mask) for t in range(4)]
    np.testing.assert_allclose(np.concatenate(one_by_one, axis=1), layer(x, context, mask=mask), rtol=1e-12)


def test_invalid_arguments():
    layer = build()
    with pytest.raises(ValueError, match="num_heads must divide d_model"):
        CrossAttention(6, 4)
    with pytest.raises(ValueError, match="exactly one of context and kv must be given"):
        layer(np.zeros((2, 6)), np.zeros((3, 5)), kv=layer.precompute_kv(np.zeros((3, 5))))
    with pytest.raises(ValueError, match="exactly one of context and kv must be given"):
        layer(np.zeros((2, 6)))
    with pytest.raises(ValueError, match=r"x has shape \(3, 6\); it must be \(\.\.\., I\) with I = 5"):
        layer(np.zeros((2, 6)), np.zeros((3, 6)))
    with pytest.raises(ValueError, match="must broadcast to the scores'"):
        layer(np.zeros((2, 6)), np.zeros((3, 5)), mask=np.ones(4, bool))
