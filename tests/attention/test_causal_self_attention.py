import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.attention import CausalSelfAttention, MultiHeadAttention
from npllm.core.gradient_check import check_layer_gradients
from tests.attention import properties
from tests.equivalence import check_layer, implementation
from tests.strategies import arrays, dtypes, leading, seeds, sizes

pytestmark = pytest.mark.covers("CausalSelfAttention")


@given(st.data(), dtypes, leading, sizes, st.integers(1, 3), sizes, st.booleans(), st.booleans())
def test_equals_pytorch(data, dtype, batch, T, num_heads, head_dim, qkv_bias, dropout):
    d_model = num_heads * head_dim
    config = {"d_model": d_model, "context_length": 7, "dropout": 0.2, "num_heads": num_heads, "qkv_bias": qkv_bias}
    x = data.draw(arrays((*batch, T, d_model), dtype))
    check_layer("CausalSelfAttention", config, x, dtype=dtype, dropout=dropout)


def test_finite_differences():
    rng = np.random.default_rng(0)
    layer = implementation("CausalSelfAttention")(6, 5, 0.2, 2, rng=rng, dtype="float64")
    x = rng.standard_normal((2, 5, 6))
    check_layer_gradients(layer, [x], rng, lambda: layer.forward(x, rng=np.random.default_rng(1)))


@given(st.data(), sizes, st.integers(1, 3), sizes)
def test_equals_multi_head_attention_with_the_same_weights(data, T, num_heads, head_dim):
    C = num_heads * head_dim
    one = CausalSelfAttention(C, 7, 0.0, num_heads, rng=np.random.default_rng(0), dtype="float64")
    other = MultiHeadAttention(C, C, 7, 0.0, num_heads, qkv_bias=True, dtype="float64")
    state = one.state_dict()
    weights, biases = np.split(state["c_attn.weight"], 3), np.split(state["c_attn.bias"], 3)
    names = ("W_query", "W_key", "W_value")
    other.load_state_dict(
        {f"{name}.weight": weight for name, weight in zip(names, weights)}
        | {f"{name}.bias": bias for name, bias in zip(names, biases)}
        | {"out_proj.weight": state["c_proj.weight"], "out_proj.bias": state["c_proj.bias"]}
    )
    x = data.draw(arrays((T, C), np.dtype(np.float64)))
    np.testing.assert_allclose(one(x), other(x), rtol=1e-10, atol=1e-12)


@given(seeds, dtypes, st.integers(1, 12))
def test_with_a_kv_cache(seed, dtype, length):
    rng = np.random.default_rng(seed)
    layer = CausalSelfAttention(6, 20, 0.2, 2, rng=rng, dtype=dtype)
    x = rng.standard_normal((3, length, 6)).astype(dtype)
    properties.check_chunks(layer, x, rng)
    properties.check_padding(layer, x, rng)


def test_num_heads_must_divide_d_model():
    with pytest.raises(ValueError, match="d_model is 6 and num_heads 4; num_heads must divide d_model"):
        CausalSelfAttention(6, 5, 0.0, 4)
