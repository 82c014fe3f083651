"""The smallest model that learns to predict the next token, and the loop that teaches it.

    ids → embedding → logits → loss → gradients → step

It sees nothing but the present token, so all that it can learn is which tokens follow which. The GPT adds attention,
and with it all that came before.
"""

from npllm.core.cache import Cache
from npllm.core.module import Module, as_generator
from npllm.layers.cross_entropy import cross_entropy_backward, cross_entropy_forward
from npllm.layers.embedding import Embedding
from npllm.layers.linear import Linear
from npllm.training.step import training_step


class BigramLanguageModel(Module):
    """logits = head(wte[ids])      (B, T) → (B, T, V)

    It guesses from the present token alone what comes next.
    """

    def __init__(self, vocab_size, d_model, *, rng=None, dtype="float32"):
        rng = as_generator(rng)
        self.wte = Embedding(vocab_size, d_model, rng=rng, dtype=dtype)
        self.head = Linear(d_model, vocab_size, rng=rng, dtype=dtype)

    def forward(self, ids):
        """The logits, and the caches of both layers."""
        x, wte = self.wte.forward(ids)
        logits, head = self.head.forward(x)
        return logits, Cache(wte=wte, head=head)

    def backward(self, dy, cache):
        """The forward, read from its last line to its first."""
        self.wte.backward(self.head.backward(dy, cache.head), cache.wte)

    def loss_forward(self, ids, targets):
        """The mean cross-entropy of the next tokens, and the caches of the logits and of the loss."""
        logits, model_cache = self.forward(ids)
        loss, loss_cache = cross_entropy_forward(logits, targets)
        return loss, Cache(model=model_cache, loss=loss_cache)

    def loss_backward(self, dloss, cache):
        """Add ∂loss/∂parameters, times dloss, to every gradient."""
        self.backward(cross_entropy_backward(dloss, cache.loss), cache.model)


def train(model, optimizer, loader, num_steps):
    """Yield the loss of each of `num_steps` steps, epoch after epoch of the loader."""
    step = 0
    if len(loader) == 0:
        raise ValueError("loader gives no batch; it must give at least one")
    while step < num_steps:
        for inputs, targets in loader:
            if step == num_steps:
                return
            yield training_step(model, optimizer, inputs, targets).loss
            step += 1
