"""The layers of npllm.layers in PyTorch: those of torch.nn where PyTorch has them."""

from torch_ref.layers.dropout import Dropout
from torch_ref.layers.embedding import Embedding
from torch_ref.layers.feed_forward import FeedForward
from torch_ref.layers.gated_feed_forward import GatedFeedForward
from torch_ref.layers.linear import Linear
from torch_ref.layers.mixture_of_experts import MixtureOfExperts
from torch_ref.layers.normalization import LayerNorm, RMSNorm
from torch_ref.layers.positions import LearnedPositionalEmbedding, SinusoidalPositionalEncoding, TokenPositionEmbedding
