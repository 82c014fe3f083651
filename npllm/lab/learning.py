"""The smallest models that learn to predict the next token, and the loop that teaches them.

    ids → embedding (+ position) → (attention) → logits → loss → gradients → step

Two of them, to be watched: one of embeddings alone, which sees nothing but the present token, and one with a layer of
causal attention, which can look back. The whole GPT stacks what is here.
"""

import numpy as np

from npllm import functional as F
from npllm.attention.multi_head import MultiHeadAttention
from npllm.functional.cache import Cache
from npllm.layers.embedding import Embedding, TokenPositionEmbedding
from npllm.layers.linear import Linear
from npllm.layers.module import Module, generator
from npllm.layers.normalization import LayerNorm


class EmbeddingModel(Module):
    """logits = head(wte[ids])      (B, T) → (B, T, V)

    It guesses from the present token alone what comes next.
    """

    def __init__(self, vocab_size, d_model, *, rng=None, dtype="float32"):
        rng = generator(rng)
        self.wte = Embedding(vocab_size, d_model, rng=rng, dtype=dtype)
        self.head = Linear(d_model, vocab_size, rng=rng, dtype=dtype)
        self.context_length = None

    def forward(self, ids):
        """The logits, and the caches of both layers."""
        x, wte = self.wte.forward(ids)
        logits, head = self.head.forward(x)
        return logits, Cache(wte=wte, head=head)

    def backward(self, dy, cache):
        """The forward, read from its last line to its first."""
        self.wte.backward(self.head.backward(dy, cache.head), cache.wte)


class AttentionModel(Module):
    """logits = head(norm(x + attn(norm(x)))),  x = token + position      (B, T) → (B, T, V)

    One layer of causal attention lets every position use what came before it.
    """

    def __init__(self, vocab_size, context_length, d_model, num_heads, *, rng=None, dtype="float32"):
        rng = generator(rng)
        self.context_length = context_length
        self.embed = TokenPositionEmbedding(vocab_size, context_length, d_model, rng=rng, dtype=dtype)
        for table in (self.embed.wte, self.embed.wpe):
            table.weight.data *= 0.1  # small at first, so that a few steps can turn the vectors
        self.ln_1 = LayerNorm(d_model, dtype=dtype)
        self.attn = MultiHeadAttention(d_model, d_model, context_length, 0.0, num_heads, rng=rng, dtype=dtype)
        self.ln_f = LayerNorm(d_model, dtype=dtype)
        self.head = Linear(d_model, vocab_size, bias=False, rng=rng, dtype=dtype)

    def __call__(self, ids):
        """The logits alone."""
        x = self.embed(ids)
        return self.head(self.ln_f(x + self.attn(self.ln_1(x))))

    def forward(self, ids):
        """The logits, and the cache of every layer by name."""
        x, embed = self.embed.forward(ids)
        normed, ln_1 = self.ln_1.forward(x)
        gathered, attn = self.attn.forward(normed)
        normed, ln_f = self.ln_f.forward(x + gathered)
        logits, head = self.head.forward(normed)
        return logits, Cache(embed=embed, ln_1=ln_1, attn=attn, ln_f=ln_f, head=head)

    def backward(self, dy, cache):
        """The forward, read from its last line to its first."""
        dx = self.ln_f.backward(self.head.backward(dy, cache.head), cache.ln_f)
        dx = dx + self.ln_1.backward(self.attn.backward(dx, cache.attn), cache.ln_1)
        self.embed.backward(dx, cache.embed)


def training_step(model, optimizer, inputs, targets):
    """One step: logits, loss, gradients, weights a little better. Returns the loss before the step."""
    model.zero_grad()
    logits, cache = model.forward(inputs)
    loss, loss_cache = F.cross_entropy_forward(logits, targets)
    model.backward(F.cross_entropy_backward(1.0, loss_cache), cache)
    optimizer.step()
    return float(loss)


def train(model, optimizer, loader, num_steps):
    """Yield the loss of each of `num_steps` steps, epoch after epoch of the loader."""
    step = 0
    if len(loader) == 0:
        raise ValueError("loader gives no batch; it must give at least one")
    while step < num_steps:
        for inputs, targets in loader:
            if step == num_steps:
                return
            yield training_step(model, optimizer, inputs, targets)
            step += 1


def generate(model, ids, num_tokens, rng, temperature=1.0):
    """Append `num_tokens` sampled ids one at a time, each drawn from softmax(last logits / temperature).

    `ids` is a list; the model sees as much of its end as its context holds. Yields every new id as it is drawn.
    """
    ids = list(ids)
    for _ in range(num_tokens):
        context = ids if model.context_length is None else ids[-model.context_length :]
        last = model(np.array([context]))[0, -1].astype(np.float64)
        ids.append(int(rng.choice(len(last), p=F.softmax(last / temperature))))
        yield ids[-1]
