"""Absolute positions: a vector for each position, learned or computed, that is added to the token embedding.

    ids → embedding + [positions] → attention → logits → loss

Attention alone does not depend on the order of the tokens, so the order must be part of its input. The sinusoidal
encoding has a sine and a cosine for each of C/2 frequencies. Between position t and position t + k, each such pair is
rotated by an angle that depends on k only.

Vaswani et al. 2017, Attention Is All You Need, section 3.5; Raschka, section 2.8. Relative positions (RoPE, ALiBi) are
part of attention: see npllm/attention/variants.
"""

import numpy as np
from numpy.typing import DTypeLike

from npllm.core.cache import Cache
from npllm.core.checks import as_dtype, as_id_sequence, check_context_length, check_gradient, check_positive
from npllm.core.ieee_arithmetic import ieee_arithmetic
from npllm.core.module import Module, Parameter, as_generator
from npllm.layers.embedding import Embedding


def sinusoidal_positions(
    num_positions: int, d_model: int, base: float = 10000.0, dtype: DTypeLike = np.float32
) -> np.ndarray:
    """P[t, 2i] = sin(t / base^(2i/C)),  P[t, 2i+1] = cos(t / base^(2i/C))      an array (T, C)

    The angles are computed in float64 and the result is rounded once. An odd C ends with a sine. Raises ValueError for
    num_positions < 0 or d_model < 1.
    """
    if num_positions < 0 or d_model < 1:
        raise ValueError(f"num_positions is {num_positions} and d_model {d_model}; they must be at least 0 and 1")
    channel = np.arange(d_model)
    pair = channel // 2 * 2  # 2i, the same for the sine and the cosine of a pair
    angles = np.arange(num_positions)[:, None] / base ** (pair / d_model)
    return np.where(channel % 2 == 0, np.sin(angles), np.cos(angles)).astype(dtype)


class LearnedPositionalEmbedding(Module):
    """y_t = weight[t]      () → (T, C)

    `weight` (context_length, C) is initialized from the standard normal distribution, as in torch.nn.Embedding.
    """

    def __init__(
        self,
        context_length: int,
        d_model: int,
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> None:
        check_positive(context_length=context_length, d_model=d_model)
        self.weight = Parameter(np.zeros((context_length, d_model), as_dtype(dtype)))
        if init:
            self.init_weights(as_generator(rng))

    def init_weights(self, rng: np.random.Generator) -> None:
        """Draw the weight from N(0, 1)."""
        self.weight.data[...] = rng.standard_normal(self.weight.shape)

    def forward(self, num_positions: int) -> tuple[np.ndarray, Cache]:
        """The first T = num_positions rows; the cache holds T. Raises ValueError for T > context_length."""
        check_context_length(num_positions, len(self.weight.data))
        return self.weight.data[:num_positions].copy(), Cache(num_positions=num_positions)

    @ieee_arithmetic
    def backward(self, dy: np.ndarray, cache: Cache) -> None:
        """dweight[t] = Σ dy_t over the batch, because all sequences use the same row t."""
        dy = check_gradient(dy, (*np.shape(dy)[:-2], cache.num_positions, self.weight.shape[1]), self.weight.data.dtype)
        dweight = np.zeros_like(self.weight.data)
        dweight[: cache.num_positions] = dy.sum(axis=tuple(range(dy.ndim - 2)))
        self.add_grads(weight=dweight)


class SinusoidalPositionalEncoding(Module):
    """y_t = P[t], see `sinusoidal_positions`      () → (T, C)

    It has no parameters, and no largest position.
    """

    def __init__(self, d_model: int, *, dtype: DTypeLike = "float32") -> None:
        check_positive(d_model=d_model)
        self.d_model, self.dtype = d_model, as_dtype(dtype)

    def forward(self, num_positions: int) -> tuple[np.ndarray, Cache]:
        """P for the positions 0 … num_positions − 1; the cache is empty."""
        return sinusoidal_positions(num_positions, self.d_model, dtype=self.dtype), Cache()

    def backward(self, dy: np.ndarray, cache: Cache) -> None:
        """A constant has no gradient."""


class TokenPositionEmbedding(Module):
    """y_t = wte[ids_t] + wpe[t]      (..., T) → (..., T, C)

    The first token of each sequence has position 0. `positions` is "learned" (GPT-2) or "sinusoidal" (the original
    transformer). The children are called `wte` (token embedding) and `wpe` (position embedding), as in GPT-2.
    """

    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        d_model: int,
        positions: str = "learned",
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> None:
        self.context_length = context_length
        self.wte = Embedding(vocab_size, d_model, dtype=dtype, init=False)
        if positions == "learned":
            self.wpe = LearnedPositionalEmbedding(context_length, d_model, dtype=dtype, init=False)
        elif positions == "sinusoidal":
            self.wpe = SinusoidalPositionalEncoding(d_model, dtype=dtype)
        else:
            raise ValueError(f'positions is {positions!r}; it must be "learned" or "sinusoidal"')
        if init:
            self.init_weights(as_generator(rng))

    @ieee_arithmetic
    def forward(self, ids: np.ndarray) -> tuple[np.ndarray, Cache]:
        """y_t = wte[ids_t] + wpe[t]; the cache holds the caches of the children.

        Raises ValueError for T > context_length.
        """
        ids = as_id_sequence("ids", ids)
        check_context_length(ids.shape[-1], self.context_length)
        tokens, wte = self.wte.forward(ids)
        positions, wpe = self.wpe.forward(ids.shape[-1])
        return tokens + positions, Cache(wte=wte, wpe=wpe)

    def backward(self, dy: np.ndarray, cache: Cache) -> None:
        """dy is the gradient of both terms of the sum, and is passed on to both children."""
        self.wte.backward(dy, cache.wte)
        self.wpe.backward(dy, cache.wpe)
