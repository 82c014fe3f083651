"""What the language models share: logits, the loss, and what generation needs.

    ids → [backbone: embedding → blocks → norm] → hidden states → lm_head → logits → cross-entropy → loss

A model defines `backbone_forward` and `backbone_backward`; the head, the loss and their derivatives are written here.
"""

import math
from typing import Any

import numpy as np

from npllm.attention.kv_cache import ModelKVCache
from npllm.core.cache import Cache
from npllm.core.checks import check_context_length
from npllm.core.module import Module
from npllm.layers.cross_entropy import cross_entropy, cross_entropy_backward, cross_entropy_forward
from npllm.layers.linear import Linear
from npllm.layers.linear_cross_entropy import add_linear_cross_entropy_gradients, linear_cross_entropy

MIN_FUSED_SIZE = 2**20  # logits of a batch; where there are more, the head and the loss are computed in blocks


class LanguageModel(Module):
    """logits = lm_head(backbone(ids))      (..., T) → (..., T, V)

    The logits at position t are scores for the token at position t + 1.
    """

    config: Any
    context_length: int
    lm_head: Linear

    def backbone_forward(self, ids: np.ndarray, *, keep: bool = True, **options: Any) -> tuple[np.ndarray, Cache]:
        """The hidden states that the head reads, (..., T, C), and the cache of every layer by name.

        With keep=False the cache of a block is released as soon as the next one runs: inference needs no backward.
        """
        raise NotImplementedError(f"{type(self).__name__} must define backbone_forward")

    def backbone_backward(self, dx: np.ndarray, cache: Cache) -> None:
        """Add to the gradients of all parameters but the head's. Ids have no gradient, so nothing is returned."""
        raise NotImplementedError(f"{type(self).__name__} must define backbone_backward")

    def new_kv_cache(self, batch_size: int = 1, left_padding: np.ndarray | None = None) -> ModelKVCache:
        """An empty cache of the keys and values of every layer; see attention/kv_cache.py."""
        raise NotImplementedError(f"{type(self).__name__} must define new_kv_cache")

    def hidden_states(self, ids: np.ndarray, **options: Any) -> np.ndarray:
        """What the head reads, (..., T, C). Generation applies the head to the last position only."""
        return self.backbone_forward(ids, keep=False, **options)[0]

    def __call__(self, ids: np.ndarray, **options: Any) -> np.ndarray:
        """The logits, without the cache; options as for `forward`."""
        return self.head_forward(self.hidden_states(ids, **options))[0]

    def head_forward(self, x: np.ndarray) -> tuple[np.ndarray, Cache]:
        """logits = lm_head(x)      (..., C) → (..., V); the cache holds that of lm_head."""
        logits, lm_head = self.lm_head.forward(x)
        return logits, Cache(lm_head=lm_head)

    def head_backward(self, dlogits: np.ndarray, cache: Cache) -> np.ndarray:
        """dx; the gradient of the head's weight is added to that of the parameter."""
        return self.lm_head.backward(dlogits, cache.lm_head)

    def forward(self, ids: np.ndarray, **options: Any) -> tuple[np.ndarray, Cache]:
        """The logits, and the cache of every layer by name.

        rng        a generator: dropout is active
        recompute  keep only the input of each block, and repeat its forward in the backward, see recompute.py
        kv_cache   what new_kv_cache returned: ids follow the positions that are in it, and are appended
        """
        x, cache = self.backbone_forward(ids, **options)
        logits, head = self.head_forward(x)
        return logits, Cache(**vars(cache), **vars(head))

    def backward(self, dlogits: np.ndarray, cache: Cache) -> None:
        """Add to the gradient of every parameter."""
        self.backbone_backward(self.head_backward(dlogits, cache), cache)

    def loss(self, ids: np.ndarray, targets: np.ndarray, **options: Any) -> np.ndarray:
        """loss = mean over all positions of −ln softmax(logits)[target]      (..., T), (..., T) → ()

        Positions with the target −100 do not count. With many logits, the head and the cross-entropy are computed in
        blocks of positions, see layers/linear_cross_entropy.py.
        """
        x = self.hidden_states(ids, **options)
        if not self._is_fused(x):
            return cross_entropy(self.head_forward(x)[0], targets)
        return linear_cross_entropy(x, self.lm_head.weight.data, targets, **self._head_options())

    def loss_forward(self, ids: np.ndarray, targets: np.ndarray, **options: Any) -> tuple[np.ndarray, Cache]:
        """The loss, and the caches of the model and of the cross-entropy."""
        logits, model = self.forward(ids, **options)
        loss, cross_entropy = cross_entropy_forward(logits, targets)
        return loss, Cache(model=model, cross_entropy=cross_entropy)

    def loss_backward(self, dloss: float, cache: Cache) -> None:
        """Add dloss times the gradient of the loss to the gradient of every parameter."""
        self.backward(cross_entropy_backward(dloss, cache.cross_entropy), cache.model)

    def add_loss_gradients(self, ids: np.ndarray, targets: np.ndarray, dloss: float = 1.0, **options: Any) -> Any:
        """The loss; dloss times its gradient is added to the gradient of every parameter. Training uses it.

        The same as loss_forward and loss_backward. With many logits, the head and the cross-entropy are computed in
        blocks of positions, see layers/linear_cross_entropy.py.
        """
        x, cache = self.backbone_forward(ids, **options)
        if self._is_fused(x):
            head = self.lm_head.weight
            loss, dx = add_linear_cross_entropy_gradients(head, x, targets, dloss, **self._head_options())
        else:
            logits, head_cache = self.head_forward(x)
            loss, cross_entropy_cache = cross_entropy_forward(logits, targets)
            dx = self.head_backward(cross_entropy_backward(dloss, cross_entropy_cache), head_cache)
        return loss + self._finish_backward(dx, cache, dloss, loss.dtype)

    def _finish_backward(self, dx: np.ndarray, cache: Cache, dloss: float, dtype: Any) -> Any:
        """The backward of the backbone; returns a term of the loss besides the cross-entropy."""
        self.backbone_backward(dx, cache)
        return dtype.type(0)

    def _is_fused(self, x: np.ndarray) -> bool:
        """Whether the logits of these hidden states are too many to be in memory at once."""
        return math.prod(x.shape[:-1]) * self.lm_head.weight.shape[0] >= MIN_FUSED_SIZE

    def _head_options(self) -> dict[str, Any]:
        """What `head_forward` does to the logits besides the linear map, as options of `linear_cross_entropy`."""
        return {}

    def _positions(self, length: int, kv_cache: ModelKVCache | None) -> np.ndarray:
        """The position of every id: 0 … T − 1, or after those in the cache; raises beyond the context_length."""
        if kv_cache is not None:
            return kv_cache.positions(length)
        check_context_length(length, self.context_length)
        return np.arange(length)


def layer_cache(kv_cache: ModelKVCache | None, index: int) -> Any:
    """The cache of layer `index`; None without a cache."""
    return None if kv_cache is None else kv_cache.layers[index]
