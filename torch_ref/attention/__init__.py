"""PyTorch references of npllm.attention."""

from torch_ref.attention.causal import CausalAttention
from torch_ref.attention.causal_self_attention import CausalSelfAttention
from torch_ref.attention.cross import CrossAttention
from torch_ref.attention.multi_head import MultiHeadAttention, MultiHeadAttentionWrapper
from torch_ref.attention.self_attention import SelfAttentionV1, SelfAttentionV2
from torch_ref.attention.simplified import SimplifiedSelfAttention
from torch_ref.attention.variants.delta_net import DeltaNet
from torch_ref.attention.variants.differential import DifferentialAttention
from torch_ref.attention.variants.grouped_query import GroupedQueryAttention
from torch_ref.attention.variants.linear_attention import LinearAttention
from torch_ref.attention.variants.mla import MultiHeadLatentAttention
from torch_ref.attention.variants.shaw import ShawAttention
