"""Activation checkpointing: a block keeps only its input, and its forward is repeated in the backward.

    forward    x → block → y; the block's cache is released, x is kept
    backward   x → block → cache again, then the block's backward

The caches of all blocks take most of the memory of a training step with a long context. With `recompute` there is the
cache of one block at a time, for the price of a second forward. The repeated forward draws the same dropout masks, so
the gradients are equal to the last bit.

    loss, cache = model.loss_forward(ids, targets, recompute=True)
    npllm train --recompute, TrainingConfig(recompute=True)     the same for a whole training

Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost, section 3.
"""

import copy
from typing import Any

import numpy as np

from npllm.core.cache import Cache


class InputOnly(Cache):
    """The input of a block, its options, and the generator as it was before the block drew from it."""


def input_only_forward(
    block: Any, x: np.ndarray, *, rng: np.random.Generator | None = None, **options: Any
) -> tuple[np.ndarray, Cache]:
    """y = block(x), and an InputOnly, from which the block's cache can be computed again."""
    if options.get("kv_cache") is not None:
        raise ValueError("recompute is True and kv_cache is set; recompute must be False, because there is no backward")
    kept = InputOnly(x=x, rng=copy.deepcopy(rng), options=options)
    y, cache = block.forward(x, rng=rng, **options)
    aux_loss = getattr(cache.mlp, "aux_loss", None)  # a mixture of experts has one; it is a part of the loss
    kept.mlp = Cache() if aux_loss is None else Cache(aux_loss=aux_loss)
    return y, kept


def block_backward(block: Any, dy: np.ndarray, cache: Cache, *further: float) -> np.ndarray:
    """dx = block.backward(dy, cache, *further), after the forward is repeated if the cache is an InputOnly."""
    if isinstance(cache, InputOnly):
        _, cache = block.forward(cache.x, rng=copy.deepcopy(cache.rng), **cache.options)
    return block.backward(dy, cache, *further)
