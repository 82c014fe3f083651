"""`npllm verify`: every piece of npllm against PyTorch on a few random inputs, as rows for a table.

The tests in tests/ search wider (Hypothesis draws shapes, masks, layouts and values); here stands one typical use of
each piece, run in float32 and in float64.
"""

from dataclasses import dataclass

import numpy as np

from npllm.models import GPTConfig
from torch_ref.equivalence import compare_function, compare_layer

DRAWS = 5  # random inputs for each piece and dtype


@dataclass(frozen=True)
class Row:
    """What was found of one piece in one dtype."""

    piece: str
    dtype: str
    output: float  # largest absolute difference of the output, over all draws
    gradients: float | None  # the same over all gradients; None where the piece has none
    share: float  # largest share of the tolerance used up
    problem: str = ""  # what failed, for a person to read

    @property
    def ok(self):
        """Whether everything stayed within tolerance."""
        return not self.problem and self.share <= 1.0


class Draw:
    """Random inputs of one dtype."""

    def __init__(self, seed, dtype):
        self.rng, self.dtype = np.random.default_rng(seed), np.dtype(dtype)

    def normal(self, *shape):
        """Standard normal numbers."""
        return self.rng.standard_normal(shape).astype(self.dtype)

    def ids(self, high, *shape):
        """Integers in [0, high)."""
        return self.rng.integers(0, high, shape)

    def function(self, name, *arguments, **options):
        """Compare a function."""
        return compare_function(name, *arguments, rng=self.rng, **options)

    def layer(self, name, config, *inputs, **options):
        """Compare a layer built from the dict `config`."""
        return compare_layer(name, config, *inputs, dtype=self.dtype, rng=self.rng, **options)


def _attention(draw, **options):
    q, k, v = draw.normal(2, 4, 9, 8), draw.normal(2, 4, 9, 8), draw.normal(2, 4, 9, 6)
    return draw.function("scaled_dot_product_attention", q, k, v, **options)


def _linear_attention(draw, name, *state):
    q, k = np.abs(draw.normal(2, 2, 3, 9, 8)) + 0.1
    return draw.function(name, q, k, draw.normal(2, 3, 9, 6), *state, TWO_DOCUMENTS)


def _delta_rule(draw, name, **options):
    q, k, v = draw.normal(2, 3, 9, 8), draw.normal(2, 3, 9, 8), draw.normal(2, 3, 9, 6)
    k = k / np.linalg.norm(k, axis=-1, keepdims=True)
    beta = draw.rng.random((2, 3, 9)).astype(draw.dtype)
    return draw.function(name, q, k, v, beta, draw.normal(2, 3, 8, 6), TWO_DOCUMENTS, **options)


def _grouped_attention(draw):
    q, k, v = draw.normal(2, 6, 7, 8), draw.normal(2, 2, 9, 8), draw.normal(2, 2, 9, 6)
    return draw.function("scaled_dot_product_attention", q, k, v, draw.normal(6, 7, 9), enable_gqa=True, softcap=5.0)


def _cross_entropy(draw):
    targets = draw.ids(50, 3, 8)
    targets[0, ::2] = -100
    return draw.function("cross_entropy", draw.normal(3, 8, 50), targets, np.abs(draw.normal(50)), label_smoothing=0.1)


HEADS = {"d_in": 12, "d_out": 8, "context_length": 16, "dropout": 0.2, "num_heads": 2, "qkv_bias": True}
ONE_HEAD = {key: value for key, value in HEADS.items() if key != "num_heads"}
GPT2_HEADS = {"d_model": 12, "context_length": 16, "dropout": 0.2, "num_heads": 3}
SMALL_GPT = GPTConfig(50, 16, 12, 2, 3, embedding_dropout=0.1, attention_dropout=0.2, residual_dropout=0.3)
TWO_DOCUMENTS = np.repeat([0, 1], [5, 4])
STATE_HEADS = {"d_model": 12, "context_length": 16, "num_heads": 3}
TWO_MAPS = {"d_model": 12, "context_length": 16, "dropout": 0.2, "num_heads": 3, "lambda_init": 0.4}
LATENT = GPT2_HEADS | {"latent_width": 7, "head_width": 5, "rotary_width": 4, "query_latent_width": 6}
BLOCK = {"d_model": 12, "context_length": 16, "dropout": 0.2, "num_heads": 3}
SUM_OF_BOTH = {"vocab_size": 50, "context_length": 16, "d_model": 12}

# in the order of the chapters
PIECES = {
    "embedding": lambda d: d.function("embedding", d.ids(50, 4, 9), d.normal(50, 12), padding_idx=3),
    "Embedding": lambda d: d.layer("Embedding", {"num_embeddings": 50, "embedding_dim": 12}, d.ids(50, 4, 9)),
    "LearnedPositions": lambda d: d.layer("LearnedPositions", {"context_length": 16, "d_model": 12}, 9),
    "SinusoidalPositions": lambda d: d.layer("SinusoidalPositions", {"d_model": 12}, 9),
    "TokenPositionEmbedding": lambda d: d.layer("TokenPositionEmbedding", SUM_OF_BOTH, d.ids(50, 4, 9)),
    "normalize_by_sum": lambda d: d.function("normalize_by_sum", np.abs(d.normal(4, 9)) + 0.1),
    "softmax_naive": lambda d: d.function("softmax_naive", d.normal(4, 9)),
    "softmax": lambda d: d.function("softmax", 10 * d.normal(4, 9, 5), axis=1),
    "log_softmax": lambda d: d.function("log_softmax", 10 * d.normal(4, 9, 5), axis=1),
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
    "elu_plus_one": lambda d: d.function("elu_plus_one", 3 * d.normal(4, 50)),
    "linear_attention": lambda d: _linear_attention(d, "linear_attention"),
    "linear_attention_recurrent": lambda d: _linear_attention(
        d, "linear_attention_recurrent", np.abs(d.normal(2, 3, 8, 7))
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
    "gelu": lambda d: d.function("gelu", 3 * d.normal(4, 50)),
    "… by tanh": lambda d: d.function("gelu", 3 * d.normal(4, 50), approximate="tanh"),
    "cross_entropy": _cross_entropy,
    "FeedForward": lambda d: d.layer("FeedForward", {"d_model": 12}, d.normal(4, 9, 12)),
    "TransformerBlock": lambda d: d.layer("TransformerBlock", BLOCK, d.normal(2, 9, 12), dropout=True),
    "GPT": lambda d: d.layer("GPT", {"config": SMALL_GPT}, d.ids(50, 2, 9), dropout=True),
}


def rows():
    """Run every piece in float32 and float64; yield a Row for each, as soon as it is there."""
    for piece, run in PIECES.items():
        for dtype in ("float32", "float64"):
            yield _row(piece, run, dtype)


def _row(piece, run, dtype):
    outputs, gradients, shares = [], [], []
    try:
        for seed in range(DRAWS):
            for found in run(Draw(seed, dtype)):
                (outputs if found.what.startswith("output") else gradients).append(found.error)
                shares.append(found.share)
    except Exception as error:  # a piece that cannot even run is a row that says so, and the next one has its turn
        return Row(piece, dtype, np.inf, np.inf, np.inf, f"{type(error).__name__}: {error}")
    return Row(piece, dtype, max(outputs), max(gradients, default=None), max(shares))
