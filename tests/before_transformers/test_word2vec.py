import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.before_transformers import CBOW, SkipGram
from npllm.core.gradient_check import check_gradients
from tests.equivalence import check_layer, implementation
from tests.strategies import dtypes, integers, leading, sizes

KINDS = [pytest.param(name, marks=pytest.mark.covers(name)) for name in ("SkipGram", "CBOW")]


def built(name, vocab_size=7, d_model=4, dtype="float64"):
    """A small model whose vectors are large enough to matter, and a batch for it: given, asked, drawn."""
    rng = np.random.default_rng(0)
    model = implementation(name)(vocab_size, d_model, rng=rng, dtype=dtype)
    for _, parameter in model.named_parameters():
        parameter.data += rng.standard_normal(parameter.shape).astype(dtype)
    given_ids = rng.integers(0, vocab_size, (5, 3) if name == "CBOW" else 5)
    return model, given_ids, rng.integers(0, vocab_size, 5), rng.integers(0, vocab_size, (5, 4))


@pytest.mark.parametrize("name", KINDS)
@given(st.data(), dtypes, leading, sizes, sizes, sizes)
def test_equals_pytorch(name, data, dtype, batch, N, V, C):
    ids = data.draw(integers((*batch, N), V))
    check_layer(name, {"vocab_size": V, "d_model": C}, ids, dtype=dtype)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("sampled", [False, True])
def test_finite_differences_of_both_losses(name, sampled):
    model, given_ids, asked, drawn = built(name)
    negatives = drawn if sampled else None
    loss, cache = model.loss_forward(given_ids, asked, negatives)
    assert loss == model.loss(given_ids, asked, negatives)
    model.loss_backward(1.7, cache)
    parameters = [parameter for _, parameter in model.named_parameters()]
    check_gradients(
        lambda *_: 1.7 * model.loss(given_ids, asked, negatives),
        [parameter.data for parameter in parameters],
        [parameter.grad for parameter in parameters],
        np.random.default_rng(1),
    )


@pytest.mark.parametrize("name", KINDS)
def test_both_losses_keep_the_dtype_and_add_up(name):
    model, given_ids, asked, drawn = built(name, dtype="float32")
    for negatives in (None, drawn):
        model.zero_grad()
        loss, cache = model.loss_forward(given_ids, asked, negatives)
        assert loss.dtype == np.float32
        model.loss_backward(1.0, cache)
        once = [parameter.grad.copy() for _, parameter in model.named_parameters()]
        model.loss_backward(1.0, cache)
        for (_, parameter), gradient in zip(model.named_parameters(), once):
            assert parameter.grad.dtype == np.float32
            np.testing.assert_allclose(parameter.grad, 2 * gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.covers("CBOW")
def test_a_bag_of_words_has_no_order():
    model, given_ids, *_ = built("CBOW")
    np.testing.assert_allclose(model(given_ids[:, ::-1]), model(given_ids), rtol=1e-12)


@pytest.mark.covers("CBOW", "SkipGram")
def test_a_bag_of_one_word_is_skip_gram():
    cbow, skip_gram = built("CBOW")[0], built("SkipGram")[0]
    skip_gram.load_state_dict(cbow.state_dict())
    np.testing.assert_array_equal(cbow(np.arange(7)[:, None]), skip_gram(np.arange(7)))


def test_a_new_model_believes_nothing():
    model = SkipGram(50, 16, rng=np.random.default_rng(0))
    assert not model(np.arange(50)).any()
    vectors = model.words.weight.data
    assert vectors.dtype == np.float32
    assert 0.9 * 0.5 / 16 < np.abs(vectors).max() <= 0.5 / 16


def test_nearest_by_plain_loops():
    model, *_ = built("SkipGram")
    vectors = model.words.weight.data
    for word in range(7):
        cosines = {
            other: sum(vectors[word] * vectors[other])
            / np.sqrt(sum(vectors[word] ** 2) * sum(vectors[other] ** 2))
            for other in range(7) if other != word
        }  # fmt: skip
        ids, found = model.nearest(word, 4)
        assert list(ids) == sorted(cosines, key=cosines.get, reverse=True)[:4]
        np.testing.assert_allclose(found, [cosines[i] for i in ids], rtol=1e-10)
    model.words.weight.data[2] = 0
    assert not model.nearest(2)[1].any(), "a vector of zeros points nowhere"


def test_nearness_knows_directions_and_no_lengths():
    model, *_ = built("CBOW")
    ids, cosines = model.nearest(3)
    model.words.weight.data *= np.arange(1.0, 8.0)[:, None]
    again, same = model.nearest(3)
    np.testing.assert_array_equal(ids, again)
    np.testing.assert_allclose(cosines, same, rtol=1e-10)


def test_bad_arguments():
    with pytest.raises(ValueError, match="d_model is 0; it must be at least 1"):
        SkipGram(5, 0)
    model = CBOW(5, 3)
    with pytest.raises(ValueError, match="its last axis must hold the words around, at least one"):
        model(np.zeros((2, 0), int))
    with pytest.raises(IndexError, match=r"ids\[0\] is 5; it must be in \[0, 5\)"):
        model(np.array([5]))
    with pytest.raises(IndexError, match="word is 5; it must be in"):
        model.nearest(5)
    with pytest.raises(ValueError, match="count is 0"):
        model.nearest(1, 0)
