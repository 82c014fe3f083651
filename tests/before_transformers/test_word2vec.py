import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.before_transformers import CBOW, SkipGram
from npllm.core.gradient_check import check_gradients
from tests.equivalence import check_layer, implementation
from tests.strategies import dtypes, integers, leading, sizes

KINDS = [pytest.param(name, marks=pytest.mark.covers(name)) for name in ("SkipGram", "CBOW")]


def build(name, vocab_size=7, d_model=4, dtype="float64"):
    """A small model with vectors larger than at initialization, and a batch: inputs, targets, negative samples."""
    rng = np.random.default_rng(0)
    model = implementation(name)(vocab_size, d_model, rng=rng, dtype=dtype)
    for _, parameter in model.named_parameters():
        parameter.data += rng.standard_normal(parameter.shape).astype(dtype)
    inputs = rng.integers(0, vocab_size, (5, 3) if name == "CBOW" else 5)
    return model, inputs, rng.integers(0, vocab_size, 5), rng.integers(0, vocab_size, (5, 4))


@pytest.mark.parametrize("name", KINDS)
@given(st.data(), dtypes, leading, sizes, sizes, sizes)
def test_equals_pytorch(name, data, dtype, batch, N, V, C):
    ids = data.draw(integers((*batch, N), V))
    check_layer(name, {"vocab_size": V, "d_model": C}, ids, dtype=dtype)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("with_negatives", [False, True])
def test_finite_differences_of_both_losses(name, with_negatives):
    model, inputs, targets, sampled = build(name)
    negatives = sampled if with_negatives else None
    loss, cache = model.loss_forward(inputs, targets, negatives)
    assert loss == model.loss(inputs, targets, negatives)
    model.loss_backward(1.7, cache)
    parameters = [parameter for _, parameter in model.named_parameters()]
    check_gradients(
        lambda *_: 1.7 * model.loss(inputs, targets, negatives),
        [parameter.data for parameter in parameters],
        [parameter.grad for parameter in parameters],
        np.random.default_rng(1),
    )


@pytest.mark.parametrize("name", KINDS)
def test_both_losses_keep_the_dtype_and_add_to_the_gradients(name):
    model, inputs, targets, sampled = build(name, dtype="float32")
    for negatives in (None, sampled):
        model.zero_grad()
        loss, cache = model.loss_forward(inputs, targets, negatives)
        assert loss.dtype == np.float32
        model.loss_backward(1.0, cache)
        once = [parameter.grad.copy() for _, parameter in model.named_parameters()]
        model.loss_backward(1.0, cache)
        for (_, parameter), gradient in zip(model.named_parameters(), once):
            assert parameter.grad.dtype == np.float32
            np.testing.assert_allclose(parameter.grad, 2 * gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.covers("CBOW")
def test_cbow_does_not_depend_on_the_order_of_the_context_words():
    model, inputs, *_ = build("CBOW")
    np.testing.assert_allclose(model(inputs[:, ::-1]), model(inputs), rtol=1e-12)


@pytest.mark.covers("CBOW", "SkipGram")
def test_cbow_with_one_context_word_equals_skip_gram():
    cbow, skip_gram = build("CBOW")[0], build("SkipGram")[0]
    skip_gram.load_state_dict(cbow.state_dict())
    np.testing.assert_array_equal(cbow(np.arange(7)[:, None]), skip_gram(np.arange(7)))


def test_initial_logits_are_zero_and_word_vectors_are_in_the_bounds():
    model = SkipGram(50, 16, rng=np.random.default_rng(0))
    assert not model(np.arange(50)).any()
    vectors = model.word_vectors.weight.data
    assert vectors.dtype == np.float32
    assert 0.9 * 0.5 / 16 < vectors.max() <= 0.5 / 16
    assert -0.5 / 16 <= vectors.min() < -0.9 * 0.5 / 16


def test_most_similar_equals_plain_loops():
    model, *_ = build("SkipGram")
    vectors = model.word_vectors.weight.data
    for word in range(7):
        cosines = {
            other: sum(vectors[word] * vectors[other])
            / np.sqrt(sum(vectors[word] ** 2) * sum(vectors[other] ** 2))
            for other in range(7) if other != word
        }  # fmt: skip
        ids, found = model.most_similar(word, 4)
        assert list(ids) == sorted(cosines, key=cosines.get, reverse=True)[:4]
        np.testing.assert_allclose(found, [cosines[i] for i in ids], rtol=1e-10)
    model.word_vectors.weight.data[2] = 0
    assert not model.most_similar(2)[1].any(), "the cosine with a vector of zeros is 0"


def test_most_similar_does_not_depend_on_the_lengths_of_the_vectors():
    model, *_ = build("CBOW")
    ids, cosines = model.most_similar(3)
    model.word_vectors.weight.data *= np.arange(1.0, 8.0)[:, None]
    again, same = model.most_similar(3)
    np.testing.assert_array_equal(ids, again)
    np.testing.assert_allclose(cosines, same, rtol=1e-10)


def test_invalid_arguments():
    with pytest.raises(ValueError, match="d_model is 0; it must be at least 1"):
        SkipGram(5, 0)
    model = CBOW(5, 3)
    with pytest.raises(ValueError, match=r"ids has shape \(2, 0\); it must be \(..., N\) with at least one"):
        model(np.zeros((2, 0), int))
    with pytest.raises(IndexError, match=r"ids\[0\] is 5; it must be in \[0, 5\)"):
        model(np.array([5]))
    with pytest.raises(IndexError, match="word_id is 5; it must be in"):
        model.most_similar(5)
    with pytest.raises(ValueError, match="count is 0"):
        model.most_similar(1, 0)
