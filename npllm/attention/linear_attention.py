"""Linear attention as a layer: multi-head attention whose past is a matrix of fixed size.

    x → q, k, v → split into heads → φ(q), φ(k) → [linear attention in each] → join the heads → projection

Over `multi_head`, the exponential of a query's product with a key gives way to the product of their features,
φ(x) = elu(x) + 1. That takes away the sharpness of softmax, and the T × T table with it: a text may be trained in
parallel, and is then read and written by a recurrent network whose state has D × (D + 1) numbers a head, at the
millionth token as at the first.

    y_t = φ(q_t)ᵀ S_t / φ(q_t)ᵀ z_t,      S_t = Σ_{s ≤ t} φ(k_s) v_sᵀ,      z_t = Σ_{s ≤ t} φ(k_s)

Katharopoulos, Vyas, Pappas, Fleuret 2020, Transformers are RNNs, section 3.
"""

from npllm import functional as F
from npllm.attention.base import documents_for_heads, sequence, whole_text
from npllm.attention.multi_head import join_heads, split_heads
from npllm.attention.past import StatePast
from npllm.functional.cache import Cache
from npllm.functional.checks import at_least_one, fits_context, heads_divide
from npllm.layers.linear import Linear
from npllm.layers.module import Module, generator

FORMS = ("parallel", "recurrent")


class LinearAttention(Module):
    """y = join(φ(q)ᵀ S / φ(q)ᵀ z) W_oᵀ,  φ = elu + 1      (..., T, C) → (..., T, C)

    `form` says how: "parallel" with a table of T × T weights, "recurrent" with a state that goes from position to
    position; the values are the same. Raises ValueError for another form, and if num_heads does not divide d_model.
    """

    def __init__(self, d_model, context_length, num_heads, form="parallel", *, rng=None, dtype="float32"):
        heads_divide(num_heads, d_model=d_model)
        if form not in FORMS:
            raise ValueError(f'form is {form!r}; it must be "parallel" or "recurrent"')
        at_least_one(context_length=context_length)
        rng = generator(rng)
        self.context_length, self.num_heads, self.form = context_length, num_heads, form
        self.q_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)
        self.k_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)
        self.v_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)
        self.o_proj = Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)

    def start_past(self, batch_size=1, padding=None):
        """An empty past: it will hold [S | z], however much is read."""
        return StatePast(batch_size, padding)

    def __call__(self, x, past=None, documents=None):
        """The value alone. With a `past` x follows what that has seen, and is added to it."""
        if past is None:
            return self.forward(x, documents=documents)[0]
        whole_text(documents)
        q, k, v = (split_heads(layer(sequence(x)), self.num_heads) for layer in (self.q_proj, self.k_proj, self.v_proj))
        q, k = F.elu_plus_one(q), past.without_filling(F.elu_plus_one(k))
        context, state = F.linear_attention_recurrent(q, k, v, past.state)
        past.advance(q.shape[-2], state)
        return self.o_proj(join_heads(context))

    def forward(self, x, rng=None, documents=None):
        """The value, and the caches of the projections, of the features and of the core; nothing is drawn from `rng`.

        documents   integers (..., T): several documents in a row, the state being zeros again at each one's beginning
        """
        fits_context(sequence(x).shape[-2], self.context_length)
        documents = documents_for_heads(documents, x)
        q, q_proj = self.q_proj.forward(x)
        k, k_proj = self.k_proj.forward(x)
        v, v_proj = self.v_proj.forward(x)
        q, k, v = (split_heads(projected, self.num_heads) for projected in (q, k, v))
        q, q_features = F.elu_plus_one_forward(q)
        k, k_features = F.elu_plus_one_forward(k)
        if self.form == "parallel":
            context, attention = F.linear_attention_forward(q, k, v, documents)
        else:
            (context, _), attention = F.linear_attention_recurrent_forward(q, k, v, documents=documents)
        y, o_proj = self.o_proj.forward(join_heads(context))
        return y, Cache(
            q_proj=q_proj,
            k_proj=k_proj,
            v_proj=v_proj,
            q_features=q_features,
            k_features=k_features,
            attention=attention,
            o_proj=o_proj,
        )

    def backward(self, dy, cache):
        """The forward, read from its last line to its first."""
        dcontext = split_heads(self.o_proj.backward(dy, cache.o_proj), self.num_heads)
        if self.form == "parallel":
            dq, dk, dv = F.linear_attention_backward(dcontext, cache.attention)
        else:
            dq, dk, dv = F.linear_attention_recurrent_backward((dcontext, None), cache.attention)
        dq = F.elu_plus_one_backward(dq, cache.q_features)
        dk = F.elu_plus_one_backward(dk, cache.k_features)
        dx = self.v_proj.backward(join_heads(dv), cache.v_proj)
        dx = dx + self.k_proj.backward(join_heads(dk), cache.k_proj)
        return dx + self.q_proj.backward(join_heads(dq), cache.q_proj)
