"""Sections 9 to 13 of the tour: attention, from dot products to several heads (chapter 3 of the book)."""

import numpy as np
from rich.text import Text

from npllm.attention.causal import (
    CausalAttention,
    causal_weights_by_infinity,
    causal_weights_by_prefix,
    causal_weights_by_renormalizing,
)
from npllm.attention.multi_head import MultiHeadAttention
from npllm.attention.simplified import (
    SimplifiedSelfAttention,
    attention_scores,
    attention_scores_by_loops,
    context_of_query,
)
from npllm.layers.softmax import softmax, softmax_naive, softmax_naive_limit
from npllm.lessons.tour.state import TourState
from npllm.utils.terminal import matrix, shape

QUERY = 1  # the row whose sums are written out
D_OUT = 4
NUM_HEADS = 2
DROPOUT = 0.5


def scores(state: TourState, number: int) -> None:
    """Dot products of all pairs of positions."""
    x, tokens = state.x, state.tokens
    state.scores = attention_scores(x)
    query = _query(x)
    state.section(
        number,
        "attention scores",
        f"vectors (T, C) = {shape(x)} → scores (T, T) = {shape(state.scores)}",
        "The score of two positions is the dot product of their vectors; it is large if they point in a similar "
        "direction. Each row is a query, each column a key. Two nested loops compute the scores, or one matrix product "
        "x xᵀ.",
    )
    state.console.print(matrix(state.scores, tokens, tokens, "query \\ key"))
    products = " + ".join(f"{a:.2f}·{b:.2f}" for a, b in zip(x[query], x[0]))
    state.console.print(Text(f"row {query}, column 0: {products} = {state.scores[query, 0]:.2f}"))
    difference = np.abs(attention_scores_by_loops(x) - state.scores).max()
    state.console.print(f"largest difference between loops and matrix product: {difference:.1e}", highlight=False)


def weights(state: TourState, number: int) -> None:
    """Softmax of the scores."""
    row = state.scores[_query(state.scores)]
    state.weights = softmax(state.scores)
    state.section(
        number,
        "attention weights",
        f"scores (T, T) = {shape(state.scores)} → weights (T, T) = {shape(state.weights)}, each row sums to 1",
        "Weights must be positive and sum to 1. Division by the sum fails if scores are negative; exp makes every "
        "score positive; and subtracting the largest score first prevents overflow without changing the result.",
    )
    with np.errstate(all="ignore"):
        by_sum = row / row.sum()
    rows = {
        "scores": row,
        "divided by the sum": by_sum,
        "naive softmax": softmax_naive(row),
        "softmax": softmax(row),
    }
    state.console.print(matrix(np.array(list(rows.values())), list(rows), state.tokens, f"row {_query(state.scores)}"))
    limit = softmax_naive_limit(np.float32)
    large = np.array([limit, np.nextafter(limit, np.float32(np.inf))])
    naive, stable = softmax_naive(large), softmax(large)
    state.console.print(
        Text(f"scores {large[0]:.5f} and {large[1]:.5f}: naive {naive.tolist()}, stable {stable.round(3).tolist()}")
    )


def context(state: TourState, number: int) -> None:
    """Weighted sums of the vectors."""
    x, table = state.x, state.weights
    vectors = SimplifiedSelfAttention()(x)
    query = _query(x)
    state.section(
        number,
        "context vectors",
        f"weights (T, T) = {shape(table)}, vectors (T, C) = {shape(x)} → context (T, C) = {shape(vectors)}",
        "The context vector of a position is the sum of all vectors, each times its attention weight. This is "
        "self-attention without trainable weights.",
    )
    state.console.print(matrix(vectors, state.tokens, [f"channel {c}" for c in range(x.shape[1])]))
    products = " + ".join(f"{a:.2f}·{b:.2f}" for a, b in zip(table[query], x[:, 0]))
    total = context_of_query(table[query], x)[0]
    state.console.print(Text(f"row {query}, channel 0: {products} = {total:.2f}"))


def causal(state: TourState, number: int) -> None:
    """Trainable weights, the causal mask, and dropout."""
    x, tokens = state.x, state.tokens
    layer = CausalAttention(x.shape[1], D_OUT, len(x), dropout=DROPOUT, rng=state.rng)
    y, cache = layer.forward(x, rng=state.rng)
    state.causal_weights = cache.attention.weights
    state.section(
        number,
        "causal self-attention",
        f"x (T, C) = {shape(x)} → q, k, v (T, D) = {shape(cache.attention.q)} → context (T, D) = {shape(y)}",
        "Three trainable matrices turn each vector into a query, a key and a value. The scores q kᵀ are divided by √D, "
        "so that they do not grow with D. A position must not attend to later positions, because it is trained to "
        "predict them: the causal mask sets their scores to −∞ and so their weights to 0.",
    )
    state.console.print(matrix(state.causal_weights, tokens, tokens, "query \\ key", shade=True))
    scores = cache.attention.q @ cache.attention.k.mT / np.float32(np.sqrt(D_OUT))
    others = [compute(scores) for compute in (causal_weights_by_renormalizing, causal_weights_by_prefix)]
    difference = max(np.abs(other - causal_weights_by_infinity(scores)).max() for other in others)
    state.console.print(
        "Two other ways give the same weights: zero the masked weights after softmax and renormalize, or apply softmax "
        f"to the unmasked scores of each row alone. Largest difference: {difference:.0e}",
        highlight=False,
    )
    dropped = float((cache.dropout.dropout_mask[np.tri(len(x), dtype=bool)] == 0).mean())
    state.console.print(
        f"In training, dropout sets weights to 0 at random: here {dropped:.0%} of them. The others are multiplied by "
        f"{1 / (1 - DROPOUT):g}.",
        highlight=False,
    )


def heads(state: TourState, number: int) -> None:
    """Several heads in parallel."""
    x, tokens = state.x, state.tokens
    layer = MultiHeadAttention(x.shape[1], D_OUT, len(x), 0.0, NUM_HEADS, rng=state.rng)
    y, cache = layer.forward(x)
    core = cache.attention
    state.section(
        number,
        "multi-head attention",
        f"x (T, C) = {shape(x)} → q (H, T, D) = {shape(core.q)} → weights (H, T, T) = {shape(core.weights)} "
        f"→ y (T, C) = {shape(y)}",
        "The channels of q, k and v are split into heads. Each head has its own attention weights. The outputs of the "
        "heads are concatenated and multiplied by an output matrix. The smallest GPT-2 has 12 blocks with 12 heads of "
        "dimension 64.",
    )
    for head, table in enumerate(core.weights):
        state.console.print(matrix(table, tokens, tokens, f"head {head}", shade=True))


def _query(rows: np.ndarray) -> int:
    return min(QUERY, len(rows) - 1)


SECTIONS = [scores, weights, context, causal, heads]
