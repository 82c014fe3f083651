"""The variants of causal attention, each at the size of one layer of GPT-2, for tables and benchmarks.

Every layer maps (B, T, 768) → (B, T, 768) and has 12 heads unless its name says otherwise.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from npllm.attention.variants.delta_net import Delta
from npllm.attention.variants.differential import Differential
from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.linear_attention import LinearAttn
from npllm.attention.variants.mla import MLA
from npllm.attention.variants.options import QKNorm, SlidingWindow, StridedMask
from npllm.attention.variants.relative_bias import ALiBi, T5Bias
from npllm.attention.variants.rope import RoPE
from npllm.attention.variants.shaw import Shaw
from npllm.models.decoder_config import AttentionConfig

D_MODEL, NUM_HEADS = 768, 12
CHUNK = 512  # positions that are processed at once


@dataclass(frozen=True)
class Variant:
    """One variant: its name, its configuration, and the file in npllm/attention/variants that has the formula."""

    name: str
    config: AttentionConfig
    file: str

    def build(self, context_length: int, rng: np.random.Generator | None = None) -> Any:
        """The layer."""
        return self.config.build(D_MODEL, context_length, 0.0, rng=rng)


VARIANTS = (
    Variant("multi-head", GQA(NUM_HEADS), "grouped_query.py"),
    Variant("grouped-query, 4 key heads", GQA(NUM_HEADS, num_kv_heads=4), "grouped_query.py"),
    Variant("multi-query", GQA(NUM_HEADS, num_kv_heads=1), "grouped_query.py"),
    Variant("RoPE", GQA(NUM_HEADS, rope=RoPE()), "rope.py"),
    Variant("ALiBi", GQA(NUM_HEADS, relative_bias=ALiBi()), "relative_bias.py"),
    Variant("T5's relative bias", GQA(NUM_HEADS, relative_bias=T5Bias()), "relative_bias.py"),
    Variant("Shaw's relative positions", Shaw(NUM_HEADS), "shaw.py"),
    Variant("QK norm", GQA(NUM_HEADS, qk_norm=QKNorm()), "options.py"),
    Variant("soft cap", GQA(NUM_HEADS, softcap=50.0), "../softcap.py"),
    Variant("window of 256, 4 sinks", GQA(NUM_HEADS, window=SlidingWindow(256, 4)), "options.py"),
    Variant("strided, every 32nd", GQA(NUM_HEADS, sparsity=StridedMask(32)), "options.py"),
    Variant("output gate", GQA(NUM_HEADS, output_gate=True), "options.py"),
    Variant("differential, 6 heads of two maps", Differential(NUM_HEADS // 2), "differential.py"),
    Variant("MLA, latent of 128", MLA(NUM_HEADS, kv_lora_rank=128, head_dim=64, qk_rope_head_dim=32), "mla.py"),
    Variant("linear, parallel", LinearAttn(NUM_HEADS), "linear_attention.py"),
    Variant("linear, recurrent", LinearAttn(NUM_HEADS, mode="recurrent"), "linear_attention.py"),
    Variant("delta rule, chunks of 32", Delta(NUM_HEADS), "delta_net.py"),
)


def measure_cache(variant: Variant, lengths: tuple[int, ...]) -> tuple[int, list[float]]:
    """The number of parameters, and after each length the bytes of the key-value cache per token."""
    layer = variant.build(max(lengths), np.random.default_rng(0))
    kv_cache, bytes_per_token = layer.new_kv_cache(), []
    x = np.random.default_rng(0).standard_normal((1, max(lengths), D_MODEL), dtype=np.float32)
    for length in lengths:
        while kv_cache.length < length:
            end = min(kv_cache.length + CHUNK, length)
            layer(x[:, kv_cache.length : end], kv_cache=kv_cache)
        bytes_per_token.append(kv_cache.nbytes / length)
    return layer.num_parameters(), bytes_per_token
