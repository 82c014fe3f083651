import numpy as np
import pytest

from npllm.before_transformers import CBOW, SkipGram
from npllm.experiments.word_vectors import WordCorpus, learn_words
from tests.golden.corpora import text_of

GROUPS, MEMBERS = 6, 5


def planted(rng, num_sentences=6000):
    """Sentences "aq av ap": all words of a group share what stands around them, and never stand beside each other.

    The first letter is the group's; v, w, x, y and z are its words, p, q and r their company.
    """
    groups = rng.integers(0, GROUPS, num_sentences)
    words = rng.integers(0, MEMBERS, num_sentences)
    before, after = rng.integers(0, 3, (2, num_sentences))
    return " ".join(
        f"{group}{'pqr'[i]} {group}{'vwxyz'[j]} {group}{'pqr'[k]}"
        for group, i, j, k in zip(np.array(list("abcdef"))[groups], before, words, after)
    )


@pytest.mark.parametrize("kind", [SkipGram, CBOW])
def test_words_in_the_same_company_come_to_lie_together(kind):
    rng = np.random.default_rng(0)
    stream = WordCorpus.from_text(planted(rng))
    assert len(stream.words) == GROUPS * (MEMBERS + 3)
    model = kind(len(stream.words), 12, rng=rng)
    losses = list(learn_words(model, stream, 300, rng, window=1, threshold=1.0, batch_size=256))
    assert np.mean(losses[-20:]) < 0.8 * losses[0]
    for word in stream.words:
        if word[1] in "pqr":
            continue
        ids, cosines = model.nearest(stream.words.index(word), MEMBERS - 1)
        assert {stream.words[i] for i in ids} == {f"{word[0]}{member}" for member in "vwxyz"} - {word}
        assert cosines[-1] > 0.6


@pytest.mark.parametrize("kind", [SkipGram, CBOW])
def test_neighbours_in_shakespeare(kind):
    stream, rng = WordCorpus.from_text(text_of("tinyshakespeare")), np.random.default_rng(0)
    assert len(stream.words) > 3000
    model = kind(len(stream.words), 32, rng=rng)
    for _ in learn_words(model, stream, 1000, rng):
        pass

    def near(word, count):
        return {stream.words[i] for i in model.nearest(stream.words.index(word), count)[0]}

    assert len(near("romeo", 10) & {"juliet", "tybalt", "mercutio", "benvolio", "nurse", "paris", "friar"}) >= 3
    assert near("king", 20) & {"henry", "richard", "edward", "prince", "queen", "crown", "vi", "iv"}

    def cosine(one, other):
        a, b = (model.words.weight.data[stream.words.index(word)] for word in (one, other))
        return a @ b / np.sqrt((a @ a) * (b @ b))

    for word, like, unlike in (
        ("day", "night", "sword"), ("romeo", "juliet", "warwick"), ("king", "henry", "juliet"),
        ("wife", "husband", "sword"), ("eyes", "tears", "king"),
    ):  # fmt: skip
        assert cosine(word, like) > cosine(word, unlike), (word, like, unlike)


def test_the_words_of_a_text():
    stream = WordCorpus.from_text("The cat, the Dog's cat -- don't! 42 the end_of it.", at_least=1)
    assert stream.words == ("the", "cat", "dog's", "don't", "end", "it", "of")
    np.testing.assert_array_equal(stream.counts, [3, 2, 1, 1, 1, 1, 1])
    assert " ".join(stream.words[i] for i in stream.ids) == "the cat the dog's cat don't the end of it"
    stream = WordCorpus.from_text("a b a b c", at_least=2)
    assert [stream.words[i] for i in stream.ids] == ["a", "b", "a", "b"]


def test_a_text_without_words():
    with pytest.raises(ValueError, match="the text has 1 words that come 5 times; it must have at least 2"):
        WordCorpus.from_text("one " * 10)


def test_the_same_seed_gives_the_same_vectors():
    runs = []
    for _ in range(2):
        rng = np.random.default_rng(3)
        stream = WordCorpus.from_text(planted(rng, 300))
        model = SkipGram(len(stream.words), 4, rng=rng)
        runs.append((list(learn_words(model, stream, 20, rng, batch_size=64)), model.words.weight.data))
    assert runs[0][0] == runs[1][0]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
