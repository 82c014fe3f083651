"""Twins of npllm.functional, on tensors; autograd knows the derivatives."""

from torch_ref.functional.activations import gelu, relu, sigmoid, silu
from torch_ref.functional.alignment import additive_scores, weighted_average
from torch_ref.functional.attention import causal_mask, scaled_dot_product_attention
from torch_ref.functional.cross_entropy import cross_entropy
from torch_ref.functional.delta_rule import delta_rule, delta_rule_chunked
from torch_ref.functional.dropout import dropout
from torch_ref.functional.embedding import embedding, one_hot
from torch_ref.functional.erf import erf
from torch_ref.functional.linear import linear
from torch_ref.functional.linear_attention import elu_plus_one, linear_attention, linear_attention_recurrent
from torch_ref.functional.negative_sampling import negative_sampling
from torch_ref.functional.normalization import l2_normalize, layer_norm, rms_norm
from torch_ref.functional.positions import sinusoidal_positions
from torch_ref.functional.recurrence import gru_step, lstm_step, rnn_step
from torch_ref.functional.relative_positions import alibi_bias, relative_attention, t5_buckets
from torch_ref.functional.rotary import rotary
from torch_ref.functional.softmax import log_softmax, normalize_by_sum, softmax, softmax_naive
