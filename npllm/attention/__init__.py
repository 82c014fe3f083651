"""Attention: first as it came about, in translation; then in the order in which chapter 3 arrives at it.

Read in this order, each file saying what it adds to the one before: additive, luong; simplified, self_attention,
causal, multi_head, causal_self_attention. Then the wider family: cross, past, part, grouped_query with its parts
(query_key_norm, rotary, alibi, t5_bias, soft_cap, window, sparse, gate), shaw, differential, latent, linear_attention,
delta.
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
from npllm.attention.variants.grouped_query import GQA, PARTS, GroupedQueryAttention
from npllm.attention.variants.linear_attention import LinearAttention, LinearAttn
from npllm.attention.variants.mla import MLA, MultiHeadLatentAttention
from npllm.attention.variants.options import BlockSparseMask, QKNorm, SlidingWindow, StridedMask
from npllm.attention.variants.relative_bias import ALiBi, T5Bias
from npllm.attention.variants.rope import LinearScaling, Llama3Scaling, NTKScaling, RoPE, YaRNScaling
from npllm.attention.variants.shaw import Shaw, ShawAttention
