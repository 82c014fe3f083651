import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.before_transformers import NegativeSampler, cbow_windows, skip_gram_pairs, subsample

word_ids = st.lists(st.integers(0, 9), max_size=20).map(lambda ids: np.array(ids, int))


@given(word_ids, st.integers(1, 4))
def test_pairs_equal_plain_loops(ids, window_size):
    expected = [
        (ids[i], ids[j]) for i in range(len(ids)) for j in range(len(ids)) if i != j and abs(i - j) <= window_size
    ]  # fmt: skip
    centers, contexts = skip_gram_pairs(ids, window_size)
    assert sorted(zip(centers, contexts)) == sorted(expected)


@given(word_ids, st.integers(1, 4))
def test_windows_equal_plain_loops(ids, window_size):
    if len(ids) <= 2 * window_size:
        with pytest.raises(ValueError, match="it must have more than"):
            cbow_windows(ids, window_size)
        return
    contexts, centers = cbow_windows(ids, window_size)
    positions = range(window_size, len(ids) - window_size)
    expected = [[*ids[i - window_size : i], *ids[i + 1 : i + window_size + 1]] for i in positions]
    np.testing.assert_array_equal(centers, [ids[i] for i in positions])
    np.testing.assert_array_equal(contexts, expected)


def test_subsampling_keeps_words_with_the_probability_of_the_paper():
    rng = np.random.default_rng(0)
    ids = rng.permutation(np.repeat([0, 1, 2], [90_000, 9_900, 100]))
    kept = np.bincount(subsample(ids, 0.01, rng=rng), minlength=3)
    assert kept[2] == 100, "a word of frequency 0.001 is always kept"
    for word, count in ((0, 90_000), (1, 9_900)):
        expected = count * np.sqrt(0.01 / (count / 100_000))
        assert kept[word] == pytest.approx(expected, rel=0.05)
    order = [word for word in ids if word == 2 or word == 1]
    assert len(subsample(np.array(order), 10.0, rng=rng)) == len(order)


class TestNegativeSampler:
    COUNTS = np.array([1000, 100, 10, 0, 1])

    def test_the_probabilities_are_those_of_the_paper(self):
        expected = [1000**0.75, 100**0.75, 10**0.75, 0, 1]
        np.testing.assert_allclose(NegativeSampler(self.COUNTS).probabilities, np.array(expected) / sum(expected))

    @pytest.mark.parametrize("power", [0.0, 0.75, 1.0])
    def test_sampled_frequencies_equal_the_probabilities(self, power):
        sampler = NegativeSampler(self.COUNTS, power)
        drawn = sampler.sample((400, 500), rng=np.random.default_rng(0))
        assert drawn.shape == (400, 500)
        found = np.bincount(drawn.reshape(-1), minlength=5) / drawn.size
        error = np.sqrt(sampler.probabilities * (1 - sampler.probabilities) / drawn.size)
        assert (np.abs(found - sampler.probabilities) <= 4 * error).all()
        assert found[3] == 0, "a word with count 0 is never drawn"

    def test_the_power_lies_between_uniform_and_the_words_frequencies(self):
        probabilities = {power: NegativeSampler([8, 1], power).probabilities[1] for power in (0.0, 0.75, 1.0)}
        assert probabilities[0.0] == 0.5
        assert probabilities[1.0] == pytest.approx(1 / 9)
        assert 1 / 9 < probabilities[0.75] < 0.5

    def test_the_same_generator_gives_the_same_words(self):
        sampler = NegativeSampler(self.COUNTS)
        one, other = (sampler.sample((3, 4), rng=np.random.default_rng(5)) for _ in range(2))
        np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize("counts", [[], [0, 0], [1, -1], [[1, 2]], [np.nan, 1]])
    def test_invalid_counts(self, counts):
        with pytest.raises(ValueError, match="counts must be a count of at least 0 for each word"):
            NegativeSampler(counts)


def test_invalid_arguments():
    with pytest.raises(ValueError, match="window_size is 0; it must be at least 1"):
        skip_gram_pairs([1, 2], 0)
    with pytest.raises(TypeError, match=r"ids has shape \(1, 2\) and dtype int64; it must be one-dimensional"):
        skip_gram_pairs([[1, 2]], 1)
    with pytest.raises(TypeError, match="float64; it must be one-dimensional"):
        cbow_windows([1.0, 2.0, 3.0], 1)
    with pytest.raises(ValueError, match="threshold is 0; it must be greater than 0"):
        subsample([1], 0, rng=np.random.default_rng(0))
