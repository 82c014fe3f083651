"""The chunked forms of linear attention and of the delta rule in their layers, and linear attention's functions."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.attention import DeltaNet, LinearAttention
from npllm.attention.paths import attention_path
from npllm.attention.variants.chunks import ChunkedCache
from npllm.attention.variants.linear_attention import LEAST_CHUNKED
from npllm.core.gradient_check import check_gradients
from tests.attention import properties
from tests.attention.variants.test_linear_attention import SUM, inputs
from tests.equivalence import check_function

chunks = st.sampled_from([1, 2, 3, 4, 64])


@pytest.mark.covers("linear_attention_chunked")
@given(inputs(), chunks)
def test_equals_pytorch(drawn, chunk):
    check_function("linear_attention_chunked", *drawn, chunk, loosen=SUM)


@given(inputs(np.dtype(np.float64)), chunks, st.integers(0, 999))
def test_equals_the_recurrent_algorithm(drawn, chunk, seed):
    (y, last), recurrent = F.linear_attention_recurrent_forward(*drawn)
    (y_again, last_again), chunked = F.linear_attention_chunked_forward(*drawn, chunk)
    np.testing.assert_allclose(y_again, y, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(last_again, last, rtol=1e-10, atol=1e-11)
    rng = np.random.default_rng(seed)
    dy = (rng.standard_normal(y.shape), rng.standard_normal(last.shape) if seed % 2 else None)
    gradients = F.linear_attention_recurrent_backward(dy, recurrent)
    others = F.linear_attention_chunked_backward(dy, chunked)
    for gradient, other in zip(gradients, others, strict=True):
        np.testing.assert_allclose(other, gradient, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("documents", [False, True])
def test_equals_the_parallel_algorithm_for_a_long_sequence(dtype, documents):
    rng = np.random.default_rng(0)
    q, k = np.abs(rng.standard_normal((2, 2, 3, 200, 8))).astype(dtype)
    v, dy = rng.standard_normal((2, 2, 3, 200, 5)).astype(dtype)
    ids = np.repeat([0, 1, 2, 3, 4], [10, 70, 1, 100, 19]) if documents else None
    y, parallel = F.linear_attention_forward(q, k, v, ids)
    (y_again, _), chunked = F.linear_attention_chunked_forward(q, k, v, document_ids=ids)
    rtol, atol = (1e-3, 1e-4) if dtype == "float32" else (1e-10, 1e-11)
    np.testing.assert_allclose(y_again, y, rtol=rtol, atol=atol)
    np.testing.assert_allclose(chunked.weights, parallel.weights, rtol=rtol, atol=atol)
    ours, others = F.linear_attention_chunked_backward((dy, None), chunked), F.linear_attention_backward(dy, parallel)
    for one, other in zip(ours, others, strict=True):
        assert one.dtype == dtype
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


@given(inputs(np.dtype(np.float64)), chunks, st.data())
def test_two_parts_are_one_sequence(drawn, chunk, data):
    q, k, v, state, _ = drawn
    split = data.draw(st.integers(0, q.shape[-2]))
    whole, last = F.linear_attention_chunked(q, k, v, state, chunk=chunk)
    first, state = F.linear_attention_chunked(*(x[..., :split, :] for x in (q, k, v)), state, chunk=chunk)
    second, state = F.linear_attention_chunked(*(x[..., split:, :] for x in (q, k, v)), state, chunk=chunk)
    np.testing.assert_allclose(np.concatenate([first, second], axis=-2), whole, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(state, last, rtol=1e-9, atol=1e-12)


def test_finite_differences_through_the_state():
    rng = np.random.default_rng(0)
    q, k = np.abs(rng.standard_normal((2, 2, 5, 3)))
    v, state = rng.standard_normal((2, 5, 4)), np.abs(rng.standard_normal((2, 3, 5)))
    for document_ids in (None, np.array([0, 0, 0, 1, 1])):
        (y, last), cache = F.linear_attention_chunked_forward(q, k, v, state, document_ids, 2)
        dy, dlast = rng.standard_normal(y.shape), rng.standard_normal(last.shape)

        def objective(q, k, v, state, document_ids=document_ids, dy=dy, dlast=dlast):
            y, last = F.linear_attention_chunked(q, k, v, state, document_ids, 2)
            return (y * dy).sum() + (last * dlast).sum()

        check_gradients(objective, [q, k, v, state], F.linear_attention_chunked_backward((dy, dlast), cache), rng)


def peak_of(function):
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("rule", ["linear", "delta"])
def test_memory_grows_with_the_length_and_not_with_its_square(rule):
    def step(T):
        rng = np.random.default_rng(0)
        q, k, v = np.abs(rng.standard_normal((3, 2, T, 8)))
        if rule == "linear":
            y, cache = F.linear_attention_chunked_forward(q, k, v)
            F.linear_attention_chunked_backward((y[0], None), cache)
        else:
            y, cache = F.delta_rule_chunked_forward(q, F.l2_normalize(k), v, rng.random((2, T)))
            F.delta_rule_chunked_backward((y[0], None), cache)

    step(100)
    assert peak_of(lambda: step(2000)) < 2.5 * peak_of(lambda: step(1000))


LAYERS = {
    "parallel": lambda **options: LinearAttention(8, 300, 2, **options),
    "recurrent": lambda **options: LinearAttention(8, 300, 2, "recurrent", **options),
    "delta": lambda **options: DeltaNet(8, 300, 2, chunk=16, **options),
}


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_the_same_on_both_paths(name, documents):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 2, 150, 8))
    options = {"document_ids": properties.documents_of(rng, 2, 150)} if documents else {}
    layer = properties.randomize(LAYERS[name](rng=rng, dtype="float64"), rng)
    found = []
    for path in ("plain", "tiled", None):
        layer.zero_grad()
        with attention_path(path):
            y, cache = layer.forward(x, **options)
        core = cache.rule if name == "delta" else cache.attention
        assert isinstance(core, ChunkedCache) == (path != "plain")
        found.append([y, layer.backward(dy, cache), *(p.grad.copy() for _, p in layer.named_parameters())])
    for plain, *others in zip(*found, strict=True):
        for other in others:
            np.testing.assert_allclose(other, plain, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("path", ["plain", "tiled", None])
@pytest.mark.parametrize("name", LAYERS)
def test_causality_kv_cache_padding_and_documents_on_both_paths(name, path):
    rng = np.random.default_rng(0)
    layer = properties.randomize(LAYERS[name](rng=rng, dtype="float64"), rng)
    x = rng.standard_normal((3, 40, 8))
    with attention_path(path):
        properties.check_later_tokens_change_nothing(layer, x, 20)
        properties.check_chunks(layer, x, rng)
        properties.check_padding(layer, x, rng)
        properties.check_packed(layer, x, properties.documents_of(rng, 3, 40), rng)


def test_short_sequences_take_the_algorithm_of_the_mode():
    for mode, least in LEAST_CHUNKED.items():
        layer = LinearAttention(8, 300, 2, mode, rng=np.random.default_rng(0))
        for length in (least - 1, least):
            _, cache = layer.forward(np.ones((1, length, 8), np.float32))
            assert isinstance(cache.attention, ChunkedCache) == (length == least)


def test_invalid_arguments():
    q, k, v = np.ones((4, 3)), np.ones((4, 3)), np.ones((4, 5))
    with pytest.raises(ValueError, match="chunk is 0; it must be at least 1"):
        F.linear_attention_chunked(q, k, v, chunk=0)
    with pytest.raises(ValueError, match=r"state has shape \(3, 5\); it must be \(3, 6\)"):
        F.linear_attention_chunked(q, k, v, np.ones((3, 5)))
    with pytest.raises(ValueError, match=r"document_ids has shape \(3,\)"):
        F.linear_attention_chunked(q, k, v, document_ids=np.zeros(3, int))
    with pytest.raises(ValueError, match="they must be"):
        F.linear_attention_chunked(q, k[:, :2], v)
