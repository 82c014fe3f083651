"""Twins of npllm.attention."""

from torch_ref.attention.additive import AdditiveAttention
from torch_ref.attention.causal import CausalAttention
from torch_ref.attention.causal_self_attention import CausalSelfAttention
from torch_ref.attention.cross import CrossAttention
from torch_ref.attention.delta import DeltaNet
from torch_ref.attention.differential import DifferentialAttention
from torch_ref.attention.grouped_query import GroupedQueryAttention
from torch_ref.attention.latent import MultiHeadLatentAttention
from torch_ref.attention.linear_attention import LinearAttention
from torch_ref.attention.luong import LuongAttention
from torch_ref.attention.multi_head import MultiHeadAttention, MultiHeadAttentionWrapper
from torch_ref.attention.self_attention import SelfAttentionV1, SelfAttentionV2
from torch_ref.attention.shaw import RelativePositionAttention
from torch_ref.attention.simplified import SimplifiedSelfAttention
