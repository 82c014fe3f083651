"""Attention of one head in small tiles, and over several parts of a mask that share no pair.

    for each part p, for each batch of tiles:
        S = q kᵀ · scale (+ bias, mask),   L_p = ln Σₛ exp S,   y_p = exp(S − L_p) v
    L = ln Σ_p exp L_p,   y = Σ_p exp(L_p − L) y_p                 the softmax over the keys of all parts

In the backward pass the weights are exp(S − L) in every part, and the gradients of the parts add up. This is the
algorithm of tiled_head.py, in which spans of keys take the place of the parts.

Dao 2023, FlashAttention-2, section 3.1; joined parts: Juravsky et al. 2024, Hydragen, section 3.1.
"""

import numpy as np

from npllm.attention.distance_bias import HeadDistanceBias, add_by_distance
from npllm.attention.small_tiles import Batch, SmallTiles
from npllm.attention.tiled_head import Head, scratch_product


def forward_parts(head: Head, parts: list[SmallTiles], y: np.ndarray, log_sum_exp: np.ndarray) -> None:
    """Write y (T, E) and the log-sum-exp (T, 1) of a head; 0 for a query that may attend to no key."""
    for number, tiles in enumerate(parts):
        order = tiles.queries
        part, part_lse = _forward_part(head, tiles)
        if number:
            before = log_sum_exp[order]
            joint = np.logaddexp(before, part_lse)
            shift = np.where(joint == -np.inf, 0, joint)
            part *= np.exp(part_lse - shift)
            part += y[order] * np.exp(before - shift)
            part_lse = joint
        y[order], log_sum_exp[order] = part, part_lse
    log_sum_exp[log_sum_exp == -np.inf] = 0


def _forward_part(head: Head, tiles: SmallTiles) -> tuple[np.ndarray, np.ndarray]:
    """y (T, E) and the log-sum-exp (T, 1) of one part, in the order of its queries; 0 and −∞ where it has no key."""
    q, k, v = tiles.query_blocks(head.q * head.scale), tiles.key_blocks(head.k), tiles.key_blocks(head.v)
    y = np.zeros((*q.shape[:-1], v.shape[-1]), q.dtype)
    log_sum_exp = np.full((*q.shape[:-1], 1), -np.inf, q.dtype)
    for number, batch in enumerate(tiles.batches):
        scores, _ = _scores(head, tiles, number, q[batch.rows], _gather(k, batch.columns))
        maximum = scores.dtype.type(0)
        if not head.is_bounded:
            maximum = scores.max(axis=-1, keepdims=True)
            scores -= np.where(maximum == -np.inf, 0, maximum)
        weights = np.exp(scores, out=scores)
        total = np.einsum("gts->gt", weights)[..., None]
        if head.dropout_mask is not None:
            weights *= head.dropout_mask[tiles.pairs(batch)]
        y[batch.rows] = (weights @ _gather(v, batch.columns)) / np.where(total == 0, 1, total)
        log_sum_exp[batch.rows] = maximum + np.log(total)
    length = len(tiles.queries)
    return y.reshape(-1, y.shape[-1])[:length], log_sum_exp.reshape(-1, 1)[:length]


def backward_parts(
    head: Head,
    parts: list[SmallTiles],
    dy: np.ndarray,
    y: np.ndarray,
    log_sum_exp: np.ndarray,
    gradients: list[np.ndarray],
    dbias: np.ndarray | None,
) -> None:
    """Write dq, dk, dv of a head, and add to dbias; for the formulas see backward_heads in tiled_head.py."""
    for gradient in gradients:
        gradient[...] = 0
    dot = np.einsum("te,te->t", dy, y)[:, None]
    for tiles in parts:
        orders = (tiles.queries, tiles.keys, tiles.keys)
        for gradient, order, found in zip(gradients, orders, _backward_part(head, tiles, dy, dot, log_sum_exp, dbias)):
            gradient[order] += found.reshape(-1, found.shape[-1])[: len(order)]


def _backward_part(
    head: Head,
    tiles: SmallTiles,
    dy: np.ndarray,
    dot: np.ndarray,
    log_sum_exp: np.ndarray,
    dbias: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dq, dk, dv of one part in blocks, in the order of its queries and keys."""
    q, k, v = tiles.query_blocks(head.q * head.scale), tiles.key_blocks(head.k), tiles.key_blocks(head.v)
    dy, dot, log_sum_exp = (tiles.query_blocks(x) for x in (dy, dot, log_sum_exp))
    dq, dk, dv = (np.zeros(x.shape, x.dtype) for x in (q, k, v))
    for number, batch in enumerate(tiles.batches):
        rows, columns = batch.rows, batch.columns
        q_rows, dy_rows, k_columns = q[rows], dy[rows], _gather(k, columns)
        scores, tanh = _scores(head, tiles, number, q_rows, k_columns)
        scores -= log_sum_exp[rows]
        weights = np.exp(scores, out=scores)
        dweights = scratch_product("dweights", dy_rows, _gather(v, columns).mT)
        if head.dropout_mask is None:
            _add_blocks(dv, batch, weights.mT @ dy_rows)
        else:
            dropout_mask = head.dropout_mask[tiles.pairs(batch)]
            _add_blocks(dv, batch, (weights * dropout_mask).mT @ dy_rows)
            dweights *= dropout_mask
        dweights -= dot[rows]
        dweights *= weights
        dscores = dweights  # the softmax's derivative is done
        if dbias is not None:
            _add_to_bias(dbias, dscores, head.bias, *tiles.pairs(batch))
        if tanh is not None:
            dscores *= 1 - tanh * tanh
        _add_blocks(dk, batch, dscores.mT @ q_rows)
        dq[rows] = dscores @ k_columns
    dq *= head.scale
    return dq, dk, dv


def _scores(
    head: Head, tiles: SmallTiles, number: int, q_scaled: np.ndarray, k: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """The scores of a batch, −∞ where masked, and tanh(scores / cap) where there is a cap."""
    scores = scratch_product("scores", q_scaled, k.mT)
    tanh = head.cap(scores)
    if head.bias is not None:
        scores += head.bias[tiles.pairs(tiles.batches[number])]
    hidden = tiles.hidden(number)
    if hidden is not None:
        np.copyto(scores, -np.inf, where=hidden)
    return scores, tanh


def _gather(x: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The blocks of keys of each block of queries      (S / b, b, C), (g, m) → (g, m·b, C)"""
    return x[columns].reshape(len(columns), -1, x.shape[-1])


def _add_blocks(gradient: np.ndarray, batch: Batch, parts: np.ndarray) -> None:
    """gradient[columns] += parts, where a block may occur more than once      (S / b, b, C), (g, m), (g, m·b, C)"""
    parts = parts.reshape(*batch.columns.shape, *gradient.shape[1:])
    for place, blocks in enumerate(batch.places):
        if blocks is not None:
            gradient[blocks] += parts[:, place]
        else:
            for row, block in enumerate(batch.columns[:, place].tolist()):
                gradient[block] += parts[row, place]


def _add_to_bias(
    dbias: np.ndarray,
    dscores: np.ndarray,
    bias: np.ndarray | HeadDistanceBias | None,
    queries: np.ndarray,
    keys: np.ndarray,
) -> None:
    """dbias += dscores, summed to its shape: (T, S), or with an axis of length 1, or the table (N)."""
    if isinstance(bias, HeadDistanceBias):
        add_by_distance(dbias, bias.distances(queries, keys), dscores)
        return
    if dbias.shape[0] == 1:
        dscores, queries = dscores.sum(axis=1, keepdims=True), np.zeros((1, 1, 1), int)
    if dbias.shape[1] == 1:
        dscores, keys = dscores.sum(axis=2, keepdims=True), np.zeros((1, 1, 1), int)
    np.add.at(dbias, (queries, keys), dscores)
