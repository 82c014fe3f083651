"""The tour's second half: how vectors come to know of each other (chapter 3)."""

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
from npllm.utils.terminal import matrix, shape, station

QUERY = 1  # the position whose sums are spelled out
WIDTH = 4
NUM_HEADS = 2


def scores(walk, number):
    """Every position compares itself with every other."""
    x, names = walk.found["x"], walk.found["names"]
    table = attention_scores(x)
    query = _query(x)
    walk.found["scores"] = table
    station(
        walk.console,
        number,
        "attention scores",
        f"vectors (T, C) = {shape(x)} → scores (T, T) = {shape(table)}",
        "How alike are two vectors? Multiply them channel by channel and add up. Each row is one position asking, each "
        "column one position answering; two nested loops, or one matrix product x xᵀ.",
    )
    walk.console.print(matrix(table, names, names, "asks \\ answers"))
    products = " + ".join(f"{a:.2f}·{b:.2f}" for a, b in zip(x[query], x[0]))
    walk.console.print(Text(f"row {query}, column 0: {products} = {table[query, 0]:.2f}"))
    gap = np.abs(attention_scores_by_loops(x) - table).max()
    walk.console.print(f"largest difference between loops and product: {gap:.1e}", highlight=False)


def weights(walk, number):
    """Scores become shares."""
    table, names = walk.found["scores"], walk.found["names"]
    row = table[_query(table)]
    weights = softmax(table)
    walk.found["weights"] = weights
    station(
        walk.console,
        number,
        "attention weights",
        f"scores (T, T) = {shape(table)} → weights (T, T) = {shape(weights)}, every row adds up to 1",
        "Shares must be positive and add up to one. Dividing by the sum fails on negative scores; exp makes all of "
        "them positive; subtracting the largest score first keeps exp from overflowing, and changes nothing.",
    )
    with np.errstate(all="ignore"):
        by_sum = row / row.sum()
    rows = {
        "scores": row,
        "divided by the sum": by_sum,
        "naive softmax": softmax_naive(row),
        "softmax": softmax(row),
    }
    walk.console.print(matrix(list(rows.values()), list(rows), names, f"row {_query(table)}"))
    limit = softmax_naive_limit(np.float32)
    large = np.array([limit, np.nextafter(limit, np.float32(np.inf))])
    naive, stable = softmax_naive(large), softmax(large)
    walk.console.print(
        Text(f"scores {large[0]:.5f} and {large[1]:.5f}: naive {naive.tolist()}, stable {stable.round(3).tolist()}")
    )


def context(walk, number):
    """Each position takes its weighted sum."""
    x, names, table = walk.found["x"], walk.found["names"], walk.found["weights"]
    layer = SimplifiedSelfAttention()
    vectors = layer(x)
    query = _query(x)
    station(
        walk.console,
        number,
        "context vectors",
        f"weights (T, T) = {shape(table)}, vectors (T, C) = {shape(x)} → context (T, C) = {shape(vectors)}",
        "Each position adds up all vectors, each times its weight: it takes most from those that are like it. That is "
        "attention; everything that follows refines it.",
    )
    walk.console.print(matrix(vectors, names, [f"channel {c}" for c in range(x.shape[1])]))
    products = " + ".join(f"{a:.2f}·{b:.2f}" for a, b in zip(table[query], x[:, 0]))
    total = context_of_query(table[query], x)[0]
    walk.console.print(Text(f"row {query}, channel 0: {products} = {total:.2f}"))


def causal(walk, number):
    """Weights to learn, and no looking ahead."""
    x, names = walk.found["x"], walk.found["names"]
    layer = CausalAttention(x.shape[1], WIDTH, len(x), dropout=0.5, rng=walk.rng)
    y, cache = layer.forward(x, walk.rng)
    table = cache.attention.weights
    walk.found["causal"] = table
    station(
        walk.console,
        number,
        "causal self-attention",
        f"x (T, C) = {shape(x)} → q, k, v (T, D) = {shape(cache.attention.q)} → context (T, D) = {shape(y)}",
        "Three learned matrices turn each vector into what it asks (query), what it offers (key) and what it hands "
        "over (value). Scores are divided by √D to keep them moderate. A position must not see the future, which it is "
        "to predict: those scores become −∞, their weights 0.",
    )
    walk.console.print(matrix(table, names, names, "looks at", shade=True))
    scores = cache.attention.q @ cache.attention.k.mT / np.float32(np.sqrt(WIDTH))
    ways = [way(scores) for way in (causal_weights_by_renormalizing, causal_weights_by_prefix)]
    gap = max(np.abs(other - causal_weights_by_infinity(scores)).max() for other in ways)
    walk.console.print(
        f"Weighing all and striking out the future, or weighing row by row the past alone: at most {gap:.0e} apart.",
        highlight=False,
    )
    share = float((cache.dropout.dropout_mask[np.tri(len(x), dtype=bool)] == 0).mean())
    walk.console.print(
        f"While training, dropout silences weights at random: here {share:.0%} of them, the others are doubled.",
        highlight=False,
    )


def heads(walk, number):
    """Several kinds of looking at once."""
    x, names = walk.found["x"], walk.found["names"]
    layer = MultiHeadAttention(x.shape[1], WIDTH, len(x), 0.0, NUM_HEADS, rng=walk.rng)
    y, cache = layer.forward(x)
    core = cache.attention
    station(
        walk.console,
        number,
        "heads",
        f"x (T, C) = {shape(x)} → q (H, T, D) = {shape(core.q)} → weights (H, T, T) = {shape(core.weights)} "
        f"→ y (T, O) = {shape(y)}",
        "Cut the channels of q, k and v into heads; each head weighs in its own way; join what they found, and mix it "
        "by a last matrix. GPT-2 has 12 heads of width 64 in each of 12 layers.",
    )
    for head, table in enumerate(core.weights):
        walk.console.print(matrix(table, names, names, f"head {head}", shade=True))
    walk.found["heads"] = core.weights


def _query(rows):
    return min(QUERY, len(rows) - 1)


STATIONS = [scores, weights, context, causal, heads]
