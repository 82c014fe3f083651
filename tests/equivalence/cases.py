"""One typical use of every function, layer and model, on random inputs: what `npllm verify` runs.

The tests in tests/ cover more inputs: Hypothesis draws shapes, masks, memory layouts and values.
"""

from dataclasses import replace

import numpy as np

from npllm.attention import (
    GQA,
    ALiBi,
    BlockSparseMask,
    QKNorm,
    RoPE,
    SlidingWindow,
    StridedMask,
    T5Bias,
    YaRNScaling,
)
from npllm.functional import rotary_frequencies as frequencies
from npllm.models.decoder_config import DecoderConfig, GatedMLP, MoE, Norm
from npllm.models.gpt import GPTConfig
from tests.equivalence.functions import compare_function
from tests.equivalence.layers import compare_layer


class RandomInputs:
    """Random inputs of one dtype."""

    def __init__(self, seed, dtype):
        self.rng, self.dtype = np.random.default_rng(seed), np.dtype(dtype)

    def normal(self, *shape):
        """Standard normal numbers."""
        return self.rng.standard_normal(shape).astype(self.dtype)

    def ids(self, high, *shape):
        """Integers in [0, high)."""
        return self.rng.integers(0, high, shape)

    def mask(self, *shape):
        """True up to the length of each sequence, which is at least 1."""
        return np.arange(shape[-1]) < self.rng.integers(1, shape[-1] + 1, shape[:-1])[..., None]

    def function(self, name, *arguments, **options):
        """Compare a function."""
        return compare_function(name, *arguments, rng=self.rng, **options)

    def layer(self, name, config, *inputs, **options):
        """Compare a layer built from the dict `config`."""
        return compare_layer(name, config, *inputs, dtype=self.dtype, rng=self.rng, **options)


def _attention(draw, **options):
    q, k, v = draw.normal(2, 4, 9, 8), draw.normal(2, 4, 9, 8), draw.normal(2, 4, 9, 6)
    return draw.function("scaled_dot_product_attention", q, k, v, **options)


def _core_attention(draw):
    q, k, v = draw.normal(2, 6, 7, 8), draw.normal(2, 2, 9, 8), draw.normal(2, 2, 9, 6)
    return draw.function("attention", q, k, v, np.tri(7, 9, 2, dtype=bool), draw.normal(6, 7, 9))


def _linear_attention(draw, name, *state, **options):
    q, k = np.abs(draw.normal(2, 2, 3, 9, 8)) + 0.1
    return draw.function(name, q, k, draw.normal(2, 3, 9, 6), *state, TWO_DOCUMENTS, **options)


def _delta_rule(draw, name, **options):
    q, k, v = draw.normal(2, 3, 9, 8), draw.normal(2, 3, 9, 8), draw.normal(2, 3, 9, 6)
    k = k / np.linalg.norm(k, axis=-1, keepdims=True)
    beta = draw.rng.random((2, 3, 9)).astype(draw.dtype)
    return draw.function(name, q, k, v, beta, draw.normal(2, 3, 8, 6), TWO_DOCUMENTS, **options)


def _grouped_attention(draw):
    q, k, v = draw.normal(2, 6, 7, 8), draw.normal(2, 2, 9, 8), draw.normal(2, 2, 9, 6)
    return draw.function("scaled_dot_product_attention", q, k, v, draw.normal(6, 7, 9), enable_gqa=True, softcap=5.0)


def _two_sequences(draw, key_size=8):
    return draw.normal(4, 5, 12), draw.normal(4, 9, key_size), draw.normal(4, 9, 6)


def _seq2seq(draw, **choices):
    """A translation model on padded source sequences."""
    config = {"source_vocab_size": 30, "target_vocab_size": 20, "embedding_dim": 6, "hidden_size": 8, **choices}
    return draw.layer("Seq2Seq", config, draw.ids(30, 4, 9), draw.ids(20, 4, 5), mask=draw.mask(4, 9))


def _cross_entropy(draw):
    targets = draw.ids(50, 3, 8)
    targets[0, ::2] = -100
    return draw.function("cross_entropy", draw.normal(3, 8, 50), targets, np.abs(draw.normal(50)), label_smoothing=0.1)


def _linear_cross_entropy(draw, **options):
    targets = draw.ids(50, 3, 8)
    targets[0, ::2] = -100
    class_weight = np.abs(draw.normal(50))
    return draw.function(
        "linear_cross_entropy", draw.normal(3, 8, 12), draw.normal(50, 12), targets, class_weight,
        label_smoothing=0.1, **options,
    )  # fmt: skip


def _relative_attention(draw):
    buckets = np.clip(np.arange(7)[:, None] - np.arange(9) + 4, 0, 4)
    q, k, v = draw.normal(2, 3, 7, 8), draw.normal(2, 3, 9, 8), draw.normal(2, 3, 9, 6)
    return draw.function("relative_attention", q, k, v, draw.normal(5, 8), draw.normal(5, 6), buckets)


def _grouped_query(num_kv_heads=2, **options):
    """Grouped-query attention with options."""
    config = GROUPED_QUERY | {"num_kv_heads": num_kv_heads, **options}
    return lambda d: d.layer("GroupedQueryAttention", config, d.normal(2, 9, 12), dropout=True)


def _packed(draw):
    document_ids = np.repeat([[0, 1, 2]], [4, 3, 2], axis=1)
    config = GROUPED_QUERY | {"rope": RoPE()}
    return draw.layer("GroupedQueryAttention", config, draw.normal(1, 9, 12), document_ids=document_ids)


GROUPED_QUERY = {"d_model": 12, "context_length": 16, "dropout": 0.2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8}
SHAW = {"d_model": 12, "context_length": 16, "dropout": 0.2, "num_heads": 3, "max_distance": 4}
EXPERTS = {"d_model": 12, "num_experts": 4, "top_k": 2, "d_hidden": 10}
LLAMA_ATTENTION = GQA(num_heads=4, num_kv_heads=2, head_dim=8, rope=RoPE())
DECODER_BLOCK = {"d_model": 12, "context_length": 16, "attention": LLAMA_ATTENTION, "feed_forward": GatedMLP(),
                 "norm": Norm(), "dropout": 0.2}  # fmt: skip
LLAMA = DecoderConfig(50, 16, 12, 2, LLAMA_ATTENTION, dropout=0.2)
MIXTURE = DecoderConfig(50, 16, 12, 2, LLAMA_ATTENTION, MoE(num_experts=4), dropout=0.2)
GEMMA2 = DecoderConfig(
    50, 16, 12, 2, replace(LLAMA_ATTENTION, scale=0.3, softcap=5.0), GatedMLP(activation="gelu_tanh"),
    Norm(unit_offset=True), block="sandwich_norm", embedding_multiplier=12**0.5, logits_softcap=3.0, dropout=0.2,
)  # fmt: skip
CROSS = {"d_model": 12, "num_heads": 3, "d_context": 10, "dropout": 0.2}
DIAGONALS = tuple(tuple(bool(abs(i - j) <= 1) for j in range(4)) for i in range(4))
HEADS = {"d_in": 12, "d_out": 8, "context_length": 16, "dropout": 0.2, "num_heads": 2, "qkv_bias": True}
ONE_HEAD = {key: value for key, value in HEADS.items() if key != "num_heads"}
GPT2_HEADS = {"d_model": 12, "context_length": 16, "dropout": 0.2, "num_heads": 3}
SMALL_GPT = GPTConfig(50, 16, 12, 2, 3, embedding_dropout=0.1, attention_dropout=0.2, residual_dropout=0.3)
TWO_DOCUMENTS = np.repeat([0, 1], [5, 4])
STATE_HEADS = {"d_model": 12, "context_length": 16, "num_heads": 3}
TWO_MAPS = {"d_model": 12, "context_length": 16, "dropout": 0.2, "num_heads": 3, "lambda_init": 0.4}
LATENT = GPT2_HEADS | {"kv_lora_rank": 7, "head_dim": 5, "qk_rope_head_dim": 4, "q_lora_rank": 6}
BLOCK = {"d_model": 12, "context_length": 16, "dropout": 0.2, "num_heads": 3}
SUM_OF_BOTH = {"vocab_size": 50, "context_length": 16, "d_model": 12}
RECURRENT = {"input_size": 12, "hidden_size": 8}
TWO_SIZES = {"query_size": 12, "key_size": 8}

# In the order of the chapters. A name that begins with "…" is another use of the function or layer above it.
CASES = {
    "embedding": lambda d: d.function("embedding", d.ids(50, 4, 9), d.normal(50, 12), padding_idx=3),
    "Embedding": lambda d: d.layer("Embedding", {"num_embeddings": 50, "embedding_dim": 12}, d.ids(50, 4, 9)),
    "LearnedPositionalEmbedding": lambda d: d.layer(
        "LearnedPositionalEmbedding", {"context_length": 16, "d_model": 12}, 9
    ),
    "SinusoidalPositionalEncoding": lambda d: d.layer("SinusoidalPositionalEncoding", {"d_model": 12}, 9),
    "TokenPositionEmbedding": lambda d: d.layer("TokenPositionEmbedding", SUM_OF_BOTH, d.ids(50, 4, 9)),
    "normalize_by_sum": lambda d: d.function("normalize_by_sum", np.abs(d.normal(4, 9)) + 0.1),
    "softmax_naive": lambda d: d.function("softmax_naive", d.normal(4, 9)),
    "softmax": lambda d: d.function("softmax", 10 * d.normal(4, 9, 5), axis=1),
    "log_softmax": lambda d: d.function("log_softmax", 10 * d.normal(4, 9, 5), axis=1),
    "attention": _core_attention,
    "softcap": lambda d: d.function("softcap", 10 * d.normal(4, 9), 5.0),
    "scaled_dot_product_attention": _attention,
    "… causal": lambda d: _attention(d, is_causal=True),
    "… grouped heads, additive mask, soft cap": _grouped_attention,
    "SimplifiedSelfAttention": lambda d: d.layer("SimplifiedSelfAttention", {}, d.normal(2, 9, 12)),
    "SelfAttentionV1": lambda d: d.layer("SelfAttentionV1", {"d_in": 12, "d_out": 8}, d.normal(2, 9, 12)),
    "SelfAttentionV2": lambda d: d.layer("SelfAttentionV2", {"d_in": 12, "d_out": 8}, d.normal(2, 9, 12)),
    "CausalAttention": lambda d: d.layer("CausalAttention", ONE_HEAD, d.normal(2, 9, 12), dropout=True),
    "MultiHeadAttentionWrapper": lambda d: d.layer(
        "MultiHeadAttentionWrapper", HEADS, d.normal(2, 9, 12), dropout=True
    ),
    "MultiHeadAttention": lambda d: d.layer("MultiHeadAttention", HEADS, d.normal(2, 9, 12), dropout=True),
    "CausalSelfAttention": lambda d: d.layer("CausalSelfAttention", GPT2_HEADS, d.normal(2, 9, 12), dropout=True),
    "CrossAttention": lambda d: d.layer("CrossAttention", CROSS, d.normal(2, 9, 12), d.normal(2, 7, 10), dropout=True),
    "GroupedQueryAttention": _grouped_query(),
    "… multi-query": _grouped_query(1),
    "… on packed documents": _packed,
    "… with QK norm": _grouped_query(qk_norm=QKNorm()),
    "… with a soft cap": _grouped_query(softcap=2.0),
    "… with a sliding window and sinks": _grouped_query(window=SlidingWindow(4, num_sink_tokens=1)),
    "… with a strided mask": _grouped_query(sparsity=StridedMask(3)),
    "… with a block-sparse mask": _grouped_query(sparsity=BlockSparseMask(4, DIAGONALS)),
    "… with an output gate": _grouped_query(output_gate=True),
    "… with ALiBi": _grouped_query(relative_bias=ALiBi()),
    "… with T5's bias": _grouped_query(relative_bias=T5Bias(num_buckets=8, max_distance=12)),
    "rotary": lambda d: d.function("rotary", d.normal(2, 3, 9, 8), np.arange(9), frequencies(8)),
    "… in attention, half of each head": _grouped_query(rope=RoPE(partial_rotary_factor=0.5)),
    "… in attention, scaled by YaRN": _grouped_query(rope=RoPE(scaling=YaRNScaling(4.0, 64))),
    "relative_attention": _relative_attention,
    "ShawAttention": lambda d: d.layer("ShawAttention", SHAW, d.normal(2, 9, 12), dropout=True),
    "elu_plus_one": lambda d: d.function("elu_plus_one", 3 * d.normal(4, 50)),
    "linear_attention": lambda d: _linear_attention(d, "linear_attention"),
    "linear_attention_recurrent": lambda d: _linear_attention(
        d, "linear_attention_recurrent", np.abs(d.normal(2, 3, 8, 7))
    ),
    "linear_attention_chunked": lambda d: _linear_attention(
        d, "linear_attention_chunked", np.abs(d.normal(2, 3, 8, 7)), chunk=4
    ),
    "LinearAttention": lambda d: d.layer("LinearAttention", STATE_HEADS, d.normal(2, 9, 12)),
    "l2_normalize": lambda d: d.function("l2_normalize", 3 * d.normal(4, 9, 12)),
    "delta_rule": lambda d: _delta_rule(d, "delta_rule"),
    "delta_rule_chunked": lambda d: _delta_rule(d, "delta_rule_chunked", chunk=4),
    "DeltaNet": lambda d: d.layer("DeltaNet", STATE_HEADS | {"chunk": 4}, d.normal(2, 9, 12)),
    "DifferentialAttention": lambda d: d.layer("DifferentialAttention", TWO_MAPS, d.normal(2, 9, 12), dropout=True),
    "MultiHeadLatentAttention": lambda d: d.layer("MultiHeadLatentAttention", LATENT, d.normal(2, 9, 12), dropout=True),
    "linear": lambda d: d.function("linear", d.normal(4, 9, 12), d.normal(8, 12), d.normal(8)),
    "Linear": lambda d: d.layer("Linear", {"in_features": 12, "out_features": 8}, d.normal(4, 9, 12)),
    "dropout": lambda d: d.layer("Dropout", {"p": 0.3}, d.normal(4, 9, 12), dropout=True),
    "layer_norm": lambda d: d.function("layer_norm", d.normal(4, 9, 12), d.normal(12), d.normal(12)),
    "LayerNorm": lambda d: d.layer("LayerNorm", {"num_channels": 12}, d.normal(4, 9, 12)),
    "rms_norm": lambda d: d.function("rms_norm", d.normal(4, 9, 12), d.normal(12)),
    "RMSNorm": lambda d: d.layer("RMSNorm", {"num_channels": 12}, d.normal(4, 9, 12)),
    "relu": lambda d: d.function("relu", 3 * d.normal(4, 50)),
    "sigmoid": lambda d: d.function("sigmoid", 3 * d.normal(4, 50)),
    "silu": lambda d: d.function("silu", 3 * d.normal(4, 50)),
    "quick_gelu": lambda d: d.function("quick_gelu", 3 * d.normal(4, 50)),
    "tanh": lambda d: d.function("tanh", 3 * d.normal(4, 50)),
    "squared_relu": lambda d: d.function("squared_relu", 3 * d.normal(4, 50)),
    "gelu": lambda d: d.function("gelu", 3 * d.normal(4, 50)),
    "… by tanh": lambda d: d.function("gelu", 3 * d.normal(4, 50), approximate="tanh"),
    "cross_entropy": _cross_entropy,
    "linear_cross_entropy": _linear_cross_entropy,
    "… with a cap of the logits": lambda d: _linear_cross_entropy(d, logits_scaling=2.0, logits_softcap=3.0),
    "rnn_step": lambda d: d.function("rnn_step", d.normal(4, 8), d.normal(4, 8)),
    "gru_step": lambda d: d.function("gru_step", d.normal(4, 24), d.normal(4, 24), d.normal(4, 8)),
    "lstm_step": lambda d: d.function("lstm_step", d.normal(4, 32), d.normal(4, 32), d.normal(4, 8)),
    "RNNCell": lambda d: d.layer("RNNCell", RECURRENT, d.normal(4, 12), d.normal(4, 8)),
    "GRUCell": lambda d: d.layer("GRUCell", RECURRENT, d.normal(4, 12), d.normal(4, 8)),
    "LSTMCell": lambda d: d.layer("LSTMCell", RECURRENT, d.normal(4, 12), d.normal(4, 8), d.normal(4, 8)),
    "RNN": lambda d: d.layer("RNN", RECURRENT, d.normal(4, 9, 12), d.normal(4, 8), mask=d.mask(4, 9)),
    "GRU": lambda d: d.layer("GRU", RECURRENT, d.normal(4, 9, 12), d.normal(4, 8), mask=d.mask(4, 9)),
    "LSTM": lambda d: d.layer("LSTM", RECURRENT, d.normal(4, 9, 12), d.normal(4, 8), d.normal(4, 8), mask=d.mask(4, 9)),
    "additive_scores": lambda d: d.function("additive_scores", d.normal(4, 5, 8), d.normal(4, 9, 8), d.normal(8)),
    "weighted_average": lambda d: d.function("weighted_average", d.normal(4, 5, 9), d.normal(4, 9, 8), d.mask(4, 9)),
    "AdditiveAttention": lambda d: d.layer(
        "AdditiveAttention", {**TWO_SIZES, "hidden_size": 7}, *_two_sequences(d), mask=d.mask(4, 9)
    ),
    "DotAttention": lambda d: d.layer("DotAttention", {}, *_two_sequences(d, key_size=12), mask=d.mask(4, 9)),
    "GeneralAttention": lambda d: d.layer("GeneralAttention", TWO_SIZES, *_two_sequences(d), mask=d.mask(4, 9)),
    "ConcatAttention": lambda d: d.layer("ConcatAttention", TWO_SIZES, *_two_sequences(d), mask=d.mask(4, 9)),
    "Seq2Seq": lambda d: _seq2seq(d, attention="none", cell="lstm"),
    "… with additive attention": lambda d: _seq2seq(d, attention="additive"),
    "… with general attention": lambda d: _seq2seq(d, attention="general", cell="rnn"),
    "negative_sampling": lambda d: d.function(
        "negative_sampling", d.normal(9, 12), d.normal(50, 12), d.ids(50, 9), d.ids(50, 9, 5)
    ),
    "SkipGram": lambda d: d.layer("SkipGram", {"vocab_size": 50, "d_model": 12}, d.ids(50, 4, 9)),
    "CBOW": lambda d: d.layer("CBOW", {"vocab_size": 50, "d_model": 12}, d.ids(50, 4, 9, 4)),
    "FeedForward": lambda d: d.layer("FeedForward", {"d_model": 12}, d.normal(4, 9, 12)),
    "GatedFeedForward": lambda d: d.layer("GatedFeedForward", {"d_model": 12}, d.normal(4, 9, 12)),
    "MixtureOfExperts": lambda d: d.layer("MixtureOfExperts", EXPERTS, d.normal(4, 9, 12)),
    "TransformerBlock": lambda d: d.layer("TransformerBlock", BLOCK, d.normal(2, 9, 12), dropout=True),
    "DecoderBlock": lambda d: d.layer("DecoderBlock", DECODER_BLOCK, d.normal(2, 9, 12), dropout=True),
    "PostNormBlock": lambda d: d.layer("PostNormBlock", DECODER_BLOCK, d.normal(2, 9, 12), dropout=True),
    "SandwichNormBlock": lambda d: d.layer("SandwichNormBlock", DECODER_BLOCK, d.normal(2, 9, 12), dropout=True),
    "ParallelBlock": lambda d: d.layer("ParallelBlock", DECODER_BLOCK, d.normal(2, 9, 12), dropout=True),
    "SharedNormBlock": lambda d: d.layer("SharedNormBlock", DECODER_BLOCK, d.normal(2, 9, 12), dropout=True),
    "GPT": lambda d: d.layer("GPT", {"config": SMALL_GPT}, d.ids(50, 2, 9), dropout=True),
    "Decoder": lambda d: d.layer("Decoder", {"config": LLAMA}, d.ids(50, 2, 9), dropout=True),
    "… as in Gemma 2": lambda d: d.layer("Decoder", {"config": GEMMA2}, d.ids(50, 2, 9), dropout=True),
    "… with a mixture of experts": lambda d: d.layer("Decoder", {"config": MIXTURE}, d.ids(50, 2, 9), dropout=True),
}
