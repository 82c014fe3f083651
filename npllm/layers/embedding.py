"""Embeddings: a vector for every token, a vector for every position, and their sum.

    ids → [embedding + position] → attention → logits → loss

Attention compares vectors and does not know where they stand; the position is put into the vector itself.

Raschka, sections 2.7 and 2.8.
"""

import numpy as np

from npllm import functional as F
from npllm.functional.cache import Cache
from npllm.functional.checks import at_least_one, fits_context, integers, output_gradient
from npllm.layers.module import Module, Parameter, generator


class Embedding(Module):
    """yᵢ = weight[idsᵢ]      (...) → (..., C)

    `weight` (V, C) starts standard normal, as in torch.nn.Embedding; the row `padding_idx` starts 0 and stays.
    """

    def __init__(self, num_embeddings, embedding_dim, padding_idx=None, *, rng=None, dtype="float32"):
        at_least_one(num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        weight = generator(rng).standard_normal((num_embeddings, embedding_dim)).astype(dtype)
        if padding_idx is not None:
            weight[integers("padding_idx", padding_idx, -num_embeddings, num_embeddings)] = 0
        self.weight = Parameter(weight)
        self.padding_idx = padding_idx

    def forward(self, ids):
        """The value, and the cache of `functional.embedding_forward`."""
        return F.embedding_forward(ids, self.weight.data, self.padding_idx)

    def backward(self, dy, cache):
        """Ids have no gradient: dweight goes to the parameter, and nothing is returned."""
        self.weight.add_grad(F.embedding_backward(dy, cache))


class LearnedPositions(Module):
    """y_t = weight[t]      () → (T, C)

    A row for every position up to `context_length`, learned like a token's. It says nothing of later positions.
    """

    def __init__(self, context_length, d_model, *, rng=None, dtype="float32"):
        at_least_one(context_length=context_length, d_model=d_model)
        self.weight = Parameter(generator(rng).standard_normal((context_length, d_model)).astype(dtype))

    def forward(self, num_positions):
        """The first `num_positions` rows; raises ValueError if there are fewer."""
        fits_context(num_positions, len(self.weight.data))
        return self.weight.data[:num_positions].copy(), Cache(num_positions=num_positions)

    def backward(self, dy, cache):
        """dweight[t] = dy_t, summed over the batch: every sequence used the same row t."""
        dy = output_gradient(
            dy, (*np.shape(dy)[:-2], cache.num_positions, self.weight.shape[1]), self.weight.data.dtype
        )
        dweight = np.zeros_like(self.weight.data)
        dweight[: cache.num_positions] = dy.sum(axis=tuple(range(dy.ndim - 2)))
        self.weight.add_grad(dweight)


class SinusoidalPositions(Module):
    """y_t = P[t], see functional.sinusoidal_positions      () → (T, C)

    Nothing to learn, so nothing to run backward, and no last position.
    """

    def __init__(self, d_model, *, dtype="float32"):
        self.d_model, self.dtype = d_model, dtype

    def forward(self, num_positions):
        """P for the positions 0 … num_positions − 1."""
        return F.sinusoidal_positions(num_positions, self.d_model, dtype=self.dtype), Cache()

    def backward(self, dy, cache):
        """Constants have no gradient."""


class TokenPositionEmbedding(Module):
    """y_t = wte[ids_t] + wpe[t]      (..., T) → (..., T, C)

    Every sequence starts at position 0. `positions` is "learned" (GPT-2) or "sinusoidal" (the first transformer).
    The children are called `wte` and `wpe`, as in GPT-2.
    """

    def __init__(self, vocab_size, context_length, d_model, positions="learned", *, rng=None, dtype="float32"):
        rng = generator(rng)
        self.context_length = context_length
        self.wte = Embedding(vocab_size, d_model, rng=rng, dtype=dtype)
        if positions == "learned":
            self.wpe = LearnedPositions(context_length, d_model, rng=rng, dtype=dtype)
        elif positions == "sinusoidal":
            self.wpe = SinusoidalPositions(d_model, dtype=dtype)
        else:
            raise ValueError(f'positions is {positions!r}; it must be "learned" or "sinusoidal"')

    def forward(self, ids):
        """The value, and both caches by the children's names."""
        ids = np.asarray(ids)
        if ids.ndim == 0:
            raise ValueError("ids is a single number; it must be a sequence (T) or a batch of them (B, T)")
        fits_context(ids.shape[-1], self.context_length)
        tokens, wte = self.wte.forward(ids)
        positions, wpe = self.wpe.forward(ids.shape[-1])
        return tokens + positions, Cache(wte=wte, wpe=wpe)

    def backward(self, dy, cache):
        """The sum passes dy on to both tables."""
        self.wte.backward(dy, cache.wte)
        self.wpe.backward(dy, cache.wpe)
