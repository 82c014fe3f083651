"""The delta rule: before a key writes its value into the state, what the state answered so far is taken out.

    q, k, v, β → [delta rule] → context

Linear attention only adds to its state S: what is stored under one key piles up, and similar keys blur each other. Here
each position first asks S what it already holds under k_t, and writes the difference from v_t alone, β_t of it:

    u_t = β_t (v_t − S_{t−1}ᵀ k_t),      S_t = S_{t−1} + k_t u_tᵀ,      y_t = S_tᵀ q_t

which is one step of gradient descent on ½ |Sᵀ k_t − v_t|² with the learning rate β_t. With |k_t| = 1 and β_t = 1 the
old value is replaced by the new one; with β_t = 0 nothing is written.

Two forms. The recurrent one is these three lines, a position at a time. The chunked one takes C positions at a time. In
a chunk that begins with the state S, all that was written before r is S + Σ_{i<r} k_i u_iᵀ, so the u of a chunk solve a
triangular system,

    u_r + β_r Σ_{i<r} (k_r·k_i) u_i = β_r (v_r − Sᵀ k_r)      that is      L U = β (V − K S),  L = I + tril(β K Kᵀ, −1)

L does not depend on S and is inverted for all chunks at once; what is left to do one after the other are products of
matrices: U = L⁻¹ β (V − K S), Y = Q S + tril(Q Kᵀ) U, and S + Kᵀ U for the next chunk. (L⁻¹ β K is the W of the WY
representation, which writes a product of the matrices I − β k kᵀ as a single I − Kᵀ W.)

Schlag, Irie, Schmidhuber 2021, Linear Transformers Are Secretly Fast Weight Programmers, section 4.2; Yang, Wang,
Zhang, Shen, Kim 2024, Parallelizing Linear Transformers with the Delta Rule over Sequence Length, section 3.

DeltaNet: linear attention that corrects what its state says before it writes, by the delta rule.

    x → q, k, v, β → split into heads → |q| = |k| = 1 → [delta rule in each] → norm → join the heads → projection

Over `linear_attention`, what is written under a key is not the value, but its difference from what the state already
answers to that key; a fourth projection says for every position and head how much of it, β between 0 and 1:

    S_t = S_{t−1} + k_t β_t (v_t − S_{t−1}ᵀ k_t)ᵀ,      y_t = S_tᵀ q_t

So a value may be replaced, and the state does not fill up. Queries and keys are divided by their length, which keeps
the state from growing; that replaces the features φ and the sum to divide by. A norm for each head, one weight for all
of them, then sets the scale of what comes out.

The published network also passes q, k and v through a convolution over four positions and through SiLU; both are left
out here, as they stand beside the rule and would hide it.

Yang, Wang, Zhang, Shen, Kim 2024, Parallelizing Linear Transformers with the Delta Rule over Sequence Length, sections
2.2 and 3.3; the rule in a transformer: Schlag, Irie, Schmidhuber 2021, section 4.2.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from npllm.attention.base import document_ids_per_head, join_heads, reject_document_ids, split_heads
from npllm.attention.kv_cache import RecurrentState
from npllm.attention.variants.linear_attention import (
    check_one_length,
    first_state,
    last_state_gradient,
    outer,
    row_times,
    state_carried,
)
from npllm.core.cache import Cache
from npllm.core.checks import (
    as_floats,
    as_sequence,
    check_context_length,
    check_gradient,
    check_heads,
    check_positive,
    check_size,
    drop_none,
)
from npllm.core.module import Module, as_generator
from npllm.layers.activations import sigmoid, sigmoid_backward, sigmoid_forward
from npllm.layers.linear import Linear
from npllm.layers.normalization import RMSNorm, l2_normalize, l2_normalize_backward, l2_normalize_forward


def delta_rule(q, k, v, beta, state=None, document_ids=None):
    """y_t = S_tᵀ q_t,  S_t = S_{t−1} + k_t β_t (v_t − S_{t−1}ᵀ k_t)ᵀ      (..., T, D), (..., T, D), (..., T, E), (..., T), (..., D, E), (..., T) → (..., T, E), (..., D, E)

    The recurrent form. Gives y and the state after the last position, with which the next piece of the text begins.

    beta        how much of the difference is written; with |k| = 1, 0 to 1 (up to 2 the state does not grow)
    state       S before the first position; zeros if left out
    documents   integers, broadcastable to the leading dimensions and T: a new document begins with a state of zeros. A
                state that was handed in belongs to the first one.

    Raises ValueError for shapes that do not meet, TypeError for mixed dtypes.
    """  # noqa: E501
    return delta_rule_forward(q, k, v, beta, state, document_ids)[0]


def delta_rule_forward(q, k, v, beta, state=None, document_ids=None):
    """Both values, and in the cache the inputs and, a row for each position, by how much S was wrong about v."""
    q, k, v, beta, state = _check(q, k, v, beta, state)
    first = first_state(state, k, v)
    carried = state_carried(document_ids, q.shape[:-1], q.dtype)
    running, y, wrong = first, np.empty_like(v), np.empty_like(v)
    for t in range(q.shape[-2]):
        running = carried[..., t, None, None] * running
        wrong[..., t, :] = v[..., t, :] - row_times(k, t, running)
        running = running + beta[..., t, None, None] * outer(k, wrong, t)
        y[..., t, :] = row_times(q, t, running)
    cache = Cache(q=q, k=k, beta=beta, wrong=wrong, first=first, carried=carried, has_state=state is not None)
    return (y, running.copy()), cache


def delta_rule_backward(dy, cache):
    """dv_t = β_t dS_tᵀ k_t,  dS_{t−1} = dS_t − k_t dv_tᵀ      (..., T, E), (..., D, E) → (..., T, D), (..., T, D), (..., T, E), (..., T), (..., D, E)

    dy is the pair of the gradients of y and of the last state; None for the latter says that nobody used it.
    Last to first: dS_t gets q_t dy_tᵀ; S_t = S_{t−1} + k_t u_tᵀ with u_t = β_t (v_t − S_{t−1}ᵀ k_t) gives du_t = dS_tᵀ k_t,
    hence dβ_t, dv_t = β_t du_t, and with the opposite sign the way through S_{t−1}ᵀ k_t. What still needs the states
    themselves, dq_t = S_t dy_t and the part −S_{t−1} dv_t of dk_t, comes from building them up once more, first to last:
    none of them was kept.
    """  # noqa: E501
    q, k, beta, wrong, carried = cache.q, cache.k, cache.beta, cache.wrong, cache.carried
    dy, dstate = dy
    dy = check_gradient(dy, wrong.shape, wrong.dtype)
    written = beta[..., None] * wrong  # u
    dq, dk, dv, dbeta = np.empty_like(q), np.empty_like(k), np.empty_like(wrong), np.empty_like(beta)
    drunning = last_state_gradient(dstate, cache.first)
    for t in reversed(range(q.shape[-2])):
        drunning = drunning + outer(q, dy, t)  # y = q S
        dk[..., t, :] = row_times(written, t, drunning.mT)  # S = S + k uᵀ
        dwritten = row_times(k, t, drunning)
        dbeta[..., t] = (dwritten * wrong[..., t, :]).sum(axis=-1)  # u = beta * wrong
        dv[..., t, :] = beta[..., t, None] * dwritten  # wrong = v - k S
        drunning = carried[..., t, None, None] * (drunning - outer(k, dv, t))
    running = cache.first
    for t in range(q.shape[-2]):
        running = carried[..., t, None, None] * running
        dk[..., t, :] -= row_times(dv, t, running.mT)  # wrong = v - k S
        running = running + outer(k, written, t)
        dq[..., t, :] = row_times(dy, t, running.mT)  # y = q S
    return drop_none(dq, dk, dv, dbeta, drunning if cache.has_state else None)


def delta_rule_chunked(q, k, v, beta, state=None, document_ids=None, chunk=32):
    """Y = Q S + tril(Q Kᵀ) U,  U = L⁻¹ β (V − K S),  L = I + tril(β K Kᵀ, −1)      (..., T, D), (..., T, D), (..., T, E), (..., T), (..., D, E), (..., T) → (..., T, E), (..., D, E)

    The chunked form of delta_rule, `chunk` positions at a time; the last chunk may be shorter. Same arguments, same values.
    """  # noqa: E501
    return delta_rule_chunked_forward(q, k, v, beta, state, document_ids, chunk)[0]


def delta_rule_chunked_forward(q, k, v, beta, state=None, document_ids=None, chunk=32):
    """Both values, and in the cache, chunk by chunk, the inputs, L⁻¹, U, and the state at the beginning."""
    q, k, v, beta, state = _check(q, k, v, beta, state)
    check_positive(chunk=chunk)
    first, length = first_state(state, k, v), q.shape[-2]
    chunk = min(chunk, max(length, 1))
    passes = _passes(state_carried(document_ids, q.shape[:-1], q.dtype), chunk)
    q, k, v, beta = (_cut(x, chunk) for x in (q, k, v, beta[..., None]))
    overlaps = k @ k.mT * np.tril(passes.inside, -1)  # k_r·k_i for i < r, of one document
    inverse = np.linalg.inv(np.eye(q.shape[-2], dtype=q.dtype) + beta * overlaps)
    scores = q @ k.mT * passes.inside

    running, states, written = first, [], np.empty_like(v)
    for n in range(q.shape[-3]):
        states.append(running)
        from_before = k[..., n, :, :] * passes.into[..., n, :, :] @ running
        written[..., n, :, :] = inverse[..., n, :, :] @ (beta[..., n, :, :] * (v[..., n, :, :] - from_before))
        added = (k[..., n, :, :] * passes.out[..., n, :, :]).mT @ written[..., n, :, :]
        running = passes.through[..., n, :, :] * running + added
    states = np.stack(states, axis=-3) if states else np.empty((*first.shape[:-2], 0, *first.shape[-2:]), q.dtype)
    y = q * passes.into @ states + scores @ written
    cache = Cache(
        q=q, k=k, v=v, beta=beta, overlaps=overlaps, inverse=inverse, scores=scores, states=states, written=written,
        passes=passes, length=length, first=first, has_state=state is not None,
    )  # fmt: skip
    return (_join(y, length), running.copy()), cache


def delta_rule_chunked_backward(dy, cache):
    """dU = tril(Q Kᵀ)ᵀ dY + K dS′,  G = L⁻ᵀ dU,  dV = β G      (..., T, E), (..., D, E) → (..., T, D), (..., T, D), (..., T, E), (..., T), (..., D, E)

    S′ = S + Kᵀ U is the state behind the chunk. The chunks come last to first, each handing dS to the one before it. U is
    read by Y and by S′. L U = R, so dR = G = L⁻ᵀ dU and dL = −G Uᵀ. R = β (V − K S) gives dV = β G, and the two uses of S,
    there and in Y, give dS = Qᵀ dY + dS′ − Kᵀ dV. In L stands β_r k_r·k_i, in R β_r (v_r − Sᵀ k_r): together β_r
    multiplies v_r − Sᵀ k_r − Σ_{i<r} (k_r·k_i) u_i, so dβ_r is the product of G_r with that, and both k of k_r·k_i get
    their share of dL.
    """  # noqa: E501
    q, k, v, beta, states, written, passes = (
        cache.q, cache.k, cache.v, cache.beta, cache.states, cache.written, cache.passes
    )  # fmt: skip
    dy, dstate = dy
    shape = (*q.shape[:-3], cache.length, v.shape[-1])
    dy = _cut(check_gradient(dy, shape, v.dtype), q.shape[-2])
    dwritten = cache.scores.mT @ dy  # y = q states + scores written
    dfrom_states = (q * passes.into).mT @ dy
    dright, dstates = np.empty_like(v), np.empty_like(states)  # of R and, chunk by chunk, of the state behind it
    drunning = last_state_gradient(dstate, cache.first)
    for n in reversed(range(q.shape[-3])):
        dstates[..., n, :, :] = drunning  # running = through * running + (k * out)ᵀ written
        dwritten[..., n, :, :] += k[..., n, :, :] * passes.out[..., n, :, :] @ drunning
        dright[..., n, :, :] = cache.inverse[..., n, :, :].mT @ dwritten[..., n, :, :]
        dfrom_before = -beta[..., n, :, :] * dright[..., n, :, :]  # R = beta * (v - from_before)
        through_keys = (k[..., n, :, :] * passes.into[..., n, :, :]).mT @ dfrom_before
        drunning = passes.through[..., n, :, :] * drunning + dfrom_states[..., n, :, :] + through_keys

    dscores = dy @ written.mT * passes.inside  # scores = q kᵀ
    dq = passes.into * (dy @ states.mT) + dscores @ k
    dv = beta * dright
    doverlaps = -beta * (dright @ written.mT) * np.tril(passes.inside, -1)  # L = I + beta * overlaps
    dk = dscores.mT @ q + passes.out * (written @ dstates.mT) - passes.into * (dv @ states.mT)
    dk += doverlaps @ k + doverlaps.mT @ k  # overlaps = k kᵀ
    wrong = v - k * passes.into @ states - cache.overlaps @ written
    dbeta = (dright * wrong).sum(axis=-1, keepdims=True)
    gradients = [_join(gradient, cache.length) for gradient in (dq, dk, dv, dbeta)]
    return drop_none(*gradients[:3], gradients[3][..., 0], drunning if cache.has_state else None)


@dataclass(frozen=True)
class Delta:
    """The configuration of DeltaNet."""

    num_heads: int
    chunk: int = 32

    def build(
        self,
        d_model: int,
        context_length: int,
        dropout: float = 0.0,
        *,
        rng: np.random.Generator | None = None,
        dtype: Any = "float32",
        init: bool = True,
    ) -> "DeltaNet":
        """The layer; it has no dropout, so the argument has no effect."""
        return DeltaNet(d_model, context_length, **vars(self), rng=rng, dtype=dtype)


class DeltaNet(Module):
    """y = join(norm(S_tᵀ q_t)) W_oᵀ,  S_t = S_{t−1} + k_t β_t (v_t − S_{t−1}ᵀ k_t)ᵀ      (..., T, C) → (..., T, C)

    Positions are computed `chunk` at a time; the values do not depend on it. Raises ValueError if num_heads does not
    divide d_model.
    """

    def __init__(self, d_model, context_length, num_heads, chunk=32, *, rng=None, dtype="float32"):
        check_heads(num_heads, d_model=d_model)
        check_positive(context_length=context_length, chunk=chunk)
        rng = as_generator(rng)
        self.context_length, self.num_heads, self.chunk = context_length, num_heads, chunk
        self.q_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)
        self.k_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)
        self.v_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)
        self.b_proj = Linear(d_model, num_heads, bias=False, rng=rng, dtype=dtype)
        self.o_norm = RMSNorm(d_model // num_heads, dtype=dtype)
        self.o_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)

    def new_kv_cache(self, batch_size=1, left_padding=None):
        """An empty past: it will hold S, however much is read."""
        return RecurrentState(batch_size, left_padding)

    def __call__(self, x, kv_cache=None, document_ids=None):
        """The value alone. With a `past` x follows what that has seen, and is added to it."""
        if kv_cache is None:
            return self.forward(x, document_ids=document_ids)[0]
        reject_document_ids(document_ids)
        q, k, v = (
            split_heads(layer(as_sequence(x)), self.num_heads) for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        beta = sigmoid(self.b_proj(x)).mT
        q, k = l2_normalize(q), kv_cache.without_filling(l2_normalize(k))
        context, state = delta_rule_chunked(q, k, v, beta, kv_cache.state, chunk=self.chunk)
        kv_cache.advance(q.shape[-2], state)
        return self.o_proj(join_heads(self.o_norm(context)))

    def forward(self, x, rng=None, document_ids=None):
        """The value, and the caches of all that it passed through; nothing is drawn from `rng`.

        documents   integers (..., T): several documents in a row, the state being zeros again at each one's beginning
        """
        check_context_length(as_sequence(x).shape[-2], self.context_length)
        document_ids = document_ids_per_head(document_ids, x)
        q, q_proj = self.q_proj.forward(x)
        k, k_proj = self.k_proj.forward(x)
        v, v_proj = self.v_proj.forward(x)
        b, b_proj = self.b_proj.forward(x)
        q, k, v = (split_heads(projected, self.num_heads) for projected in (q, k, v))
        q, q_direction = l2_normalize_forward(q)
        k, k_direction = l2_normalize_forward(k)
        beta, sigmoid = sigmoid_forward(b.mT)  # (..., T, H) -> (..., H, T)
        (context, _), attention = delta_rule_chunked_forward(q, k, v, beta, document_ids=document_ids, chunk=self.chunk)
        context, o_norm = self.o_norm.forward(context)
        y, o_proj = self.o_proj.forward(join_heads(context))
        return y, Cache(
            q_proj=q_proj,
            k_proj=k_proj,
            v_proj=v_proj,
            b_proj=b_proj,
            q_direction=q_direction,
            k_direction=k_direction,
            sigmoid=sigmoid,
            attention=attention,
            o_norm=o_norm,
            o_proj=o_proj,
        )

    def backward(self, dy, cache):
        """The forward, read from its last line to its first."""
        dcontext = split_heads(self.o_proj.backward(dy, cache.o_proj), self.num_heads)
        dcontext = self.o_norm.backward(dcontext, cache.o_norm)
        dq, dk, dv, dbeta = delta_rule_chunked_backward((dcontext, None), cache.attention)
        db = sigmoid_backward(dbeta, cache.sigmoid).mT
        dk = l2_normalize_backward(dk, cache.k_direction)
        dq = l2_normalize_backward(dq, cache.q_direction)
        dx = self.b_proj.backward(db, cache.b_proj)
        dx = dx + self.v_proj.backward(join_heads(dv), cache.v_proj)
        dx = dx + self.k_proj.backward(join_heads(dk), cache.k_proj)
        return dx + self.q_proj.backward(join_heads(dq), cache.q_proj)


def _passes(carried, chunk):
    """Between which places of a chunk something passes, as factors 0 and 1; all 1 (and tril) for a single document.

    inside    (..., N, C, C)   from position i to position r ≥ i
    into      (..., N, C, 1)   from the state before the chunk to position r
    out       (..., N, C, 1)   from position r to the state behind the chunk
    through   (..., N, 1, 1)   from the one state to the other
    """
    number = np.cumsum(_cut(1 - carried[..., None], chunk), axis=-2)  # 0 as long as the chunk's first document goes on
    last = number[..., -1:, :]
    return Cache(
        inside=np.tril(number == number.mT).astype(carried.dtype),
        into=(number == 0).astype(carried.dtype),
        out=(number == last).astype(carried.dtype),
        through=(last == 0).astype(carried.dtype),
    )


def _cut(x, chunk):
    """Cut positions into chunks, (..., T, D) → (..., N, C, D); the last is filled up with zeros: they add nothing."""
    *batch, length, width = x.shape
    number = -(-length // chunk)  # rounded up
    filled = np.zeros((*batch, number * chunk, width), x.dtype)
    filled[..., :length, :] = x
    return filled.reshape(*batch, number, chunk, width)


def _join(x, length):
    """Undo _cut: (..., N, C, D) → (..., T, D)."""
    *batch, number, chunk, width = x.shape
    return x.reshape(*batch, number * chunk, width)[..., :length, :]


def _check(q, k, v, beta, state):
    q, k, v, beta, state = as_floats(q=q, k=k, v=v, beta=beta, state=state)
    check_one_length(q, k, v)
    check_size("one number for every position of q", q.shape[:-1], **{"the shape of beta": beta.shape})
    return q, k, v, beta, state
