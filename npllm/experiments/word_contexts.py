"""A generated corpus with planted twins: pairs of words whose contexts are alike to a known degree.

    sentence = context context word context context

Each word has a distribution of context words, uniform over a random set. With `overlap` o the second word of a pair
draws a context word from the set of the first word with probability o, and from its own set otherwise.
"""

from dataclasses import dataclass

import numpy as np

from npllm.experiments.word_vectors import WordCorpus

NUM_CONTEXTS, SET_SIZE, SIDE = 60, 6, 2  # context words, those of one word, those on each side of it


@dataclass(frozen=True)
class PlantedCorpus:
    """The corpus, and the distribution of the context words of each planted word      (W, 60)

    The words have the ids 0 … W − 1; 2i and 2i + 1 are twins. The context words follow.
    """

    corpus: WordCorpus
    contexts: np.ndarray

    @classmethod
    def generate(cls, num_pairs: int, num_sentences: int, overlap: float, rng: np.random.Generator) -> "PlantedCorpus":
        """Draw the sets of context words and the sentences; every sentence has a random word."""
        num_words = 2 * num_pairs
        contexts = np.zeros((num_words, NUM_CONTEXTS))
        for row in contexts:
            row[rng.choice(NUM_CONTEXTS, SET_SIZE, replace=False)] = 1.0 / SET_SIZE
        contexts[1::2] = overlap * contexts[::2] + (1.0 - overlap) * contexts[1::2]
        words = rng.integers(num_words, size=num_sentences)
        uniform = rng.random((num_sentences, 2 * SIDE))
        drawn = (uniform[..., None] > np.cumsum(contexts, axis=1)[words][:, None]).sum(axis=-1)
        drawn = np.minimum(drawn, NUM_CONTEXTS - 1) + num_words  # a sum of floats may end below 1
        ids = np.insert(drawn, SIDE, words, axis=1).reshape(-1)
        names = tuple(f"w{i}" for i in range(num_words)) + tuple(f"c{i}" for i in range(NUM_CONTEXTS))
        return cls(WordCorpus(ids, names, np.bincount(ids, minlength=len(names))), contexts)


def cosines(vectors: np.ndarray) -> np.ndarray:
    """The cosine of every pair of rows      (W, C) → (W, W)"""
    vectors = vectors.astype(np.float64)
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    unit = vectors / np.maximum(lengths, 1e-12)
    return unit @ unit.T


def nearest(similarity: np.ndarray) -> np.ndarray:
    """For each word the other word of the largest similarity      (W, W) → (W)"""
    return (similarity - np.diag(np.full(len(similarity), np.inf))).argmax(axis=1)
