"""Attention, in the order in which chapter 3 arrives at it; each file says what it adds to the one before.

Read in this order: simplified, self_attention, causal, multi_head, causal_self_attention. Then the layers with a core
of their own: linear_attention, delta, differential, latent.
"""

from npllm.attention.causal import (
    CausalAttention,
    causal_weights_by_infinity,
    causal_weights_by_prefix,
    causal_weights_by_renormalizing,
)
from npllm.attention.causal_self_attention import CausalSelfAttention
from npllm.attention.delta import DeltaNet
from npllm.attention.differential import DifferentialAttention
from npllm.attention.latent import MultiHeadLatentAttention
from npllm.attention.linear_attention import LinearAttention
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
