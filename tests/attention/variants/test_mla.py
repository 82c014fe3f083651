import numpy as np
import pytest
import torch

from npllm import functional as F
from npllm.attention import MultiHeadAttention, MultiHeadLatentAttention, RoPE
from tests.attention import properties
from tests.equivalence import implementation

pytestmark = pytest.mark.covers("MultiHeadLatentAttention")


def build(kv_lora_rank=5, head_dim=3, qk_rope_head_dim=4, q_lora_rank=None, layout="pairs", dtype="float64"):
    config = {"d_model": 6, "context_length": 7, "dropout": 0.2, "num_heads": 2, "kv_lora_rank": kv_lora_rank}
    config |= {"head_dim": head_dim, "qk_rope_head_dim": qk_rope_head_dim, "q_lora_rank": q_lora_rank}
    rng = np.random.default_rng(0)
    return implementation("MultiHeadLatentAttention")(**config, rope=RoPE(layout=layout), rng=rng, dtype=dtype)


@pytest.mark.parametrize("q_lora_rank", [None, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_absorbed_algorithm_equals_the_expanded_one(q_lora_rank, dtype):
    rng = np.random.default_rng(0)
    layer = properties.randomize(build(q_lora_rank=q_lora_rank, dtype=dtype), rng)
    x = rng.standard_normal((3, 7, 6)).astype(dtype)
    expanded, absorbed = layer(x), layer(x, kv_cache=layer.new_kv_cache(3))  # the whole sequence as one chunk
    assert absorbed.dtype == expanded.dtype == x.dtype
    np.testing.assert_allclose(absorbed, expanded, **properties.CLOSE[x.dtype])


@pytest.mark.parametrize("q_lora_rank", [None, 5])
@pytest.mark.parametrize("version", [2, 3])
def test_transformers_deepseek(version, q_lora_rank):
    from transformers import DeepseekV2Config, DeepseekV3Config
    from transformers.models.deepseek_v2 import modeling_deepseek_v2 as v2
    from transformers.models.deepseek_v3 import modeling_deepseek_v3 as v3

    T, rng = 6, np.random.default_rng(0)
    layer = properties.randomize(build(q_lora_rank=q_lora_rank), rng)
    ranks = {"kv_lora_rank": 5, "q_lora_rank": q_lora_rank, "qk_nope_head_dim": 3, "qk_rope_head_dim": 4}
    config = (DeepseekV2Config if version == 2 else DeepseekV3Config)(
        hidden_size=6, num_attention_heads=2, num_key_value_heads=2, v_head_dim=3, attention_bias=False,
        attn_implementation="eager", **ranks,
    )  # fmt: skip
    theirs = (v2.DeepseekV2Attention if version == 2 else v3.DeepseekV3Attention)(config, 0).double()
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in layer.state_dict().items()})
    x = rng.standard_normal((2, T, 6))
    rotary = (v2.DeepseekV2RotaryEmbedding if version == 2 else v3.DeepseekV3RotaryEmbedding)(config)
    rotations = rotary(torch.from_numpy(x), torch.arange(T)[None])
    mask = torch.full((1, 1, T, T), -torch.inf, dtype=torch.float64).triu(diagonal=1)
    expected = theirs(torch.from_numpy(x), attention_mask=mask, position_embeddings=rotations)[0].detach()
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)  # their angles are float32


def test_with_a_latent_of_full_rank_and_without_rope_it_is_multi_head_attention():
    """x is scaled so that the norm changes nothing: mean(x²) + eps = 1 at every position."""
    rng = np.random.default_rng(0)
    layer = MultiHeadLatentAttention(6, 7, 0.0, 2, 6, 3, 0, rng=rng, dtype="float64")
    layer.kv_a_proj_with_mqa.weight.data[...] = np.eye(6)
    plain = MultiHeadAttention(6, 6, 7, 0.0, 2, dtype="float64")
    up_key, up_value = np.split(layer.kv_b_proj.weight.data.reshape(2, 6, 6), 2, axis=1)
    plain.load_state_dict(
        {
            "W_query.weight": layer.q_proj.weight.data,
            "W_key.weight": up_key.reshape(6, 6),
            "W_value.weight": up_value.reshape(6, 6),
            "out_proj.weight": layer.o_proj.weight.data,
            "out_proj.bias": np.zeros(6),
        }
    )
    x = rng.standard_normal((2, 7, 6))
    x *= np.sqrt((1 - layer.kv_a_layernorm.eps) / (x * x).mean(axis=-1, keepdims=True))
    np.testing.assert_allclose(F.rms_norm(x, eps=layer.kv_a_layernorm.eps), x, rtol=1e-12)
    np.testing.assert_allclose(layer(x), plain(x), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(layer(x, kv_cache=layer.new_kv_cache(2)), plain(x), rtol=1e-10, atol=1e-12)


def test_rotary_scores_depend_only_on_the_distance():
    rng = np.random.default_rng(0)
    layer = properties.randomize(build(), rng)
    for where in (layer.q_proj.weight.data.reshape(2, 7, 6)[:, :3], layer.kv_b_proj.weight.data):
        where[...] = 0.0  # no score of the content; every token is the same
    x = np.tile(rng.standard_normal(6), (7, 1))
    with np.errstate(divide="ignore"):  # of the future
        scores = np.log(layer.attention_weights(x))
    differences = scores - scores.diagonal(axis1=-2, axis2=-1)[..., None]
    for t in range(2, 7):
        np.testing.assert_allclose(differences[:, t, t - 2], differences[:, 2, 0], rtol=1e-9)
    assert np.abs(differences[:, 2, 0]).min() > 1e-3


def test_the_kv_cache_holds_only_the_latent_and_the_rotary_key():
    layer, x = build(dtype="float32"), np.random.default_rng(0).standard_normal((3, 5, 6)).astype(np.float32)
    kv_cache = layer.new_kv_cache(3)
    layer(x, kv_cache=kv_cache)
    assert kv_cache.length == 5
    assert kv_cache.nbytes == 3 * 5 * (5 + 4) * 4


def test_invalid_arguments():
    with pytest.raises(ValueError, match="qk_rope_head_dim is 3; it must be even"):
        MultiHeadLatentAttention(6, 5, 0.0, 2, 4, 3, 3)
    with pytest.raises(ValueError, match="kv_lora_rank is 0; it must be at least 1"):
        MultiHeadLatentAttention(6, 5, 0.0, 2, 0, 3, 2)
