"""The layers of a GPT besides attention. In each file: a function, its backward, and the layer that owns the weights.

Read in this order: softmax, linear, embedding, positions, dropout, normalization, erf, activations, feed_forward,
gated_feed_forward, mixture_of_experts, cross_entropy, linear_cross_entropy.
"""

from npllm.layers.dropout import Dropout
from npllm.layers.embedding import Embedding
from npllm.layers.feed_forward import FeedForward
from npllm.layers.gated_feed_forward import GatedFeedForward
from npllm.layers.linear import Linear
from npllm.layers.mixture_of_experts import MixtureOfExperts
from npllm.layers.normalization import LayerNorm, RMSNorm
from npllm.layers.positions import LearnedPositionalEmbedding, SinusoidalPositionalEncoding, TokenPositionEmbedding

__all__ = [
    "Dropout",
    "Embedding",
    "FeedForward",
    "LayerNorm",
    "LearnedPositionalEmbedding",
    "Linear",
    "MixtureOfExperts",
    "RMSNorm",
    "SinusoidalPositionalEncoding",
    "GatedFeedForward",
    "TokenPositionEmbedding",
]
