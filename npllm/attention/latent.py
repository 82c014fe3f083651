"""Multi-head latent attention: keys and values of all heads come from one short vector, and only that is remembered.

    x → c, k_R;  c → norm → k, v of every head;  x → q, q_R → [attention in each, on k and k_R] → join → projection

The past of `multi_head` holds a key and a value for every head. Here x is pressed into a latent c, and every head makes
its own keys and values from that:

    c = norm(x W_down),    [k_h | v_h] = c W_up,h,    k_R = rotary(x W_R),    score = (q_h·k_h + q_R,h·k_R) / √(D + R)

Turning c by its place would not do, for W_up stands between it and the score. So places get R channels of their own:
queries have them in every head, the key k_R is one for all. The past holds c and k_R, which for DeepSeek-V2 is a 57th
of the keys and values that its 128 heads would fill. It adds a projection down and one up. If queries come from a
latent of their own (`query_latent_width`), they take less memory in training; the past knows nothing of it.

With a past, the keys and values are not even made. q_h·(W_k c) = (W_kᵀ q_h)·c, and Σ a_s W_v c_s = W_v Σ a_s c_s: the
projections up are *absorbed* into the query and into the output, and what is left is attention of H queries to a single
head, whose keys are [c | k_R] and whose values are c. For a token at a time that saves the work of making the keys and
values of the whole past; a long piece would pay for it in scores that are L + R wide instead of D + R.

DeepSeek-AI 2024, DeepSeek-V2, section 2.1 and appendix C; the weights carry the names of the published ones.
"""

import math

import numpy as np

from npllm import functional as F
from npllm.attention.base import Attention, documents_for_heads, sequence, whole_text
from npllm.attention.multi_head import join_heads, split_heads
from npllm.attention.past import KeyValuePast
from npllm.functional.cache import Cache
from npllm.functional.checks import at_least_one, fits_context
from npllm.functional.masks import document_mask, document_places, visible
from npllm.layers.dropout import Dropout
from npllm.layers.linear import Linear
from npllm.layers.module import generator
from npllm.layers.normalization import RMSNorm


class MultiHeadLatentAttention(Attention):
    """y = join(softmax(causal([q | q_R] [k | k_R]ᵀ / √(D + R))) v) W_oᵀ,  [k | v] = c W_upᵀ      (..., T, C) → (..., T, C)

    latent_width         L, the width of the latent from which keys and values are made
    head_width           D, the width of a head's queries and keys without their rotary part, and of its values
    rotary_width         R, the width of the rotary part; even, and 0 for none
    query_latent_width   the width of the latent from which queries are made; None: straight from x
    base, layout         of the rotary positions, see functional.rotary; published weights have pairs

    Raises ValueError for widths that do not fit.
    """  # noqa: E501

    def __init__(
        self, d_model, context_length, dropout, num_heads, latent_width, head_width, rotary_width,
        query_latent_width=None, base=10000.0, layout="pairs", *, rng=None, dtype="float32",
    ):  # fmt: skip
        at_least_one(context_length=context_length, num_heads=num_heads)
        at_least_one(latent_width=latent_width, head_width=head_width)
        if rotary_width < 0 or rotary_width % 2:
            raise ValueError(f"rotary_width is {rotary_width}; it must be even (channels turn in pairs), or 0")
        if layout not in ("halves", "pairs"):
            raise ValueError(f'layout is {layout!r}; it must be "halves" or "pairs"')
        rng = generator(rng)
        self.context_length, self.num_heads, self.layout = context_length, num_heads, layout
        self.latent_width, self.head_width = latent_width, head_width
        self.frequencies = F.rotary_frequencies(rotary_width, base) if rotary_width else np.zeros(0)
        query_width = num_heads * (head_width + rotary_width)
        self.q_proj = None
        if query_latent_width is None:
            self.q_proj = Linear(d_model, query_width, bias=False, rng=rng, dtype=dtype)
        else:
            self.q_a_proj = Linear(d_model, query_latent_width, bias=False, rng=rng, dtype=dtype)
            self.q_a_layernorm = RMSNorm(query_latent_width, dtype=dtype)
            self.q_b_proj = Linear(query_latent_width, query_width, bias=False, rng=rng, dtype=dtype)
        self.kv_a_proj_with_mqa = Linear(d_model, latent_width + rotary_width, bias=False, rng=rng, dtype=dtype)
        self.kv_a_layernorm = RMSNorm(latent_width, dtype=dtype)
        self.kv_b_proj = Linear(latent_width, num_heads * 2 * head_width, bias=False, rng=rng, dtype=dtype)
        self.o_proj = Linear(num_heads * head_width, d_model, bias=False, rng=rng, dtype=dtype)
        self.dropout = Dropout(dropout)

    def start_past(self, batch_size=1, padding=None):
        """An empty past: it will hold the latent and the rotary key, L + R numbers a position."""
        return KeyValuePast(batch_size, padding)

    def __call__(self, x, past=None, documents=None):
        """The value alone. With a `past` x follows what that has seen, and is added to it, in the absorbed form."""
        if past is None:
            return self.forward(x, documents=documents)[0]
        whole_text(documents)
        places = past.places(sequence(x).shape[-2])
        (latent, k_rotary), _ = self._compress(x, places)
        remembered, key_places = past.extend(np.concatenate([latent[..., None, :, :], k_rotary], axis=-1))
        (q, q_rotary), _ = self._queries(x, places)
        return self._absorbed(q, q_rotary, remembered, visible(places, key_places))

    def _absorbed(self, q, q_rotary, remembered, seen):
        """Attention of all heads' queries to one head: its keys are [c | k_R], its values are c."""
        up = self.kv_b_proj.weight.data.reshape(self.num_heads, 2 * self.head_width, self.latent_width)
        up_key, up_value = up[:, : self.head_width], up[:, self.head_width :]
        q = np.concatenate([q @ up_key, q_rotary], axis=-1)  # (..., H, T, L + R)
        scale = 1.0 / math.sqrt(self.head_width + q_rotary.shape[-1])  # of the scores that are meant, not of L + R
        latent = remembered[..., : self.latent_width]
        context = F.scaled_dot_product_attention(q, remembered, latent, seen, scale=scale, enable_gqa=True)
        return self.o_proj(join_heads(context @ up_value.mT))

    def forward(self, x, rng=None, documents=None):
        """The value, and the caches of all that it passed through; here the keys and values are made (expanded).

        documents   integers (..., T): several documents in a row, each attending to itself, places counted anew
        """
        length = sequence(x).shape[-2]
        fits_context(length, self.context_length)
        documents = documents_for_heads(documents, x)
        places = np.arange(length) if documents is None else document_places(documents)
        (q, q_rotary), queries = self._queries(x, places)
        (latent, k_rotary), compress = self._compress(x, places)
        up, kv_b_proj = self.kv_b_proj.forward(latent)
        k, v = np.split(split_heads(up, self.num_heads), 2, axis=-1)
        q, k = np.concatenate([q, q_rotary], axis=-1), _beside(k, k_rotary)
        mask = self.dropout.draw_mask((*q.shape[:-1], length), rng, q.dtype)
        attn_mask = None if documents is None else document_mask(documents)
        context, attention = F.scaled_dot_product_attention_forward(
            q, k, v, attn_mask, is_causal=documents is None, dropout_mask=mask
        )
        y, o_proj = self.o_proj.forward(join_heads(context))
        return y, Cache(
            queries=queries,
            compress=compress,
            kv_b_proj=kv_b_proj,
            dropout=Cache(mask=mask),
            attention=attention,
            o_proj=o_proj,
        )

    def backward(self, dy, cache):
        """The forward, read from its last line to its first; the one rotary key gets what all heads have for it."""
        dcontext = split_heads(self.o_proj.backward(dy, cache.o_proj), self.num_heads)
        dq, dk, dv = F.scaled_dot_product_attention_backward(dcontext, cache.attention)
        dq, dq_rotary = np.split(dq, [self.head_width], axis=-1)
        dk, dk_rotary = np.split(dk, [self.head_width], axis=-1)
        dlatent = self.kv_b_proj.backward(join_heads(np.concatenate([dk, dv], axis=-1)), cache.kv_b_proj)
        dx = self._compress_backward(dlatent, dk_rotary.sum(axis=-3, keepdims=True), cache.compress)
        return dx + self._queries_backward(dq, dq_rotary, cache.queries)

    def _queries(self, x, places):
        """Every head's query and its rotary part, (..., H, T, D) and (..., H, T, R)."""
        if self.q_proj is not None:
            q, cache = self.q_proj.forward(x)
        else:
            latent, q_a_proj = self.q_a_proj.forward(x)
            latent, q_a_layernorm = self.q_a_layernorm.forward(latent)
            q, q_b_proj = self.q_b_proj.forward(latent)
            cache = Cache(q_a_proj=q_a_proj, q_a_layernorm=q_a_layernorm, q_b_proj=q_b_proj)
        q, q_rotary = np.split(split_heads(q, self.num_heads), [self.head_width], axis=-1)
        q_rotary, rotary = F.rotary_forward(q_rotary, places, self.frequencies, self.layout)
        return (q, q_rotary), Cache(projection=cache, rotary=rotary)

    def _queries_backward(self, dq, dq_rotary, cache):
        dq_rotary = F.rotary_backward(dq_rotary, cache.rotary)
        dq, cache = join_heads(np.concatenate([dq, dq_rotary], axis=-1)), cache.projection
        if self.q_proj is not None:
            return self.q_proj.backward(dq, cache)
        dlatent = self.q_a_layernorm.backward(self.q_b_proj.backward(dq, cache.q_b_proj), cache.q_a_layernorm)
        return self.q_a_proj.backward(dlatent, cache.q_a_proj)

    def _compress(self, x, places):
        """The latent, (..., T, L), and the rotary key that all heads share, (..., 1, T, R)."""
        down, kv_a_proj = self.kv_a_proj_with_mqa.forward(x)
        latent, k_rotary = np.split(down, [self.latent_width], axis=-1)
        latent, kv_a_layernorm = self.kv_a_layernorm.forward(latent)
        k_rotary, rotary = F.rotary_forward(k_rotary[..., None, :, :], places, self.frequencies, self.layout)
        return (latent, k_rotary), Cache(kv_a_proj=kv_a_proj, kv_a_layernorm=kv_a_layernorm, rotary=rotary)

    def _compress_backward(self, dlatent, dk_rotary, cache):
        dk_rotary = F.rotary_backward(dk_rotary, cache.rotary)[..., 0, :, :]
        dlatent = self.kv_a_layernorm.backward(dlatent, cache.kv_a_layernorm)
        return self.kv_a_proj_with_mqa.backward(np.concatenate([dlatent, dk_rotary], axis=-1), cache.kv_a_proj)


def _beside(k, shared):
    """[k | the same for every head]: (..., H, T, D), (..., 1, T, R) → (..., H, T, D + R)."""
    return np.concatenate([k, np.broadcast_to(shared, (*k.shape[:-1], shared.shape[-1]))], axis=-1)
