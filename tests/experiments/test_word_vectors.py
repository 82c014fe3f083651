import numpy as np
import pytest

from npllm.before_transformers import CBOW, SkipGram
from npllm.experiments.word_vectors import WordCorpus, train_word2vec
from tests.golden.corpora import text_of

GROUPS, MEMBERS = 6, 5


def generate_text(rng, num_sentences=6000):
    """Sentences such as "aq av ap": the words of a group have the same contexts and are never beside each other.

    The first letter is the group; v, w, x, y and z are its words, p, q and r their context words.
    """
    groups = rng.integers(0, GROUPS, num_sentences)
    words = rng.integers(0, MEMBERS, num_sentences)
    before, after = rng.integers(0, 3, (2, num_sentences))
    return " ".join(
        f"{group}{'pqr'[i]} {group}{'vwxyz'[j]} {group}{'pqr'[k]}"
        for group, i, j, k in zip(np.array(list("abcdef"))[groups], before, words, after)
    )


@pytest.mark.parametrize("kind", [SkipGram, CBOW])
def test_words_with_the_same_contexts_get_similar_vectors(kind):
    rng = np.random.default_rng(0)
    corpus = WordCorpus.from_text(generate_text(rng))
    assert len(corpus.words) == GROUPS * (MEMBERS + 3)
    model = kind(len(corpus.words), 12, rng=rng)
    losses = list(train_word2vec(model, corpus, 300, rng=rng, window_size=1, threshold=1.0, batch_size=256))
    assert np.mean(losses[-20:]) < 0.8 * losses[0]
    for word in corpus.words:
        if word[1] in "pqr":
            continue
        ids, cosines = model.most_similar(corpus.words.index(word), MEMBERS - 1)
        assert {corpus.words[i] for i in ids} == {f"{word[0]}{member}" for member in "vwxyz"} - {word}
        assert cosines[-1] > 0.6


@pytest.mark.parametrize(("kind", "num_steps", "batch_size"), [(SkipGram, 500, 1024), (CBOW, 400, 512)])
def test_similar_words_in_shakespeare(kind, num_steps, batch_size):
    corpus, rng = WordCorpus.from_text(text_of("tinyshakespeare"), min_count=20), np.random.default_rng(0)
    assert len(corpus.words) > 1000
    model = kind(len(corpus.words), 16, rng=rng)
    for _ in train_word2vec(model, corpus, num_steps, rng=rng, batch_size=batch_size, learning_rate=0.02):
        pass
    near = {corpus.words[i] for i in model.most_similar(corpus.words.index("romeo"), 10)[0]}
    assert len(near & {"juliet", "tybalt", "mercutio", "benvolio", "nurse", "paris", "friar"}) >= 3

    def cosine(one, other):
        a, b = (model.word_vectors.weight.data[corpus.words.index(word)] for word in (one, other))
        return a @ b / np.sqrt((a @ a) * (b @ b))

    for word, similar, other in (
        ("romeo", "juliet", "warwick"), ("king", "henry", "juliet"), ("wife", "husband", "sword"),
        ("eyes", "tears", "king"),
    ):  # fmt: skip
        assert cosine(word, similar) > cosine(word, other) + 0.1, (word, similar, other)


def test_the_words_of_a_text_are_sorted_by_frequency():
    corpus = WordCorpus.from_text("The cat, the Dog's cat -- don't! 42 the end_of it.", min_count=1)
    assert corpus.words == ("the", "cat", "dog's", "don't", "end", "it", "of")
    np.testing.assert_array_equal(corpus.counts, [3, 2, 1, 1, 1, 1, 1])
    assert " ".join(corpus.words[i] for i in corpus.ids) == "the cat the dog's cat don't the end of it"
    corpus = WordCorpus.from_text("a b a b c", min_count=2)
    assert [corpus.words[i] for i in corpus.ids] == ["a", "b", "a", "b"]


def test_a_text_with_too_few_words_is_refused():
    with pytest.raises(ValueError, match="the text has 1 words that occur at least 5 times; it must have at least 2"):
        WordCorpus.from_text("one " * 10)


def test_the_same_seed_gives_the_same_vectors():
    runs = []
    for _ in range(2):
        rng = np.random.default_rng(3)
        corpus = WordCorpus.from_text(generate_text(rng, 300))
        model = SkipGram(len(corpus.words), 4, rng=rng)
        runs.append((list(train_word2vec(model, corpus, 20, rng=rng, batch_size=64)), model.word_vectors.weight.data))
    assert runs[0][0] == runs[1][0]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
