"""DeltaNet: linear attention that corrects what its state says before it writes, by the delta rule.

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

from npllm import functional as F
from npllm.attention.base import documents_for_heads, sequence, whole_text
from npllm.attention.multi_head import join_heads, split_heads
from npllm.attention.past import StatePast
from npllm.functional.cache import Cache
from npllm.functional.checks import at_least_one, fits_context, heads_divide
from npllm.layers.linear import Linear
from npllm.layers.module import Module, generator
from npllm.layers.normalization import RMSNorm


class DeltaNet(Module):
    """y = join(norm(S_tᵀ q_t)) W_oᵀ,  S_t = S_{t−1} + k_t β_t (v_t − S_{t−1}ᵀ k_t)ᵀ      (..., T, C) → (..., T, C)

    Positions are computed `chunk` at a time; the values do not depend on it. Raises ValueError if num_heads does not
    divide d_model.
    """

    def __init__(self, d_model, context_length, num_heads, chunk=32, *, rng=None, dtype="float32"):
        heads_divide(num_heads, d_model=d_model)
        at_least_one(context_length=context_length, chunk=chunk)
        rng = generator(rng)
        self.context_length, self.num_heads, self.chunk = context_length, num_heads, chunk
        self.q_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)
        self.k_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)
        self.v_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)
        self.b_proj = Linear(d_model, num_heads, bias=False, rng=rng, dtype=dtype)
        self.o_norm = RMSNorm(d_model // num_heads, dtype=dtype)
        self.o_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)

    def start_past(self, batch_size=1, padding=None):
        """An empty past: it will hold S, however much is read."""
        return StatePast(batch_size, padding)

    def __call__(self, x, past=None, documents=None):
        """The value alone. With a `past` x follows what that has seen, and is added to it."""
        if past is None:
            return self.forward(x, documents=documents)[0]
        whole_text(documents)
        q, k, v = (split_heads(layer(sequence(x)), self.num_heads) for layer in (self.q_proj, self.k_proj, self.v_proj))
        beta = F.sigmoid(self.b_proj(x)).mT
        q, k = F.l2_normalize(q), past.without_filling(F.l2_normalize(k))
        context, state = F.delta_rule_chunked(q, k, v, beta, past.state, chunk=self.chunk)
        past.advance(q.shape[-2], state)
        return self.o_proj(join_heads(self.o_norm(context)))

    def forward(self, x, rng=None, documents=None):
        """The value, and the caches of all that it passed through; nothing is drawn from `rng`.

        documents   integers (..., T): several documents in a row, the state being zeros again at each one's beginning
        """
        fits_context(sequence(x).shape[-2], self.context_length)
        documents = documents_for_heads(documents, x)
        q, q_proj = self.q_proj.forward(x)
        k, k_proj = self.k_proj.forward(x)
        v, v_proj = self.v_proj.forward(x)
        b, b_proj = self.b_proj.forward(x)
        q, k, v = (split_heads(projected, self.num_heads) for projected in (q, k, v))
        q, q_direction = F.l2_normalize_forward(q)
        k, k_direction = F.l2_normalize_forward(k)
        beta, sigmoid = F.sigmoid_forward(b.mT)  # (..., T, H) -> (..., H, T)
        (context, _), attention = F.delta_rule_chunked_forward(q, k, v, beta, documents=documents, chunk=self.chunk)
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
        dq, dk, dv, dbeta = F.delta_rule_chunked_backward((dcontext, None), cache.attention)
        db = F.sigmoid_backward(dbeta, cache.sigmoid).mT
        dk = F.l2_normalize_backward(dk, cache.k_direction)
        dq = F.l2_normalize_backward(dq, cache.q_direction)
        dx = self.b_proj.backward(db, cache.b_proj)
        dx = dx + self.v_proj.backward(join_heads(dv), cache.v_proj)
        dx = dx + self.k_proj.backward(join_heads(dk), cache.k_proj)
        return dx + self.q_proj.backward(join_heads(dq), cache.q_proj)
