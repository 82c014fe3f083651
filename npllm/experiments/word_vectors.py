"""Train word2vec on a text: its words as ids, and the training loop.

text → words → pairs → [training steps] → word vectors
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from npllm.before_transformers.skipgram import NegativeSampler, cbow_windows, skip_gram_pairs, subsample
from npllm.before_transformers.word2vec import CBOW, Word2Vec
from npllm.training.optimizers import AdamW
from npllm.training.step import training_step


@dataclass(frozen=True)
class WordCorpus:
    """A text as word ids, and its vocabulary: the words by id, most frequent first, and their counts."""

    ids: np.ndarray
    words: tuple[str, ...]
    counts: np.ndarray

    @classmethod
    def from_text(cls, text: str, min_count: int = 5) -> "WordCorpus":
        """The words of a text in lower case, without those that occur fewer than `min_count` times."""
        found = re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)*", text.lower())
        counts = Counter(found)
        words = tuple(sorted((word for word in counts if counts[word] >= min_count), key=lambda w: (-counts[w], w)))
        if len(words) < 2:
            raise ValueError(
                f"the text has {len(words)} words that occur at least {min_count} times; it must have at least 2"
            )
        ids = {word: index for index, word in enumerate(words)}
        word_ids = np.array([ids[word] for word in found if word in ids])
        return cls(word_ids, words, np.array([counts[word] for word in words]))


def train_word2vec(
    model: Word2Vec,
    corpus: WordCorpus,
    num_steps: int,
    *,
    rng: np.random.Generator,
    window_size: int = 4,
    num_negatives: int = 5,
    threshold: float = 1e-3,
    batch_size: int = 1024,
    learning_rate: float = 0.01,
) -> Iterator[float]:
    """Yield the loss of each of `num_steps` steps of negative sampling; the learning rate decreases linearly to 0.

    Frequent words are subsampled with `threshold`, again in every epoch.
    """
    sampler = NegativeSampler(corpus.counts)
    optimizer = AdamW(model.named_parameters(), learning_rate=learning_rate, weight_decay=0.0)
    batches = _batches(model, corpus, window_size, threshold, batch_size, rng)
    for step, (inputs, targets) in zip(range(num_steps), batches):
        optimizer.learning_rate = learning_rate * (1.0 - step / num_steps)
        negatives = sampler.sample((len(targets), num_negatives), rng=rng)
        yield training_step(model, optimizer, inputs, targets, negatives).loss


def _batches(
    model: Word2Vec,
    corpus: WordCorpus,
    window_size: int,
    threshold: float,
    batch_size: int,
    rng: np.random.Generator,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Infinite batches of inputs and targets, shuffled in every epoch."""
    make_pairs = cbow_windows if isinstance(model, CBOW) else skip_gram_pairs
    while True:
        inputs, targets = make_pairs(subsample(corpus.ids, threshold, rng=rng), window_size)
        order = rng.permutation(len(targets))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            yield inputs[chosen], targets[chosen]
