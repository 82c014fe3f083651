"""An embedding is a table of vectors with one row for each token id; the lookup selects the row of each id.

    ids → [embedding] → attention → logits → loss

The lookup equals the matrix product one_hot(ids) @ weight, without the multiplications by zero. The gradient follows
from the product: dweight = one_hot(ids)ᵀ @ dy, which *adds* the gradients of all positions that have the same id.

Raschka, Build a Large Language Model (From Scratch), section 2.7.
"""

import numpy as np
from numpy.typing import DTypeLike

from npllm.core.cache import Cache
from npllm.core.checks import as_dtype, as_floats, as_indices, check_gradient, check_positive, check_shape, reject_half
from npllm.core.ieee_arithmetic import ieee_arithmetic
from npllm.core.module import Module, Parameter, as_generator


def one_hot(ids: np.ndarray, num_classes: int, dtype: DTypeLike = np.float32) -> np.ndarray:
    """yᵢⱼ = 1 if j = idsᵢ else 0      (...) → (..., V)

    Raises IndexError for an id outside [0, num_classes).
    """
    ids = as_indices("ids", ids, 0, num_classes)
    return (ids[..., None] == np.arange(num_classes)).astype(dtype)


def embedding(ids: np.ndarray, weight: np.ndarray, padding_idx: int | None = None) -> np.ndarray:
    """yᵢ = weight[idsᵢ]      (...), (V, C) → (..., C)

    The row `padding_idx` is looked up like the others, but its gradient is 0. Raises IndexError for an id outside
    [0, V), TypeError for ids that are not integers.
    """
    return embedding_forward(ids, weight, padding_idx)[0]


def embedding_forward(ids: np.ndarray, weight: np.ndarray, padding_idx: int | None = None) -> tuple[np.ndarray, Cache]:
    """yᵢ = weight[idsᵢ]; the cache holds the ids, the shape and dtype of weight, and padding_idx."""
    weight = as_floats(weight=weight)
    check_shape("weight", weight, "(V, C)")
    ids = as_indices("ids", ids, 0, len(weight))
    if padding_idx is not None:
        as_indices("padding_idx", padding_idx, -len(weight), len(weight))
    return weight.take(ids, axis=0), Cache(ids=ids, shape=weight.shape, dtype=weight.dtype, padding_idx=padding_idx)


@ieee_arithmetic
def embedding_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dweight[v] = Σ over i with idsᵢ = v of dyᵢ      (..., C) → (V, C)

    y = one_hot(ids) @ weight, so dweight = one_hot(ids)ᵀ @ dy: a row that is used twice gets the sum of both gradients,
    an unused row gets 0.
    """
    ids, rows = embedding_row_gradients(dy, cache)
    dweight = np.zeros(cache.shape, cache.dtype)
    dweight[ids] = rows
    return dweight


@ieee_arithmetic
def embedding_row_gradients(dy: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """The rows of dweight that are not 0, and their ids in ascending order      (..., C) → (M), (M, C)"""
    channels = cache.shape[-1]
    dy = check_gradient(dy, (*cache.ids.shape, channels), cache.dtype)
    reject_half(dy)
    ids, rows = sums_by_id(dy.reshape(cache.ids.size, channels), cache.ids.reshape(-1))
    if cache.padding_idx is not None:
        rows[ids == cache.padding_idx % cache.shape[0]] = 0
    return ids, rows


class Embedding(Module):
    """yᵢ = weight[idsᵢ]      (...) → (..., C)

    `weight` (V, C) is initialized from the standard normal distribution, as in torch.nn.Embedding. The row
    `padding_idx` is initialized with 0, and its gradient is 0.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> None:
        check_positive(num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if padding_idx is not None:
            as_indices("padding_idx", padding_idx, -num_embeddings, num_embeddings)
        self.weight = Parameter(np.zeros((num_embeddings, embedding_dim), as_dtype(dtype)))
        self.padding_idx = padding_idx
        if init:
            self.init_weights(as_generator(rng))

    def init_weights(self, rng: np.random.Generator) -> None:
        """Draw the weight from N(0, 1); the row `padding_idx` is 0."""
        self.weight.data[...] = rng.standard_normal(self.weight.shape)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    def forward(self, ids: np.ndarray) -> tuple[np.ndarray, Cache]:
        """yᵢ = weight[idsᵢ]; the cache is that of `embedding_forward`."""
        return embedding_forward(ids, self.weight.data, self.padding_idx)

    @ieee_arithmetic
    def backward(self, dy: np.ndarray, cache: Cache) -> None:
        """dweight is added to the gradient of the parameter. Ids have no gradient, so nothing is returned.

        Where there is a gradient already, such as that of a head with the same weight, only the rows of the ids change.
        """
        if self.weight.grad is None:
            self.add_grads(weight=embedding_backward(dy, cache))
        else:
            ids, rows = embedding_row_gradients(dy, cache)
            self.weight.grad[ids] += rows


def sum_by_id(rows: np.ndarray, ids: np.ndarray, num_ids: int) -> np.ndarray:
    """y[v] = Σ over i with idsᵢ = v of rowsᵢ      (N, C), (N) → (V, C)

    Equal to one_hot(ids)ᵀ @ rows and to np.add.at, and faster, see `sums_by_id`.
    """
    y = np.zeros((num_ids, rows.shape[1]), rows.dtype)
    found, sums = sums_by_id(rows, ids)
    y[found] = sums
    return y


def sums_by_id(rows: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct ids v in ascending order, and Σ over i with idsᵢ = v of rowsᵢ      (N, C), (N) → (M), (M, C)

    The positions are sorted by id, so that those of one id are a slice. Only slices of several rows must be added up.
    The sort is stable: the rows of an id are added in the order of their positions, so every run gives the same sum.
    """
    order = np.argsort(ids, kind="stable")
    sorted_ids = ids[order]
    is_first = np.ones(len(ids), bool)  # the first position of each id
    is_first[1:] = sorted_ids[1:] != sorted_ids[:-1]
    starts = np.flatnonzero(is_first)
    ends = np.append(starts[1:], len(ids))
    sums = rows[order[starts]]
    for i in np.flatnonzero(ends - starts > 1):
        np.add.reduce(rows[order[starts[i] : ends[i]]], axis=0, out=sums[i])
    return sorted_ids[starts], sums
