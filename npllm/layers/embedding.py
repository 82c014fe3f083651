"""An embedding is a table with one row a token; looking up an id takes its row.

    ids → [embedding] → attention → logits → loss

The lookup is a matrix product in disguise, one_hot(ids) @ weight: all but one of V products multiply by zero,
so we skip them. Backward, the disguise is what tells us the gradient: one_hot(ids)ᵀ @ dy *adds* the gradients
of every position that used a row.

Raschka, section 2.7.

Embeddings: a vector for every token, a vector for every position, and their sum.

    ids → [embedding + position] → attention → logits → loss

Attention compares vectors and does not know where they stand; the position is put into the vector itself.

Raschka, sections 2.7 and 2.8.
"""

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import as_floats, as_indices, check_gradient, check_positive
from npllm.core.module import Module, Parameter, as_generator


def one_hot(ids, num_classes, dtype=np.float32):
    """one_hot(ids)ᵢⱼ = 1 if j = idsᵢ else 0      (...) → (..., V)

    Raises IndexError for an id outside [0, num_classes).
    """
    ids = as_indices("ids", ids, 0, num_classes)
    return (ids[..., None] == np.arange(num_classes)).astype(dtype)


def embedding(ids, weight, padding_idx=None):
    """yᵢ = weight[idsᵢ]      (...), (V, C) → (..., C)

    `padding_idx` names a row that is looked up as usual but never learns. Raises IndexError for an id outside
    [0, V), TypeError for ids that are not integers.
    """
    weight = as_floats(weight=weight)
    if weight.ndim != 2:
        raise ValueError(f"weight has shape {weight.shape}; it must be (V, C), a row for every token")
    ids = as_indices("ids", ids, 0, len(weight))
    if padding_idx is not None:
        as_indices("padding_idx", padding_idx, -len(weight), len(weight))
    return weight[ids]


def embedding_forward(ids, weight, padding_idx=None):
    """The value, and in the cache the ids, the weight's shape and dtype, and the padding row."""
    y = embedding(ids, weight, padding_idx)
    return y, Cache(
        ids=np.asarray(ids, None if np.size(ids) else np.int64),
        shape=np.shape(weight),
        dtype=y.dtype,
        padding_idx=padding_idx,
    )


def embedding_backward(dy, cache):
    """dweight[v] = Σ over i with idsᵢ = v of dyᵢ      (..., C) → (V, C)

    y = one_hot(ids) @ weight, so dweight = one_hot(ids)ᵀ @ dy: a row used twice gets the sum of both gradients,
    an unused row gets 0. `np.add.at` adds for repeated ids, where `dweight[ids] += dy` would keep the last only.
    """
    channels = cache.shape[-1]
    dy = check_gradient(dy, (*cache.ids.shape, channels), cache.dtype)
    dweight = np.zeros(cache.shape, cache.dtype)
    np.add.at(dweight, cache.ids.reshape(-1), dy.reshape(-1, channels))
    if cache.padding_idx is not None:
        dweight[cache.padding_idx] = 0
    return dweight


class Embedding(Module):
    """yᵢ = weight[idsᵢ]      (...) → (..., C)

    `weight` (V, C) starts standard normal, as in torch.nn.Embedding; the row `padding_idx` starts 0 and stays.
    """

    def __init__(self, num_embeddings, embedding_dim, padding_idx=None, *, rng=None, dtype="float32"):
        check_positive(num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        weight = as_generator(rng).standard_normal((num_embeddings, embedding_dim)).astype(dtype)
        if padding_idx is not None:
            weight[as_indices("padding_idx", padding_idx, -num_embeddings, num_embeddings)] = 0
        self.weight = Parameter(weight)
        self.padding_idx = padding_idx

    def forward(self, ids):
        """The value, and the cache of `functional.embedding_forward`."""
        return embedding_forward(ids, self.weight.data, self.padding_idx)

    def backward(self, dy, cache):
        """Ids have no gradient: dweight goes to the parameter, and nothing is returned."""
        self.weight.add_grad(embedding_backward(dy, cache))
