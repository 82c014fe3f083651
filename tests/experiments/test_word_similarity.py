from dataclasses import replace

import numpy as np
import pytest

from npllm.experiments.word_contexts import NUM_CONTEXTS, PlantedCorpus, cosines, nearest
from npllm.experiments.word_similarity import (
    SHIPPED,
    SHUFFLED,
    WRITTEN,
    Scale,
    judge,
    positive_pmi,
    rank_correlation,
    trained_cosines,
)
from npllm.experiments.word_vectors import WordCorpus
from tests.experiments.made_up import made_up


@pytest.mark.parametrize("overlap", [0.0, 0.5, 1.0])
def test_the_sentences_have_the_planted_contexts(overlap):
    planted = PlantedCorpus.generate(3, 20_000, overlap, np.random.default_rng(0))
    np.testing.assert_allclose(planted.contexts.sum(axis=1), 1.0)
    sentences = planted.corpus.ids.reshape(-1, 5)
    assert (sentences[:, 2] < 6).all() and (np.delete(sentences, 2, axis=1) >= 6).all()
    for word, distribution in enumerate(planted.contexts):
        found = np.delete(sentences[sentences[:, 2] == word], 2, axis=1) - 6
        frequencies = np.bincount(found.reshape(-1), minlength=NUM_CONTEXTS) / found.size
        np.testing.assert_allclose(frequencies, distribution, atol=0.015)
    twins = cosines(planted.contexts)[[0, 2, 4], [1, 3, 5]]
    assert (twins > 0.6).all() if overlap == 0.5 else overlap == 0.0 or np.allclose(twins, 1.0)


def test_an_oracle_that_counts_contexts_finds_the_twins():
    planted = PlantedCorpus.generate(8, 8000, 1.0, np.random.default_rng(1))
    found = nearest(cosines(positive_pmi(planted.corpus, 2)[:16]))
    np.testing.assert_array_equal(found, np.arange(16) ^ 1)


def test_word2vec_finds_the_twins_but_not_in_a_shuffled_text():
    scale = Scale(1, 2000, 300, num_pairs=5, d_model=16)
    rng = np.random.default_rng(0)
    corpus = PlantedCorpus.generate(scale.num_pairs, scale.num_sentences, 1.0, rng).corpus
    for ids, low, high in ((corpus.ids, 1.0, 1.0), (rng.permutation(corpus.ids), 0.0, 0.5)):
        found = nearest(trained_cosines(scale, replace(corpus, ids=ids), rng)[:10, :10])
        assert low <= (found == np.arange(10) ^ 1).mean() <= high


def test_positive_pmi_of_a_small_text():
    corpus = WordCorpus.from_text("a b a b c c", min_count=1)
    found = positive_pmi(corpus, 1)
    counts = np.array([[0, 3, 0], [3, 0, 1], [0, 1, 2]])
    with np.errstate(divide="ignore"):
        expected = np.log(counts * 10 / np.outer(counts.sum(axis=1), counts.sum(axis=0)))
    np.testing.assert_allclose(found, np.maximum(expected, 0.0))


def test_rank_correlation():
    x = np.array([1.0, 5.0, 2.0, 9.0])
    assert rank_correlation(x, np.exp(x)) == pytest.approx(1.0)
    assert rank_correlation(x, -(x**3)) == pytest.approx(-1.0)
    assert rank_correlation(np.array([1.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0])) == pytest.approx(3**0.5 / 2)


@pytest.mark.parametrize(
    ("twins", "real", "outcome"),
    [(0.95, 0.5, "supported"), (0.95, 0.01, "depends"), (0.3, 0.5, "depends"), (0.3, 0.01, "not supported")],
)
def test_the_judge(twins, real, outcome):
    results = made_up(
        ("text", "order"), ("correlation", "nearest"),
        ("twins 100% alike", WRITTEN, 0.7, twins), ("twins 0% alike", WRITTEN, 0.0, 0.05),
        (SHIPPED, WRITTEN, real, 0.1), (SHIPPED, SHUFFLED, 0.005, 0.1),
    )  # fmt: skip
    assert judge(results).outcome == outcome
