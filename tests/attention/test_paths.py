"""The path is chosen by size or forced; every layer gives the same on both, and its weights can be read on both."""

import numpy as np
import pytest

from npllm import functional as F
from npllm.attention import (
    ALiBi,
    BlockSparseMask,
    CausalAttention,
    CausalSelfAttention,
    CrossAttention,
    DifferentialAttention,
    GroupedQueryAttention,
    MultiHeadAttention,
    MultiHeadLatentAttention,
    QKNorm,
    RoPE,
    SelfAttentionV1,
    SelfAttentionV2,
    SlidingWindow,
    StridedMask,
    T5Bias,
    tile_plan,
)  # fmt: skip
from npllm.attention.paths import MIN_QUERIES, _is_tiled, attention_path, masked_attention_forward
from npllm.attention.tiled import TiledCache

LAYOUT = np.tril(np.ones((6, 6), bool))
LAYOUT[4, 1:3] = False
GROUPED = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 4}
LAYERS = {
    "multi-head": lambda **options: MultiHeadAttention(8, 8, 24, 0.2, 4, **options),
    "GPT-2": lambda **options: CausalSelfAttention(8, 24, 0.2, 2, scale=0.7, **options),
    "differential": lambda **options: DifferentialAttention(8, 24, 0.2, 2, **options),
    "MLA": lambda **options: MultiHeadLatentAttention(
        8, 24, 0.2, num_heads=2, kv_lora_rank=4, head_dim=4, qk_rope_head_dim=2, **options
    ),
    **{
        f"grouped-query {name}": lambda option=option, **options: GroupedQueryAttention(
            8, 24, 0.2, **GROUPED, **option, **options
        )
        for name, option in {
            "": {},
            "RoPE": {"rope": RoPE(), "qk_norm": QKNorm()},
            "ALiBi": {"relative_bias": ALiBi()},
            "T5": {"relative_bias": T5Bias(num_buckets=6, max_distance=9), "softcap": 1.5},
            "window": {"window": SlidingWindow(5, num_sink_tokens=2), "relative_bias": T5Bias(6, 9)},
            "strided": {"sparsity": StridedMask(3), "softcap": 2.0},
            "blocks": {"sparsity": BlockSparseMask(4, LAYOUT.tolist())},
            "gate": {"output_gate": True, "scale": 0.4},
        }.items()
    },
}


@pytest.fixture(autouse=True, scope="module")
def small_tiles():
    """Tiles of 4 × 4 and spans of 2 tiles."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tile_plan, "BLOCK", 4)
        patch.setattr(tile_plan, "SPAN", 8)
        yield


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_the_same_on_both_paths(name, documents):
    if documents and name in ("multi-head", "GPT-2"):
        pytest.skip("has no document_ids")
    options = {"document_ids": np.repeat([[0, 1, 2], [3, 4, 4]], 7, axis=-1)} if documents else {}
    x, dy = np.random.default_rng(0).standard_normal((2, 2, 21, 8))
    found = []
    for path in ("plain", "tiled"):
        with attention_path(path):
            layer = LAYERS[name](rng=np.random.default_rng(1), dtype="float64")
            y, cache = layer.forward(x, rng=np.random.default_rng(2), **options)
            dx = layer.backward(dy, cache)
            assert isinstance(cache.attention, TiledCache) == (path == "tiled")
            found.append([y, dx, cache.attention.weights, *(p.grad for _, p in layer.named_parameters())])
    for plain, tiled in zip(*found, strict=True):
        np.testing.assert_allclose(tiled, plain, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["V1", "V2", "causal"])
def test_layers_with_one_head_give_the_same_on_both_paths(name):
    build = {
        "V1": SelfAttentionV1,
        "V2": SelfAttentionV2,
        "causal": lambda *sizes, **options: CausalAttention(*sizes, 24, 0.2, **options),
    }[name]
    x, found = np.random.default_rng(0).standard_normal((2, 21, 6)), []
    for path in ("plain", "tiled"):
        with attention_path(path):
            layer = build(6, 4, rng=np.random.default_rng(1), dtype="float64")
            y, cache = layer.forward(x, **({"rng": np.random.default_rng(2)} if name == "causal" else {}))
            assert isinstance(cache.attention, TiledCache) == (path == "tiled")
            dx = layer.backward(y, cache)
            found.append([y, dx, layer.attention_weights(x), *(p.grad for _, p in layer.named_parameters())])
    for plain, tiled in zip(*found, strict=True):
        np.testing.assert_allclose(tiled, plain, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("mask", [None, np.arange(13) < 9, F.padding_mask(np.array([13, 0]), 13)])
def test_cross_attention_gives_the_same_on_both_paths(mask):
    rng, found = np.random.default_rng(0), []
    x, context, dy = rng.standard_normal((2, 21, 8)), rng.standard_normal((2, 13, 5)), rng.standard_normal((2, 21, 8))
    for path in ("plain", "tiled"):
        with attention_path(path):
            layer = CrossAttention(8, 2, 5, 0.2, rng=np.random.default_rng(1), dtype="float64")
            y, cache = layer.forward(x, context, rng=np.random.default_rng(2), mask=mask)
            assert isinstance(cache.attention, TiledCache) == (path == "tiled")
            gradients = layer.backward(dy, cache)
            precomputed = layer(x, kv=layer.precompute_kv(context), mask=mask)
            weights = layer.attention_weights(x, context, mask=mask)
            found.append([y, *gradients, precomputed, weights, *(p.grad for _, p in layer.named_parameters())])
    for plain, tiled in zip(*found, strict=True):
        np.testing.assert_allclose(tiled, plain, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("padding", [None, [0, 3]])
@pytest.mark.parametrize("name", [name for name in LAYERS if name != "multi-head"])
def test_chunks_give_the_same_on_both_paths(name, padding):
    x, found = np.random.default_rng(0).standard_normal((2, 24, 8)), []
    layer = LAYERS[name](rng=np.random.default_rng(1), dtype="float64")
    for path in ("plain", "tiled"):
        with attention_path(path):
            kv_cache = layer.new_kv_cache(2, None if padding is None else np.array(padding))
            found.append([layer(x[:, a:b], kv_cache=kv_cache) for a, b in [(0, 14), (14, 15), (15, 24)]])
    for plain, tiled in zip(*found):
        np.testing.assert_allclose(tiled, plain, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "options", [{"is_causal": True}, {"is_causal": True, "window": 4, "sinks": 1, "offset": 2}, {"softcap": 2.0}]
)
def test_the_function_with_the_options_of_pytorch(options):
    rng = np.random.default_rng(0)
    q, k, v, dy = (rng.standard_normal((2, 3, 11, 4)) for _ in range(4))
    bias, found = rng.standard_normal((3, 1, 11)), []
    for path in ("plain", "tiled"):
        with attention_path(path):
            y, cache = F.scaled_dot_product_attention_forward(q, k, v, bias=bias, **options)
            found.append([y, *F.scaled_dot_product_attention_backward(dy, cache)])
    for plain, tiled in zip(*found, strict=True):
        np.testing.assert_allclose(tiled, plain, rtol=1e-9, atol=1e-11)


def test_the_path_is_chosen_by_size():
    assert not _is_tiled((12, 128, 64), (12, 128, 64))
    assert _is_tiled((12, 256, 64), (12, 256, 64))
    assert _is_tiled((MIN_QUERIES, 64), (4096, 64))
    assert not _is_tiled((1, 64), (100_000, 64))
    assert not _is_tiled((64,), (64,))
    x = np.ones((256, 2), np.float32)
    assert isinstance(masked_attention_forward(x, x, x)[1], TiledCache)
    with attention_path("plain"):
        assert not isinstance(masked_attention_forward(x, x, x)[1], TiledCache)
        with attention_path(None):
            assert isinstance(masked_attention_forward(x, x, x)[1], TiledCache)


def test_an_unknown_path_is_refused():
    with pytest.raises(ValueError, match="path is 'fast'; it must be"), attention_path("fast"):
        pass
