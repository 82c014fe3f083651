"""Experiment 3, first part: whether words in similar contexts get similar vectors."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from npllm.before_transformers import SkipGram, skip_gram_pairs
from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.experiments.word_contexts import PlantedCorpus, cosines, nearest
from npllm.experiments.word_vectors import WordCorpus, train_word2vec
from npllm.utils import corpora

SHIPPED, WRITTEN, SHUFFLED = "shipped text", "as written", "shuffled"
OVERLAPS = (0.0, 0.5, 1.0)
WINDOW = 2


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    num_sentences: int  # of the generated corpora
    num_steps: int
    num_pairs: int = 12
    num_words: int = 100  # of the shipped text: the most frequent ones
    d_model: int = 24


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each text and order: how well the cosines of the vectors agree with the similarity of the contexts."""
    texts = {}
    for overlap in OVERLAPS:
        planted = PlantedCorpus.generate(
            scale.num_pairs, scale.num_sentences, overlap, np.random.default_rng((seed, round(100 * overlap)))
        )
        twins = np.arange(len(planted.contexts)) ^ 1
        texts[planted_name(overlap)] = planted.corpus, cosines(planted.contexts), twins
    corpus = WordCorpus.from_text(corpora.read("story"))
    similarity = cosines(positive_pmi(corpus, WINDOW)[: scale.num_words])
    texts[SHIPPED] = corpus, similarity, nearest(similarity)
    result = []
    for text, (corpus, similarity, expected) in texts.items():
        for order in (WRITTEN, SHUFFLED):
            rng = np.random.default_rng((seed, len(result)))
            ordered = corpus if order == WRITTEN else replace(corpus, ids=rng.permutation(corpus.ids))
            found = trained_cosines(scale, ordered, rng)[: len(similarity), : len(similarity)]
            pairs = np.triu_indices(len(similarity), 1)
            result.append(
                {
                    "text": text,
                    "order": order,
                    "correlation": rank_correlation(found[pairs], similarity[pairs]),
                    "nearest": float((nearest(found) == expected).mean()),
                }
            )
    return result


def trained_cosines(scale: Scale, corpus: WordCorpus, rng: np.random.Generator) -> np.ndarray:
    """The cosines of the vectors of all words after training      (V, V)"""
    model = SkipGram(len(corpus.words), scale.d_model, rng=rng)
    for _ in train_word2vec(model, corpus, scale.num_steps, rng=rng, window_size=WINDOW, threshold=1.0, batch_size=512):
        pass
    return cosines(model.word_vectors.weight.data)


def planted_name(overlap: float) -> str:
    """The name of a generated corpus."""
    return f"twins {100 * overlap:.0f}% alike"


def positive_pmi(corpus: WordCorpus, window_size: int) -> np.ndarray:
    """max(0, ln p(w, c) / (p(w) p(c))) of each word w and context word c      (V, V)"""
    counts = np.zeros((len(corpus.words), len(corpus.words)))
    for pair, count in Counter(zip(*(x.tolist() for x in skip_gram_pairs(corpus.ids, window_size)))).items():
        counts[pair] = count
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    return np.log(np.maximum(counts / np.maximum(expected, 1e-12), 1.0))


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's correlation: that of the ranks, equal numbers with their mean rank."""
    ranks = []
    for values in (x, y):
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts + 1) / 2)[inverse])
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    alike, apart = ({"text": planted_name(overlap), "order": WRITTEN} for overlap in (1.0, 0.0))
    found, by_chance = results.interval("nearest", **alike), results.interval("nearest", **apart)
    planted = results.difference("nearest", alike, apart)
    written, shuffled = ({"text": SHIPPED, "order": order} for order in (WRITTEN, SHUFFLED))
    real = results.difference("correlation", written, shuffled)
    because = (
        f"The nearest word is the planted twin for {found} of the words if the twins have the same contexts, and for "
        f"{by_chance} if they have nothing in common. On the shipped text the rank correlation between the cosines of "
        f"the vectors and of the contexts is {results.interval('correlation', **written)}, and "
        f"{results.interval('correlation', **shuffled)} after training on the shuffled text."
    )
    holds = found.is_above(0.8) and planted.is_above(0.5), real.is_above(0.1)
    return Verdict("supported" if all(holds) else "depends" if any(holds) else "not supported", because)


EXPERIMENT = Experiment(
    name="word-similarity",
    claim="Words in similar contexts get similar vectors.",
    question="Does the cosine of two word2vec vectors follow the similarity of the words' contexts?",
    setting=(
        "Skip-gram with negative sampling, window of 2. Generated corpora with pairs of words (twins) that share none, "
        "half or all of their distribution of context words, which is known; and the shipped text, where the contexts "
        "of the 100 most frequent words are compared by their positive pointwise mutual information. Control: the same "
        "training on the same words in random order."
    ),
    measure=(
        "Spearman's correlation over all pairs of words between the cosine of their vectors and that of their contexts "
        "in the text as written; the share of words whose nearest vector is that of the twin (of the word with the "
        "most similar contexts)."
    ),
    rule=(
        "Supported if the nearest vector is the twin's for more than 80% of the words with equal contexts and for over "
        "50 percentage points more of them than with unrelated contexts, and on the shipped text the correlation is "
        "over 0.1 larger than after training on the shuffled text. Depends if one of the two holds. All bounds are "
        "those of 95% intervals."
    ),
    keys=("text", "order"),
    scales={
        "miniature": Scale(2, 300, 4, 4, 30, 8),
        "default": Scale(5, 6000, 500),
        "full": Scale(8, 20000, 2000),
    },
    rows=rows,
    judge=judge,
    plots=(Plot("text", "correlation", "order"), Plot("text", "nearest", "order")),
)
