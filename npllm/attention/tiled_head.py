"""Attention of a few heads in tiles: softmax over spans of keys, with the maximum and the sum of what came before.

    for each block of queries, for each span of visible keys:
        S = q kᵀ · scale (+ bias, mask)
        m ← max(m, maxₛ S),   P = exp(S − m),   ℓ ← ℓ · exp(m_before − m) + Σₛ P,   a ← a · exp(m_before − m) + P v
    y = a / ℓ,   L = m + ln ℓ                                the log-sum-exp of a row of scores

    for each block of keys, for each span of queries:        P = exp(S − L), the same weights again

Where no score can be large, since |q · k| ≤ |q| |k|, m stays 0, and the maxima and the corrections are left out. Short
sequences take several heads at a time: a call of a few microseconds costs as much again in waiting for Python's lock.

Dao 2023, FlashAttention-2, section 3.1; the running maximum: Milakov and Gimelshein 2018, Online normalizer calculation
for softmax.
"""

import math
import threading
from typing import NamedTuple

import numpy as np

from npllm.attention.distance_bias import HeadDistanceBias, add_by_distance
from npllm.attention.small_tiles import SmallTiles
from npllm.attention.tile_plan import Span, TilePlan
from npllm.core.broadcasting import unbroadcast

Index = tuple[int, ...]
MAX_SCORE = 30.0  # exp(30) times the sum of many values does not overflow in float32
_buffers = threading.local()


class Head(NamedTuple):
    """Some heads of one sequence that share a mask, often one: arrays (g, T, D), (g, S, D), and the tiles to visit.

    index        that of the first head
    bias         of one head, (T, S)
    is_bounded   all scores are between −MAX_SCORE and MAX_SCORE, so exp needs no maximum
    """

    index: Index
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    bias: np.ndarray | HeadDistanceBias | None
    dropout_mask: np.ndarray | None
    scale: float
    softcap: float | None
    is_bounded: bool
    plan: TilePlan | list[SmallTiles]

    @property
    def spans(self) -> TilePlan:
        """The plan, if it has large tiles."""
        assert isinstance(self.plan, TilePlan)
        return self.plan

    def contiguous(self) -> "Head":
        """The same with keys and values in consecutive memory: rows that are far apart need a memory page each."""
        return self._replace(k=np.ascontiguousarray(self.k), v=np.ascontiguousarray(self.v))

    def single(self, i: int) -> "Head":
        """One of the heads, without their axis."""
        dropout_mask = None if self.dropout_mask is None else self.dropout_mask[i]
        return self._replace(q=self.q[i], k=self.k[i], v=self.v[i], dropout_mask=dropout_mask)

    def scores(self, q_scaled: np.ndarray, span: Span) -> tuple[np.ndarray, np.ndarray | None]:
        """The scores of a span, −∞ where masked, and tanh(scores / cap) where there is a cap."""
        scores = scratch_product("scores", q_scaled, self.k[:, span.columns].mT)
        tanh = self.cap(scores)
        if self.bias is not None:
            scores += self.bias[span.rows, span.columns]
        self.spans.hide(scores, span)
        return scores, tanh

    def cap(self, scores: np.ndarray) -> np.ndarray | None:
        """scores = cap · tanh(scores / cap), in place, and return the tanh; None where there is no cap."""
        if self.softcap is None:
            return None
        scores /= self.softcap
        tanh = np.tanh(scores)
        np.multiply(tanh, self.softcap, out=scores)
        return tanh


def forward_heads(head: Head, y: np.ndarray, log_sum_exp: np.ndarray) -> None:
    """Write y (g, T, E) and the log-sum-exp (g, T, 1); 0 for a query that may attend to no key."""
    head = head.contiguous()
    q_scaled = head.q * head.scale
    for i, spans in enumerate(head.spans.by_query):
        rows = head.spans.rows(i)
        maximum, total, sums = _first_state(head, rows)
        for number, span in enumerate(spans):
            scores, _ = head.scores(q_scaled[:, rows], span)
            if not head.is_bounded:
                before, maximum = maximum, np.maximum(maximum, scores.max(axis=-1, keepdims=True))
                shift = np.where(maximum == -np.inf, 0, maximum)
                scores -= shift
                if number:
                    correction = np.exp(before - shift)
                    total *= correction
                    sums *= correction
            weights = np.exp(scores, out=scores)
            total += np.einsum("gts->gt", weights)[..., None]
            if head.dropout_mask is not None:
                weights *= head.dropout_mask[:, span.rows, span.columns]
            sums += weights @ head.v[:, span.columns]
        empty = total == 0
        np.divide(sums, np.where(empty, 1, total), out=y[:, rows])
        log_sum_exp[:, rows] = np.where(empty, 0, maximum + np.log(total))


def _first_state(head: Head, rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The maximum, the total and the sums of no keys."""
    shape, dtype = (len(head.q), rows.stop - rows.start), head.q.dtype
    maximum = np.full((*shape, 1), 0 if head.is_bounded else -np.inf, dtype)
    return maximum, np.zeros((*shape, 1), dtype), np.zeros((*shape, head.v.shape[-1]), dtype)


def backward_heads(
    head: Head,
    dy: np.ndarray,
    y: np.ndarray,
    log_sum_exp: np.ndarray,
    gradients: list[np.ndarray],
    dbias: np.ndarray | None,
) -> None:
    """Write dq, dk, dv, and add to dbias.

    With A = P · dropout_mask and y = A v:  dv = Aᵀ dy,  dP = dy vᵀ · dropout_mask,  dS = P (dP − Σₛ P dP), where
    Σₛ P dP = Σₑ dy y: the sum over all keys is known before the first tile.
    """
    dq_strided, dk, dv = gradients
    head, dy, q_scaled = head.contiguous(), np.ascontiguousarray(dy), head.q * head.scale
    dq = np.zeros(head.q.shape, head.q.dtype)
    dot = np.einsum("gte,gte->gt", dy, y)[..., None]
    for j, spans in enumerate(head.spans.by_key):
        columns = head.spans.columns(j)
        dk[:, columns], dv[:, columns] = 0, 0
        for span in spans:
            rows = span.rows
            q_rows, dy_rows = q_scaled[:, rows], dy[:, rows]
            scores, tanh = head.scores(q_rows, span)
            scores -= log_sum_exp[:, rows]
            weights = np.exp(scores, out=scores)
            dweights = scratch_product("dweights", dy_rows, head.v[:, columns].mT)
            if head.dropout_mask is None:
                dv[:, columns] += weights.mT @ dy_rows
            else:
                dropout_mask = head.dropout_mask[:, rows, columns]
                dv[:, columns] += (weights * dropout_mask).mT @ dy_rows
                dweights *= dropout_mask
            dweights -= dot[:, rows]
            dweights *= weights
            dscores = dweights  # the softmax's derivative is done
            if dbias is not None:
                _add_to_bias(dbias, dscores[0], head.bias, span)
            if tanh is not None:
                dscores *= 1 - tanh * tanh
            dk[:, columns] += dscores.mT @ q_rows
            dq[:, rows] += dscores @ head.k[:, columns]
    np.multiply(dq, head.scale, out=dq_strided)


def _add_to_bias(
    dbias: np.ndarray, dscores: np.ndarray, bias: np.ndarray | HeadDistanceBias | None, span: Span
) -> None:
    """dbias += dscores, summed to its shape: (T, S), or with an axis of length 1, or the table (N)."""
    if isinstance(bias, HeadDistanceBias):
        add_by_distance(dbias, bias.distances(span.rows, span.columns), dscores)
        return
    tile = dbias[tuple(slice(None) if n == 1 else cut for n, cut in zip(dbias.shape, (span.rows, span.columns)))]
    tile += unbroadcast(dscores, tile.shape)


def scratch_product(name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b, in memory of this thread that the next product of this name overwrites."""
    shape = (*a.shape[:-1], b.shape[-1])
    needed = math.prod(shape) * a.itemsize
    buffer = getattr(_buffers, name, None)
    if buffer is None or buffer.nbytes < needed:
        buffer = np.empty(needed, np.uint8)
        setattr(_buffers, name, buffer)
    return np.matmul(a, b, out=buffer[:needed].view(a.dtype).reshape(shape))
