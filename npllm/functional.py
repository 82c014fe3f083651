"""The functions under their public names: NAME, NAME_forward and NAME_backward.

Nothing inside npllm imports this file; each function is defined in the file of its idea.
"""

from npllm.attention.masks import (
    block_mask,
    causal_mask,
    distances,
    document_mask,
    document_positions,
    document_starts,
    padding_mask,
    position_mask,
    strided_mask,
)
from npllm.attention.pytorch_interface import (
    scaled_dot_product_attention,
    scaled_dot_product_attention_backward,
    scaled_dot_product_attention_forward,
)
from npllm.attention.scaled_dot_product import (
    attention,
    attention_backward,
    attention_forward,
)
from npllm.attention.softcap import softcap, softcap_backward, softcap_forward
from npllm.attention.variants.delta_net import delta_rule, delta_rule_backward, delta_rule_forward
from npllm.attention.variants.delta_rule_chunked import (
    delta_rule_chunked,
    delta_rule_chunked_backward,
    delta_rule_chunked_forward,
)
from npllm.attention.variants.linear_attention import (
    elu_plus_one,
    elu_plus_one_backward,
    elu_plus_one_forward,
    linear_attention,
    linear_attention_backward,
    linear_attention_forward,
    linear_attention_recurrent,
    linear_attention_recurrent_backward,
    linear_attention_recurrent_forward,
)
from npllm.attention.variants.relative_bias import alibi_bias, alibi_slopes, t5_buckets
from npllm.attention.variants.rope import halves_from_pairs, rotary, rotary_backward, rotary_forward
from npllm.attention.variants.rope_frequencies import (
    interpolated_frequencies,
    llama3_frequencies,
    ntk_aware_frequencies,
    rotary_frequencies,
    yarn_amplitude,
    yarn_frequencies,
)
from npllm.attention.variants.shaw import relative_attention, relative_attention_backward, relative_attention_forward
from npllm.before_transformers.additive import additive_scores, additive_scores_backward, additive_scores_forward
from npllm.before_transformers.alignment import weighted_average, weighted_average_backward, weighted_average_forward
from npllm.before_transformers.negative_sampling import (
    negative_sampling,
    negative_sampling_backward,
    negative_sampling_forward,
)
from npllm.before_transformers.recurrent_cells import (
    gru_step,
    gru_step_backward,
    gru_step_forward,
    lstm_step,
    lstm_step_backward,
    lstm_step_forward,
    rnn_step,
    rnn_step_backward,
    rnn_step_forward,
)
from npllm.core.cache import Cache
from npllm.layers.activations import (
    gelu,
    gelu_backward,
    gelu_forward,
    relu,
    relu_backward,
    relu_forward,
    sigmoid,
    sigmoid_backward,
    sigmoid_forward,
    silu,
    silu_backward,
    silu_forward,
)
from npllm.layers.cross_entropy import cross_entropy, cross_entropy_backward, cross_entropy_forward
from npllm.layers.dropout import draw_dropout_mask, dropout, dropout_backward, dropout_forward
from npllm.layers.embedding import embedding, embedding_backward, embedding_forward, one_hot
from npllm.layers.erf import erf
from npllm.layers.linear import linear, linear_backward, linear_forward
from npllm.layers.normalization import (
    l2_normalize,
    l2_normalize_backward,
    l2_normalize_forward,
    layer_norm,
    layer_norm_backward,
    layer_norm_forward,
    rms_norm,
    rms_norm_backward,
    rms_norm_forward,
)
from npllm.layers.positions import sinusoidal_positions
from npllm.layers.softmax import (
    log_softmax,
    log_softmax_backward,
    log_softmax_forward,
    normalize_by_sum,
    normalize_by_sum_backward,
    normalize_by_sum_forward,
    softmax,
    softmax_backward,
    softmax_forward,
    softmax_naive,
    softmax_naive_backward,
    softmax_naive_forward,
    softmax_naive_limit,
)
