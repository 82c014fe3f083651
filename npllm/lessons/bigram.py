"""A bigram language model, the smallest model of the next token, and the loop that trains it.

    ids → embedding → logits → loss → gradients → step

It predicts the next token from the current one alone, so it can learn only the frequencies of pairs of tokens. A GPT
adds attention, and with it all earlier tokens.
"""

from collections.abc import Iterator

import numpy as np

from npllm.batching.loader import DataLoader
from npllm.core.cache import Cache
from npllm.core.module import Module, as_generator
from npllm.layers.cross_entropy import cross_entropy_backward, cross_entropy_forward
from npllm.layers.embedding import Embedding
from npllm.layers.linear import Linear
from npllm.training.optimizers import SGD, AdamW
from npllm.training.step import training_step


class BigramLanguageModel(Module):
    """logits = head(wte[ids])      (B, T) → (B, T, V)

    The probability of the next token given the current token alone.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        *,
        rng: np.random.Generator | None = None,
        dtype: str = "float32",
        init: bool = True,
    ):
        self.wte = Embedding(vocab_size, d_model, dtype=dtype, init=False)
        self.head = Linear(d_model, vocab_size, dtype=dtype, init=False)
        if init:
            self.init_weights(as_generator(rng))

    def forward(self, ids: np.ndarray) -> tuple[np.ndarray, Cache]:
        """(logits, cache); the cache holds the caches of both layers."""
        x, wte = self.wte.forward(ids)
        logits, head = self.head.forward(x)
        return logits, Cache(wte=wte, head=head)

    def backward(self, dy: np.ndarray, cache: Cache) -> None:
        """Add the gradients of `wte` and `head` for dy, the gradient of the logits."""
        self.wte.backward(self.head.backward(dy, cache.head), cache.wte)

    def loss_forward(self, ids: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, Cache]:
        """(mean cross-entropy, cache); the cache holds the caches of the model and of the cross-entropy."""
        logits, model_cache = self.forward(ids)
        loss, loss_cache = cross_entropy_forward(logits, targets)
        return loss, Cache(model=model_cache, loss=loss_cache)

    def loss_backward(self, dloss: float, cache: Cache) -> None:
        """Add ∂loss/∂parameters, times dloss, to every gradient."""
        self.backward(cross_entropy_backward(dloss, cache.loss), cache.model)


def train(model: Module, optimizer: AdamW | SGD, loader: DataLoader, num_steps: int) -> Iterator[float]:
    """Train for `num_steps` steps and yield the loss of each; after the last batch the loader starts a new epoch."""
    if len(loader) == 0:
        raise ValueError("loader has no batch; it must have at least one")
    step = 0
    while step < num_steps:
        for inputs, targets in loader:
            if step == num_steps:
                return
            yield training_step(model, optimizer, inputs, targets).loss
            step += 1
