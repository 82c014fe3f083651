"""Attention: simplified → self → causal → multi-head, and the variants.

Read in this order, each file says what it adds to the one before: masks, scaled_dot_product; simplified,
self_attention, causal, multi_head, causal_self_attention; kv_cache, cross; then the folder variants. softcap,
plain, tiled and paths (the core in tiles, and the choice of the form) and pytorch_interface (PyTorch's function with
its options) complete the core; base has what the layers share.
"""

from npllm.attention.causal import (
    CausalAttention,
    causal_weights_by_infinity,
    causal_weights_by_prefix,
    causal_weights_by_renormalizing,
)
from npllm.attention.causal_self_attention import CausalSelfAttention
from npllm.attention.cross import CrossAttention
from npllm.attention.kv_cache import KVCache, SlidingWindowKVCache
from npllm.attention.multi_head import MultiHeadAttention, MultiHeadAttentionWrapper
from npllm.attention.self_attention import SelfAttentionV1, SelfAttentionV2
from npllm.attention.simplified import (
    SimplifiedSelfAttention,
    attention_scores,
    attention_scores_by_loops,
    attention_scores_of_query,
    context_of_query,
    context_vectors,
)
from npllm.attention.variants.delta_net import Delta, DeltaNet
from npllm.attention.variants.differential import Differential, DifferentialAttention
from npllm.attention.variants.grouped_query import GQA, GroupedQueryAttention
from npllm.attention.variants.linear_attention import LinearAttention, LinearAttn
from npllm.attention.variants.mla import MLA, MultiHeadLatentAttention
from npllm.attention.variants.options import BlockSparseMask, QKNorm, SlidingWindow, StridedMask
from npllm.attention.variants.relative_bias import ALiBi, T5Bias
from npllm.attention.variants.rope import RoPE
from npllm.attention.variants.rope_scaling import (
    DynamicNTKScaling,
    LinearScaling,
    Llama3Scaling,
    LongRoPEScaling,
    NTKScaling,
    YaRNScaling,
)
from npllm.attention.variants.shaw import Shaw, ShawAttention

__all__ = [
    "GQA",
    "MLA",
    "ALiBi",
    "BlockSparseMask",
    "CausalAttention",
    "CausalSelfAttention",
    "CrossAttention",
    "Delta",
    "DeltaNet",
    "Differential",
    "DifferentialAttention",
    "GroupedQueryAttention",
    "KVCache",
    "LinearAttention",
    "LinearAttn",
    "DynamicNTKScaling",
    "LinearScaling",
    "LongRoPEScaling",
    "Llama3Scaling",
    "MultiHeadAttention",
    "MultiHeadAttentionWrapper",
    "MultiHeadLatentAttention",
    "NTKScaling",
    "QKNorm",
    "RoPE",
    "SelfAttentionV1",
    "SelfAttentionV2",
    "Shaw",
    "ShawAttention",
    "SimplifiedSelfAttention",
    "SlidingWindow",
    "SlidingWindowKVCache",
    "StridedMask",
    "T5Bias",
    "YaRNScaling",
    "attention_scores",
    "attention_scores_by_loops",
    "attention_scores_of_query",
    "causal_weights_by_infinity",
    "causal_weights_by_prefix",
    "causal_weights_by_renormalizing",
    "context_of_query",
    "context_vectors",
]
