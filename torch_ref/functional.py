"""PyTorch references of npllm.functional; autograd computes the derivatives."""

from torch_ref.attention.masks import causal_mask
from torch_ref.attention.pytorch_interface import scaled_dot_product_attention
from torch_ref.attention.scaled_dot_product import attention
from torch_ref.attention.softcap import softcap
from torch_ref.attention.variants.delta_net import delta_rule, delta_rule_chunked
from torch_ref.attention.variants.linear_attention import (
    elu_plus_one,
    linear_attention,
    linear_attention_chunked,
    linear_attention_recurrent,
)
from torch_ref.attention.variants.relative_bias import alibi_bias, t5_buckets
from torch_ref.attention.variants.rope import rotary
from torch_ref.attention.variants.shaw import relative_attention
from torch_ref.before_transformers.additive import additive_scores
from torch_ref.before_transformers.alignment import weighted_average
from torch_ref.before_transformers.negative_sampling import negative_sampling
from torch_ref.before_transformers.recurrent_cells import gru_step, lstm_step, rnn_step
from torch_ref.layers.activations import gelu, quick_gelu, relu, sigmoid, silu, squared_relu, tanh
from torch_ref.layers.cross_entropy import cross_entropy
from torch_ref.layers.dropout import dropout
from torch_ref.layers.embedding import embedding, one_hot
from torch_ref.layers.erf import erf
from torch_ref.layers.linear import linear
from torch_ref.layers.linear_cross_entropy import linear_cross_entropy
from torch_ref.layers.normalization import l2_normalize, layer_norm, rms_norm
from torch_ref.layers.positions import sinusoidal_positions
from torch_ref.layers.softmax import log_softmax, normalize_by_sum, softmax, softmax_naive
