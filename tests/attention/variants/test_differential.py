import numpy as np
import pytest
import torch

from npllm import functional as F
from npllm.attention import DifferentialAttention
from npllm.attention.variants.differential import lambda_of_layer
from tests.attention import properties
from tests.equivalence import implementation

pytestmark = pytest.mark.covers("DifferentialAttention")


def build(num_heads, head_dim, dtype="float64", lambda_init=0.4):
    config = {"d_model": 2 * num_heads * head_dim, "context_length": 7, "dropout": 0.2, "num_heads": num_heads}
    rng = np.random.default_rng(0)
    return implementation("DifferentialAttention")(**config, lambda_init=lambda_init, rng=rng, dtype=dtype)


def test_transformers_diffllama():
    from transformers import DiffLlamaConfig
    from transformers.models.diffllama.modeling_diffllama import DiffLlamaAttention

    H, D, T = 3, 4, 6
    C, rng = 2 * H * D, np.random.default_rng(0)
    config = DiffLlamaConfig(
        hidden_size=C, num_attention_heads=2 * H, num_key_value_heads=2 * H, head_dim=D, rms_norm_eps=1e-5,
        attention_bias=False, attn_implementation="eager",
    )  # fmt: skip
    theirs = DiffLlamaAttention(config, layer_idx=2).double()
    layer = build(H, D, lambda_init=lambda_of_layer(2))
    assert theirs.lambda_init == pytest.approx(layer.lambda_init)
    for name in ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"):
        getattr(layer, name).data[...] = rng.standard_normal(D) * 0.5
        getattr(theirs, name).data = torch.from_numpy(getattr(layer, name).data)
    # our blocks are ordered by head, then by map; theirs has all first maps before all second maps
    order = np.arange(2 * H * D).reshape(H, 2, D).swapaxes(0, 1).reshape(-1)
    for name in ("q_proj", "k_proj", "v_proj"):
        getattr(theirs, name).weight.data = torch.from_numpy(getattr(layer, name).weight.data[order])
    theirs.o_proj.weight.data = torch.from_numpy(layer.o_proj.weight.data)
    x = rng.standard_normal((2, T, C))
    no_rotation = (
        torch.ones(1, T, D, dtype=torch.float64),
        torch.zeros(1, T, D, dtype=torch.float64),
    )
    mask = torch.full((1, 1, T, T), -torch.inf, dtype=torch.float64).triu(diagonal=1)
    expected = theirs(torch.from_numpy(x), no_rotation, mask)[0].detach()
    np.testing.assert_allclose(layer(x), expected, rtol=1e-6, atol=1e-7)  # theirs rounds λ to float32


def test_with_lambda_0_only_the_first_map_counts():
    rng = np.random.default_rng(0)
    layer = build(2, 3, lambda_init=0.0)
    for name in ("lambda_q1", "lambda_q2"):
        getattr(layer, name).data[...] = 0.0  # λ = exp(0) − exp(0) + 0
    x = rng.standard_normal((5, 12))
    q, k, v = (projection(x) for projection in (layer.q_proj, layer.k_proj, layer.v_proj))
    heads = []
    for h in range(2):
        first = slice(6 * h, 6 * h + 3)
        context = F.scaled_dot_product_attention(q[:, first], k[:, first], v[:, 6 * h : 6 * h + 6], is_causal=True)
        heads.append(F.rms_norm(context, eps=1e-5))
    np.testing.assert_allclose(layer(x), layer.o_proj(np.concatenate(heads, axis=-1)), rtol=1e-10, atol=1e-12)


def test_equal_maps_cancel_up_to_one_minus_lambda():
    layer = build(2, 3, lambda_init=0.25)
    for name in ("lambda_q1", "lambda_q2"):
        getattr(layer, name).data[...] = 0.0
    for projection in (layer.q_proj, layer.k_proj):
        blocks = projection.weight.data.reshape(2, 2, 3, 12)
        blocks[:, 1] = blocks[:, 0]
    x = np.random.default_rng(0).standard_normal((5, 12))
    weights = layer.attention_weights(x)
    assert weights.shape == (2, 5, 5)
    np.testing.assert_allclose(weights, 0.75 * layer.forward(x)[1].attention.weights[:, 0], rtol=1e-10)


def test_the_weights_sum_to_one_minus_lambda():
    layer = properties.randomize(build(3, 2), np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((4, 12))
    first, second = layer.lambda_q1.data @ layer.lambda_k1.data, layer.lambda_q2.data @ layer.lambda_k2.data
    factor = np.exp(first) - np.exp(second) + 0.4
    np.testing.assert_allclose(layer.attention_weights(x).sum(axis=-1), 1 - factor, rtol=1e-10)


def test_lambda_of_the_first_layers():
    np.testing.assert_allclose([lambda_of_layer(n) for n in (0, 1, 2, 99)], [0.2, 0.355509, 0.470713, 0.8], atol=1e-6)


def test_bytes_of_the_kv_cache():
    layer, x = build(2, 3, "float32"), np.zeros((3, 5, 12), np.float32)
    kv_cache = layer.new_kv_cache(3)
    layer(x, kv_cache=kv_cache)
    assert kv_cache.length == 5
    assert kv_cache.nbytes == 3 * 5 * 2 * 12 * 4  # keys and values of d_model numbers each, as in plain attention


def test_invalid_arguments():
    with pytest.raises(ValueError, match="d_model is 6 and num_heads 2; 2 num_heads must divide d_model"):
        DifferentialAttention(6, 5, 0.0, 2)
    with pytest.raises(ValueError, match="lambda_init is 1.0; it must be at least 0 and less than 1"):
        DifferentialAttention(8, 5, 0.0, 2, 1.0)
