"""The same mathematics with weights: modules that own parameters and add up their gradients.

Read in this order: module, linear, embedding, normalization, dropout, feed_forward, gated_feed_forward,
mixture_of_experts, recurrent.
"""

from npllm.layers.dropout import Dropout
from npllm.layers.embedding import Embedding
from npllm.layers.feed_forward import FeedForward
from npllm.layers.linear import Linear
from npllm.layers.mixture_of_experts import MixtureOfExperts
from npllm.layers.normalization import LayerNorm, RMSNorm
from npllm.layers.positions import LearnedPositionalEmbedding, SinusoidalPositionalEncoding, TokenPositionEmbedding
from npllm.layers.swiglu import SwiGLU
