"""word2vec: word vectors from a language model with one hidden layer.

    context words → mean of their vectors → logits of the center word           CBOW
    center word → its vector → logits of each context word                      skip-gram

The model is a table of vectors and a linear map to logits, with nothing between them. After training only the table is
kept: words in similar contexts have similar vectors. The embedding of every later language model is such a table.

Every word has two vectors: its word vector, as an input, and its context vector, as an output.

Mikolov, Chen, Corrado, Dean 2013, Efficient Estimation of Word Representations in Vector Space, section 3; Mikolov,
Sutskever, Chen, Corrado, Dean 2013, Distributed Representations of Words and Phrases, section 2.
"""

from typing import Any

import numpy as np

from npllm.before_transformers.negative_sampling import negative_sampling_backward, negative_sampling_forward
from npllm.core.cache import Cache
from npllm.core.checks import as_indices, check_positive, check_shape
from npllm.core.module import Module, as_generator
from npllm.layers.cross_entropy import cross_entropy_backward, cross_entropy_forward
from npllm.layers.embedding import Embedding
from npllm.layers.linear import Linear


class Word2Vec(Module):
    """The base class of SkipGram and CBOW: the two tables and the two losses. A subclass defines the hidden layer.

    `word_vectors` (V, C) are initialized uniformly in ±1/(2 C), `context_vectors` (V, C) with 0, as in the authors'
    program.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        *,
        rng: np.random.Generator | None = None,
        dtype: Any = "float32",
        init: bool = True,
    ) -> None:
        check_positive(vocab_size=vocab_size, d_model=d_model)
        self.word_vectors = Embedding(vocab_size, d_model, dtype=dtype, init=False)
        self.context_vectors = Linear(d_model, vocab_size, bias=False, dtype=dtype, init=False)
        if init:
            self.init_weights(as_generator(rng))

    def init_weights(self, rng: np.random.Generator) -> None:
        """Draw the word vectors uniformly in ±1/(2 C); set the context vectors to 0."""
        words = self.word_vectors.weight.data
        bound = 0.5 / words.shape[-1]
        words[...] = rng.uniform(-bound, bound, words.shape)
        self.context_vectors.weight.data[...] = 0.0

    def hidden_forward(self, ids: np.ndarray) -> tuple[np.ndarray, Cache]:
        """The hidden layer (..., C) for the input ids."""
        raise NotImplementedError

    def hidden_backward(self, dhidden: np.ndarray, cache: Cache) -> None:
        """Add to the gradient of the word vectors."""
        raise NotImplementedError

    def forward(self, ids: np.ndarray) -> tuple[np.ndarray, Cache]:
        """The logits of all words; the cache holds those of the hidden layer and of the linear map."""
        x, hidden = self.hidden_forward(ids)
        logits, context_vectors = self.context_vectors.forward(x)
        return logits, Cache(hidden=hidden, context_vectors=context_vectors)

    def backward(self, dlogits: np.ndarray, cache: Cache) -> None:
        """Add to the gradients of both tables; ids have no gradient."""
        self.hidden_backward(self.context_vectors.backward(dlogits, cache.context_vectors), cache.hidden)

    def loss(self, ids: np.ndarray, targets: np.ndarray, negatives: np.ndarray | None = None) -> np.ndarray:
        """The loss, without its cache; see `loss_forward`."""
        return self.loss_forward(ids, targets, negatives)[0]

    def loss_forward(
        self, ids: np.ndarray, targets: np.ndarray, negatives: np.ndarray | None = None
    ) -> tuple[np.ndarray, Cache]:
        """The cross-entropy of the targets (...), or with `negatives` (..., K) the loss of negative sampling.

        The cache holds those of the model and of the cross-entropy, or those of hidden layer and negative sampling.
        """
        if negatives is None:
            logits, model = self.forward(ids)
            loss, cross_entropy = cross_entropy_forward(logits, targets)
            return loss, Cache(model=model, cross_entropy=cross_entropy, negative_sampling=None)
        x, hidden = self.hidden_forward(ids)
        loss, sampling = negative_sampling_forward(x, self.context_vectors.weight.data, targets, negatives)
        return loss, Cache(hidden=hidden, negative_sampling=sampling)

    def loss_backward(self, dloss: Any, cache: Cache) -> None:
        """Add dloss times the gradient of the loss to the gradients of both tables."""
        if cache.negative_sampling is None:
            self.backward(cross_entropy_backward(dloss, cache.cross_entropy), cache.model)
            return
        dhidden, dcontext_vectors = negative_sampling_backward(dloss, cache.negative_sampling)
        self.context_vectors.add_grads(weight=dcontext_vectors)
        self.hidden_backward(dhidden, cache.hidden)

    def most_similar(self, word_id: int, count: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The ids of the `count` words with the largest cosine similarity to a word, and the similarities.

        cos(a, b) = a · b / (|a| |b|). The word itself is not among them.
        """
        vectors = self.word_vectors.weight.data
        check_shape("word_id", as_indices("word_id", word_id, 0, len(vectors)), "()")
        check_positive(count=count)
        lengths = np.sqrt((vectors * vectors).sum(axis=-1))
        cosines = vectors @ vectors[word_id] / np.maximum(lengths * lengths[word_id], np.finfo(vectors.dtype).tiny)
        order = np.argsort(-cosines, kind="stable")
        order = order[order != word_id][:count]
        return order, cosines[order]


class SkipGram(Word2Vec):
    """logits = context_vectors · word_vectors[id]      (...) → (..., V)

    The input is the center word; the logits predict each of its context words.
    """

    def hidden_forward(self, ids: np.ndarray) -> tuple[np.ndarray, Cache]:
        """The word's vector."""
        return self.word_vectors.forward(ids)

    def hidden_backward(self, dhidden: np.ndarray, cache: Cache) -> None:
        """dhidden is added to the word's row."""
        self.word_vectors.backward(dhidden, cache)


class CBOW(Word2Vec):
    """logits = context_vectors · meanᵢ word_vectors[idᵢ]      (..., N) → (..., V)

    The inputs are the N context words, a bag of words without order; the logits predict the center word.
    """

    def hidden_forward(self, ids: np.ndarray) -> tuple[np.ndarray, Cache]:
        """The mean of the words' vectors."""
        if np.ndim(ids) == 0 or np.shape(ids)[-1] == 0:
            raise ValueError(f"ids has shape {np.shape(ids)}; it must be (..., N) with at least one context word")
        vectors, word_vectors = self.word_vectors.forward(ids)
        return vectors.mean(axis=-2), Cache(word_vectors=word_vectors)

    def hidden_backward(self, dhidden: np.ndarray, cache: Cache) -> None:
        """dvectorᵢ = dhidden / N for every context word; a word that occurs twice gets it twice."""
        shape = (*cache.word_vectors.ids.shape, dhidden.shape[-1])
        dvectors = np.broadcast_to(dhidden[..., None, :] / shape[-2], shape)
        self.word_vectors.backward(dvectors, cache.word_vectors)
