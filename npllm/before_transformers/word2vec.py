"""word2vec: a vector for every word, such that words in the same company lie close together.

    the words around → mean of their vectors → [which word is in the middle?]      CBOW
    the word in the middle → its vector → [which words are around?]                skip-gram

The smallest models of language there are: a table of vectors, and nothing between it and the head. What is wanted is
not the prediction but the table. Before these vectors, a word was a number; the first layer of every language model
since, the embedding, is this table.

Every word has two vectors, one as what is given (`words`) and one as what is asked for (`contexts`).

Mikolov, Chen, Corrado, Dean 2013, Efficient Estimation of Word Representations in Vector Space, section 3; Mikolov,
Sutskever, Chen, Corrado, Dean 2013, section 2.
"""

import numpy as np

from npllm.before_transformers.negative_sampling import negative_sampling_backward, negative_sampling_forward
from npllm.core.cache import Cache
from npllm.core.checks import as_indices, check_positive
from npllm.core.module import Blank, Module, as_generator
from npllm.layers.cross_entropy import cross_entropy_backward, cross_entropy_forward
from npllm.layers.embedding import Embedding
from npllm.layers.linear import Linear


class Word2Vec(Module):
    """What both models share: the two tables, and two ways to ask. They differ in what they make of the given words.

    The vectors in `words` start uniform in ±1/(2 C), those in `contexts` at 0, as in the authors' program.
    """

    def __init__(self, vocab_size, d_model, *, rng=None, dtype="float32"):
        check_positive(vocab_size=vocab_size, d_model=d_model)
        self.words = Embedding(vocab_size, d_model, rng=Blank(), dtype=dtype)
        self.contexts = Linear(d_model, vocab_size, bias=False, rng=Blank(), dtype=dtype)
        self.words.weight.data[...] = as_generator(rng).uniform(-0.5 / d_model, 0.5 / d_model, (vocab_size, d_model))

    def forward(self, ids):
        """The logits of every word of the vocabulary, and the caches of both tables."""
        x, words = self.features_forward(ids)
        logits, contexts = self.contexts.forward(x)
        return logits, Cache(words=words, contexts=contexts)

    def backward(self, dlogits, cache):
        """The forward, read from its last line to its first. Ids have no gradient, so nothing is returned."""
        self.features_backward(self.contexts.backward(dlogits, cache.contexts), cache.words)

    def loss(self, ids, targets, negatives=None):
        """The loss alone, see `loss_forward`."""
        return self.loss_forward(ids, targets, negatives)[0]

    def loss_forward(self, ids, targets, negatives=None):
        """How surprising the targets (...) are among all words, or, with `negatives` (..., K), against these alone.

        The cache has the name of the question that was asked: cross_entropy, or negative_sampling.
        """
        if negatives is None:
            logits, model = self.forward(ids)
            loss, cross_entropy = cross_entropy_forward(logits, targets)
            return loss, Cache(model=model, cross_entropy=cross_entropy)
        x, words = self.features_forward(ids)
        loss, sampling = negative_sampling_forward(x, self.contexts.weight.data, targets, negatives)
        return loss, Cache(words=words, negative_sampling=sampling)

    def loss_backward(self, dloss, cache):
        """Add dloss times the gradient of the loss to both tables' `grad`."""
        if hasattr(cache, "cross_entropy"):
            self.backward(cross_entropy_backward(dloss, cache.cross_entropy), cache.model)
            return
        dx, dcontexts = negative_sampling_backward(dloss, cache.negative_sampling)
        self.contexts.weight.add_grad(dcontexts)
        self.features_backward(dx, cache.words)

    def nearest(self, word, count=10):
        """The `count` words whose vectors point most nearly the way that this one's does, and the cosines.

        cos(a, b) = a · b / (|a| |b|)      the word itself is left out
        """
        as_indices("word", word, 0, len(self.words.weight.data))
        check_positive(count=count)
        vectors = self.words.weight.data
        lengths = np.sqrt((vectors * vectors).sum(axis=-1))
        cosines = vectors @ vectors[word] / np.maximum(lengths * lengths[word], np.finfo(vectors.dtype).tiny)
        order = np.argsort(-cosines, kind="stable")
        order = order[order != word][:count]
        return order, cosines[order]


class SkipGram(Word2Vec):
    """logits = contexts words[id]      (...) → (..., V)

    One word is given; the logits speak of each word around it.
    """

    def features_forward(self, ids):
        """The vector of the word."""
        return self.words.forward(ids)

    def features_backward(self, dx, cache):
        """To the word's row."""
        self.words.backward(dx, cache)


class CBOW(Word2Vec):
    """logits = contexts · meanᵢ words[idᵢ]      (..., N) → (..., V)

    The N words around are given, as a bag whose order is forgotten; the logits speak of the word in the middle.
    """

    def features_forward(self, ids):
        """The mean of the words' vectors, and the cache of the table."""
        if np.ndim(ids) == 0 or np.shape(ids)[-1] == 0:
            raise ValueError(f"ids has shape {np.shape(ids)}; its last axis must hold the words around, at least one")
        vectors, words = self.words.forward(ids)
        return vectors.mean(axis=-2), Cache(words=words)

    def features_backward(self, dx, cache):
        """dvectorᵢ = dx / N: each word had an equal part in the mean, and a word that is there twice has two."""
        shape = (*cache.words.ids.shape, dx.shape[-1])
        self.words.backward(np.broadcast_to(dx[..., None, :] / shape[-2], shape), cache.words)
