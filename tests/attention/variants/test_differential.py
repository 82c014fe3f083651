import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.attention import DifferentialAttention
from npllm.attention.variants.differential import lambda_of_layer
from tests.attention import laws
from tests.equivalence import check_layer, implementation
from tests.strategies import arrays, dtypes, leading, sizes

pytestmark = pytest.mark.covers("DifferentialAttention")

# λ is near 1 in some draws: two nearly equal maps leave a small difference, which the norm makes large again
NORM = {np.dtype(np.float32): 300.0, np.dtype(np.float64): 30.0}


def build(num_heads, width, dtype="float64", lambda_init=0.4):
    config = {"d_model": 2 * num_heads * width, "context_length": 7, "dropout": 0.2, "num_heads": num_heads}
    rng = np.random.default_rng(0)
    return implementation("DifferentialAttention")(**config, lambda_init=lambda_init, rng=rng, dtype=dtype)


@given(st.data(), dtypes, leading, sizes, st.integers(1, 3), sizes, st.booleans(), st.booleans())
def test_equals_pytorch(data, dtype, batch, T, num_heads, width, dropout, packed):
    d_model, lambda_init = 2 * num_heads * width, data.draw(st.sampled_from([0.0, 0.2, 0.8]))
    config = {"d_model": d_model, "context_length": 7, "dropout": 0.2, "num_heads": num_heads}
    config["lambda_init"] = lambda_init
    x = data.draw(arrays((*batch, T, d_model), dtype))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    document_ids = laws.documents_of(rng, *batch, T) if packed else None
    options = {"dropout": dropout, "document_ids": document_ids, "loosen": NORM[dtype]}
    check_layer("DifferentialAttention", config, x, dtype=dtype, **options)


@pytest.mark.parametrize("document_ids", [None, np.array([[0, 0, 1, 1], [0, 1, 1, 0]])])
def test_finite_differences(document_ids):
    rng = np.random.default_rng(0)
    laws.check_finite_differences(build(2, 3), rng.standard_normal((2, 4, 12)), rng, document_ids)


@given(st.data(), st.integers(1, 3), sizes, sizes)
def test_laws(data, batch, T, width):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    layer = laws.randomize(build(2, width), rng)
    x = rng.standard_normal((batch, T, 4 * width))
    laws.check_later_tokens_change_nothing(layer, x, int(rng.integers(T)))
    laws.check_chunks(layer, x, rng)
    laws.check_padding(layer, x, rng)
    laws.check_packed(layer, x, laws.documents_of(rng, batch, T), rng)


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
    # the blocks of ours are (head, first or second); theirs has all the firsts before all the seconds
    order = np.arange(2 * H * D).reshape(H, 2, D).swapaxes(0, 1).reshape(-1)
    for name in ("q_proj", "k_proj", "v_proj"):
        getattr(theirs, name).weight.data = torch.from_numpy(getattr(layer, name).weight.data[order])
    theirs.o_proj.weight.data = torch.from_numpy(layer.o_proj.weight.data)
    x = rng.standard_normal((2, T, C))
    still = (torch.ones(1, T, D, dtype=torch.float64), torch.zeros(1, T, D, dtype=torch.float64))  # cos, sin: no turn
    mask = torch.full((1, 1, T, T), -torch.inf, dtype=torch.float64).triu(diagonal=1)
    expected = theirs(torch.from_numpy(x), still, mask)[0].detach()
    np.testing.assert_allclose(layer(x), expected, rtol=1e-6, atol=1e-7)  # theirs rounds λ to float32


def test_with_lambda_0_the_second_map_is_not_there():
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
    layer = laws.randomize(build(3, 2), np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((4, 12))
    first, second = layer.lambda_q1.data @ layer.lambda_k1.data, layer.lambda_q2.data @ layer.lambda_k2.data
    factor = np.exp(first) - np.exp(second) + 0.4
    np.testing.assert_allclose(layer.attention_weights(x).sum(axis=-1), 1 - factor, rtol=1e-10)


def test_lambda_of_the_first_layers():
    np.testing.assert_allclose([lambda_of_layer(n) for n in (0, 1, 2, 99)], [0.2, 0.355509, 0.470713, 0.8], atol=1e-6)


def test_bytes_of_the_past():
    layer, x = build(2, 3, "float32"), np.zeros((3, 5, 12), np.float32)
    kv_cache = layer.new_kv_cache(3)
    layer(x, kv_cache)
    assert kv_cache.length == 5
    assert kv_cache.nbytes == 3 * 5 * 2 * 12 * 4  # keys and values of d_model numbers each, as in plain attention


def test_reading_in_pieces_stays_in_float32():
    rng = np.random.default_rng(0)
    laws.check_chunks(build(2, 3, "float32"), rng.standard_normal((2, 7, 12)).astype(np.float32), rng)


def test_bad_arguments():
    with pytest.raises(ValueError, match="d_model is 6 and num_heads 2; 2 num_heads must divide d_model"):
        DifferentialAttention(6, 5, 0.0, 2)
    with pytest.raises(ValueError, match="lambda_init is 1.0; it must be at least 0 and less than 1"):
        DifferentialAttention(8, 5, 0.0, 2, 1.0)
    layer = DifferentialAttention(8, 5, 0.0, 2)
    with pytest.raises(ValueError, match="has 6 positions; it must have at most 5"):
        layer(np.zeros((6, 8), np.float32))
    with pytest.raises(ValueError, match=r"document_ids has shape \(4,\)"):
        layer(np.zeros((2, 5, 8), np.float32), document_ids=np.zeros(4, int))
    with pytest.raises(ValueError, match="document_ids and kv_cache are both set"):
        layer(np.zeros((5, 8), np.float32), layer.new_kv_cache(), np.zeros(5, int))
