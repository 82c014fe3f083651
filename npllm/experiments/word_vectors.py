"""Word vectors from a text: its words numbered by frequency, and the loop that moves the vectors.

text → words → pairs → [vectors move] → neighbours
"""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from npllm.before_transformers.skipgram import NegativeSampler, cbow_windows, skip_gram_pairs, subsample
from npllm.before_transformers.word2vec import CBOW
from npllm.training.optimizers import AdamW
from npllm.training.step import training_step


@dataclass(frozen=True)
class WordCorpus:
    """A text as ids of its words, and the words by id, the most frequent first."""

    ids: np.ndarray
    words: tuple
    counts: np.ndarray

    @classmethod
    def from_text(cls, text, at_least=5):
        """The words of a text in small letters; those that come fewer than `at_least` times are left out."""
        found = re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)*", text.lower())
        counts = Counter(found)
        words = tuple(sorted((word for word in counts if counts[word] >= at_least), key=lambda w: (-counts[w], w)))
        if len(words) < 2:
            raise ValueError(f"the text has {len(words)} words that come {at_least} times; it must have at least 2")
        ids = {word: index for index, word in enumerate(words)}
        stream = np.array([ids[word] for word in found if word in ids])
        return cls(stream, words, np.array([counts[word] for word in words]))


def learn_words(
    model, stream, num_steps, rng, window=4, num_negatives=5, threshold=1e-3, batch_size=1024, learning_rate=0.01
):
    """Yield the loss of each of `num_steps` steps of negative sampling; the learning rate falls to 0.

    Which words are left out for being frequent is drawn anew in each pass through the text.
    """
    sampler = NegativeSampler(stream.counts)
    optimizer = AdamW(model.named_parameters(), learning_rate=learning_rate, weight_decay=0.0)
    batches = _batches(model, stream, window, threshold, batch_size, rng)
    for step, (given, asked) in zip(range(num_steps), batches):
        optimizer.learning_rate = learning_rate * (1.0 - step / num_steps)
        negatives = sampler.draw((len(asked), num_negatives), rng)
        yield training_step(model, optimizer, given, asked, negatives).loss


def _batches(model, stream, window, threshold, batch_size, rng):
    """Endless batches of what is given and what is asked, in a new order in every pass."""
    make = cbow_windows if isinstance(model, CBOW) else skip_gram_pairs
    while True:
        given, asked = make(subsample(stream.ids, threshold, rng), window)
        order = rng.permutation(len(asked))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            yield given[chosen], asked[chosen]
