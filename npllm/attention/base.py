"""What every attention layer shares: the checks of its input, and the weights on request."""

import numpy as np

from npllm import functional as F
from npllm.functional.cache import Cache
from npllm.layers.module import Module


class Attention(Module):
    """An attention layer; its cache holds the core's under the name `attention`."""

    def attention_weights(self, x):
        """The weights A behind `self(x)`: row t says how much position t takes from each position s."""
        return self.forward(x)[1].attention.weights


def sequence(x):
    """Return x as an array; raise ValueError unless it is a sequence (T, C) or a batch of them (..., T, C)."""
    x = np.asarray(x)
    if x.ndim < 2:
        raise ValueError(
            f"x has shape {x.shape}; it must be a sequence of vectors (T, C), or a batch of them (B, T, C)"
        )
    return x


class AlignmentAttention(Attention):
    """Attention of one sequence to another; the kinds differ in how they score a query and a key.

    Each kind says what becomes of the keys alone (`prepare`) and how a query is compared with them (`score`). A decoder
    that asks again at every step prepares the keys once, and then only looks.
    """

    def __call__(self, q, k, v, mask=None):
        """The value alone."""
        return self.forward(q, k, v, mask)[0]

    def attention_weights(self, q, k, v, mask=None):
        """The weights A behind the value, (..., T, S): what query t takes from each position s."""
        return self.forward(q, k, v, mask)[1].attention.weights

    def forward(self, q, k, v, mask=None):
        """The value, and the caches of preparing, scoring and averaging. `mask` (..., S) is False for filling."""
        keys, prepare = self.prepare_forward(sequence(k))
        y, look = self.look_forward(q, keys, v, mask)
        return y, Cache(prepare=prepare, score=look.score, attention=look.attention)

    def backward(self, dy, cache):
        """dq, dk, dv."""
        dq, dkeys, dv = self.look_backward(dy, cache)
        return dq, self.prepare_backward(dkeys, cache.prepare), dv

    def look_forward(self, q, keys, v, mask=None):
        """The value for prepared keys, and the caches of scoring and averaging."""
        scores, score = self.score_forward(sequence(q), keys)
        y, attention = F.weighted_average_forward(scores, v, mask)
        return y, Cache(score=score, attention=attention)

    def look_backward(self, dy, cache):
        """dq, the gradient of the prepared keys, dv."""
        dscores, dv = F.weighted_average_backward(dy, cache.attention)
        return *self.score_backward(dscores, cache.score), dv


def documents_for_heads(documents, x):
    """Documents (..., T) of x (..., T, C), with an axis for the heads: (..., 1, T). None stays None.

    Raises ValueError unless they have one number for every position of x.
    """
    if documents is None:
        return None
    documents, shape = np.asarray(documents), np.shape(x)[:-1]
    if documents.shape not in (shape, shape[-1:]):
        raise ValueError(f"documents has shape {documents.shape}; it must have one number for every position, {shape}")
    return documents[..., None, :]


def whole_text(documents):
    """Raise ValueError for documents beside a past: a text that is read in pieces is a single document."""
    if documents is not None:
        raise ValueError("documents and past are both set; a past is of one text, so documents must be None with it")
