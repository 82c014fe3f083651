"""Sinusoidal positions: a clock with many hands, from fast to slow, tells each position from every other.

    ids → embedding + [positions] → attention → logits → loss

No two positions look alike, and a step of k positions turns every hand by the same angle wherever one starts, so
"k back" is one rotation for all positions.

Vaswani et al. 2017, Attention Is All You Need, section 3.5.
"""

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import check_context_length, check_gradient, check_positive
from npllm.core.module import Module, Parameter, as_generator
from npllm.layers.embedding import Embedding


def sinusoidal_positions(num_positions, d_model, base=10000.0, dtype=np.float32):
    """P[t, 2i] = sin(t / base^(2i/C)),  P[t, 2i+1] = cos(t / base^(2i/C))      an array (T, C)

    Computed in float64 and rounded once: the angle t is exact up to large positions. An odd C ends with a sine.
    Raises ValueError for negative sizes.
    """
    if num_positions < 0 or d_model < 1:
        raise ValueError(f"num_positions is {num_positions} and d_model {d_model}; they must be at least 0 and 1")
    channel = np.arange(d_model)
    pair = channel // 2 * 2  # 2i, the same for the sine and the cosine of a pair
    angles = np.arange(num_positions)[:, None] / base ** (pair / d_model)
    return np.where(channel % 2 == 0, np.sin(angles), np.cos(angles)).astype(dtype)


class LearnedPositionalEmbedding(Module):
    """y_t = weight[t]      () → (T, C)

    A row for every position up to `context_length`, learned like a token's. It says nothing of later positions.
    """

    def __init__(self, context_length, d_model, *, rng=None, dtype="float32"):
        check_positive(context_length=context_length, d_model=d_model)
        self.weight = Parameter(as_generator(rng).standard_normal((context_length, d_model)).astype(dtype))

    def forward(self, num_positions):
        """The first `num_positions` rows; raises ValueError if there are fewer."""
        check_context_length(num_positions, len(self.weight.data))
        return self.weight.data[:num_positions].copy(), Cache(num_positions=num_positions)

    def backward(self, dy, cache):
        """dweight[t] = dy_t, summed over the batch: every sequence used the same row t."""
        dy = check_gradient(dy, (*np.shape(dy)[:-2], cache.num_positions, self.weight.shape[1]), self.weight.data.dtype)
        dweight = np.zeros_like(self.weight.data)
        dweight[: cache.num_positions] = dy.sum(axis=tuple(range(dy.ndim - 2)))
        self.weight.add_grad(dweight)


class SinusoidalPositionalEncoding(Module):
    """y_t = P[t], see functional.sinusoidal_positions      () → (T, C)

    Nothing to learn, so nothing to run backward, and no last position.
    """

    def __init__(self, d_model, *, dtype="float32"):
        self.d_model, self.dtype = d_model, dtype

    def forward(self, num_positions):
        """P for the positions 0 … num_positions − 1."""
        return sinusoidal_positions(num_positions, self.d_model, dtype=self.dtype), Cache()

    def backward(self, dy, cache):
        """Constants have no gradient."""


class TokenPositionEmbedding(Module):
    """y_t = wte[ids_t] + wpe[t]      (..., T) → (..., T, C)

    Every sequence starts at position 0. `positions` is "learned" (GPT-2) or "sinusoidal" (the first transformer).
    The children are called `wte` and `wpe`, as in GPT-2.
    """

    def __init__(self, vocab_size, context_length, d_model, positions="learned", *, rng=None, dtype="float32"):
        rng = as_generator(rng)
        self.context_length = context_length
        self.wte = Embedding(vocab_size, d_model, rng=rng, dtype=dtype)
        if positions == "learned":
            self.wpe = LearnedPositionalEmbedding(context_length, d_model, rng=rng, dtype=dtype)
        elif positions == "sinusoidal":
            self.wpe = SinusoidalPositionalEncoding(d_model, dtype=dtype)
        else:
            raise ValueError(f'positions is {positions!r}; it must be "learned" or "sinusoidal"')

    def forward(self, ids):
        """The value, and both caches by the children's names."""
        ids = np.asarray(ids)
        if ids.ndim == 0:
            raise ValueError("ids is a single number; it must be a sequence (T) or a batch of them (B, T)")
        check_context_length(ids.shape[-1], self.context_length)
        tokens, wte = self.wte.forward(ids)
        positions, wpe = self.wpe.forward(ids.shape[-1])
        return tokens + positions, Cache(wte=wte, wpe=wpe)

    def backward(self, dy, cache):
        """The sum passes dy on to both tables."""
        self.wte.backward(dy, cache.wte)
        self.wpe.backward(dy, cache.wpe)
