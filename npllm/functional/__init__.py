"""The mathematics: pure functions on arrays, and right below each one its derivative.

Read in this order: cache, softmax, embedding, positions, linear, masks, attention, rotary, relative_positions,
linear_attention, delta_rule, dropout, normalization, erf, activations, cross_entropy; then what came before the
transformer: recurrence, alignment, negative_sampling. Every function NAME comes with NAME_forward, which also returns a
cache, and NAME_backward, which turns the gradient of the result into the gradients of the inputs.
linear_attention, delta_rule, dropout, normalization, erf, activations, cross_entropy. Every function NAME comes with
NAME_forward, which also returns a cache, and NAME_backward, which turns the gradient of the result into the gradients
of the inputs.
"""

from npllm.functional.activations import (
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
from npllm.functional.alignment import (
    additive_scores,
    additive_scores_backward,
    additive_scores_forward,
    weighted_average,
    weighted_average_backward,
    weighted_average_forward,
)
from npllm.functional.attention import (
    scaled_dot_product_attention,
    scaled_dot_product_attention_backward,
    scaled_dot_product_attention_forward,
)
from npllm.functional.cache import Cache
from npllm.functional.cross_entropy import cross_entropy, cross_entropy_backward, cross_entropy_forward
from npllm.functional.delta_rule import (
    delta_rule,
    delta_rule_backward,
    delta_rule_chunked,
    delta_rule_chunked_backward,
    delta_rule_chunked_forward,
    delta_rule_forward,
)
from npllm.functional.dropout import draw_dropout_mask, dropout, dropout_backward, dropout_forward
from npllm.functional.embedding import embedding, embedding_backward, embedding_forward, one_hot
from npllm.functional.erf import erf
from npllm.functional.linear import linear, linear_backward, linear_forward
from npllm.functional.linear_attention import (
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
from npllm.functional.masks import (
    block_mask,
    causal_mask,
    distances,
    document_begins,
    document_mask,
    document_places,
    padding_mask,
    strided_mask,
    visible,
)
from npllm.functional.negative_sampling import (
    negative_sampling,
    negative_sampling_backward,
    negative_sampling_forward,
)
from npllm.functional.normalization import (
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
from npllm.functional.positions import sinusoidal_positions
from npllm.functional.recurrence import (
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
from npllm.functional.relative_positions import (
    alibi_bias,
    alibi_slopes,
    relative_attention,
    relative_attention_backward,
    relative_attention_forward,
    t5_buckets,
)
from npllm.functional.rotary import (
    halves_from_pairs,
    interpolated_frequencies,
    llama3_frequencies,
    ntk_aware_frequencies,
    rotary,
    rotary_backward,
    rotary_forward,
    rotary_frequencies,
    yarn_amplitude,
    yarn_frequencies,
)
from npllm.functional.softmax import (
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
