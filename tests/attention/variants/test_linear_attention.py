import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.attention import LinearAttention
from npllm.core.gradient_check import check_function_gradients, check_gradients
from tests.equivalence import check_function, implementation
from tests.strategies import arrays, dtypes, leading, sizes

SUM = 30.0  # times the tolerance: a quotient of two long sums, whose gradient divides again


@pytest.mark.covers("elu_plus_one")
class TestEluPlusOne:
    @given(st.data(), dtypes, leading, sizes)
    def test_equals_pytorch(self, data, dtype, batch, size):
        check_function("elu_plus_one", data.draw(arrays((*batch, size), dtype, scale=5.0)))

    def test_equals_elu_plus_one(self):
        import torch

        x = np.linspace(-5, 5, 101)
        theirs = torch.nn.functional.elu(torch.from_numpy(x)) + 1
        np.testing.assert_allclose(implementation("elu_plus_one")(x), theirs, rtol=1e-12)

    def test_large_numbers_stay_finite_and_positive(self):
        x = np.array([-80.0, 0.0, 1e30], np.float32)
        y = implementation("elu_plus_one")(x)
        assert np.isfinite(y).all()
        assert (y > 0).all()

    def test_finite_differences(self):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((3, 5))
        check_function_gradients(F.elu_plus_one_forward, F.elu_plus_one_backward, [x], rng)


@st.composite
def inputs(draw, dtype=None):
    """Positive queries and keys, values, a state and document ids (or None for these two)."""
    dtype = draw(dtypes) if dtype is None else dtype
    batch, (T, D, E) = draw(leading), (draw(sizes) for _ in "TDE")
    q, k = (F.elu_plus_one(draw(arrays((*batch, T, D), dtype))) for _ in "qk")
    v = draw(arrays((*batch, T, E), dtype))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    state = (np.abs(rng.standard_normal((*batch, D, E + 1))) + 0.1).astype(dtype) if draw(st.booleans()) else None
    shape = draw(st.sampled_from([(T,), (*batch[:-1], 1, T) if batch else (T,), (*batch, T)]))
    document_ids = np.cumsum(rng.random(shape) < 0.4, axis=-1) % 3 if draw(st.booleans()) else None
    return q, k, v, state, document_ids


@pytest.mark.covers("linear_attention")
class TestParallel:
    @given(inputs())
    def test_equals_pytorch(self, drawn):
        q, k, v, _, document_ids = drawn
        check_function("linear_attention", q, k, v, document_ids, loosen=SUM)

    @given(inputs(np.dtype(np.float64)))
    def test_plain_loops(self, drawn):
        q, k, v, _, document_ids = drawn
        T, expected = q.shape[-2], np.zeros(v.shape)
        numbers = np.zeros(q.shape[:-1], int) if document_ids is None else np.broadcast_to(document_ids, q.shape[:-1])
        for where in np.ndindex(q.shape[:-2]):
            for t in range(T):
                weights = {}
                for s in range(t, -1, -1):
                    if numbers[(*where, s)] != numbers[(*where, t)]:
                        break
                    weights[s] = sum(a * b for a, b in zip(q[(*where, t)], k[(*where, s)]))
                for s, weight in weights.items():
                    expected[(*where, t)] += weight / sum(weights.values()) * v[(*where, s)]
        np.testing.assert_allclose(
            implementation("linear_attention")(q, k, v, document_ids), expected, rtol=1e-9, atol=1e-12
        )

    def test_finite_differences(self):
        rng = np.random.default_rng(0)
        q, k = np.abs(rng.standard_normal((2, 2, 3, 5, 4)))
        v = rng.standard_normal((2, 3, 5, 2))
        forward, backward = F.linear_attention_forward, F.linear_attention_backward
        check_function_gradients(forward, backward, [q, k, v], rng)
        check_function_gradients(forward, backward, [q, k, v], rng, document_ids=np.array([0, 0, 1, 1, 1]))

    @given(inputs(np.dtype(np.float64)))
    def test_y_is_between_the_smallest_and_the_largest_value(self, drawn):
        q, k, v, _, _ = drawn
        y = implementation("linear_attention")(q, k, v)
        assert (y <= np.maximum.accumulate(v, axis=-2) + 1e-9).all()
        assert (y >= np.minimum.accumulate(v, axis=-2) - 1e-9).all()

    def test_y_is_v_at_the_first_position(self):
        rng = np.random.default_rng(0)
        q, k, v = np.abs(rng.standard_normal((3, 4, 5)))
        np.testing.assert_allclose(implementation("linear_attention")(q, k, v)[0], v[0], rtol=1e-12)


@pytest.mark.covers("linear_attention_recurrent")
class TestRecurrent:
    @given(inputs())
    def test_equals_pytorch(self, drawn):
        q, k, v, state, document_ids = drawn
        check_function("linear_attention_recurrent", q, k, v, state, document_ids, loosen=SUM)

    @given(inputs(np.dtype(np.float64)), st.integers(0, 999))
    def test_both_algorithms_give_the_same(self, drawn, seed):
        q, k, v, _, document_ids = drawn
        y, parallel = F.linear_attention_forward(q, k, v, document_ids)
        (y_again, _), recurrent = F.linear_attention_recurrent_forward(q, k, v, document_ids=document_ids)
        np.testing.assert_allclose(y_again, y, rtol=1e-10, atol=1e-12)
        dy = np.random.default_rng(seed).standard_normal(y.shape)
        ours = F.linear_attention_backward(dy, parallel)
        others = F.linear_attention_recurrent_backward((dy, None), recurrent)
        for gradient, other in zip(ours, others, strict=True):
            np.testing.assert_allclose(other, gradient, rtol=1e-9, atol=1e-11)

    @given(inputs(np.dtype(np.float64)), st.data())
    def test_two_chunks_are_one_sequence(self, drawn, data):
        q, k, v, state, document_ids = drawn
        split = data.draw(st.integers(0, q.shape[-2]))
        one = {"document_ids": None if document_ids is None else document_ids[..., :split]}
        whole, last = F.linear_attention_recurrent(q, k, v, state, document_ids)
        first, state = F.linear_attention_recurrent(*(x[..., :split, :] for x in (q, k, v)), state, **one)
        if document_ids is not None and 0 < split < q.shape[-2]:  # reset the state if a document starts at the split
            state = state * (document_ids[..., split] == document_ids[..., split - 1])[..., None, None]
        rest = None if document_ids is None else document_ids[..., split:]
        second, state = F.linear_attention_recurrent(*(x[..., split:, :] for x in (q, k, v)), state, rest)
        np.testing.assert_allclose(np.concatenate([first, second], axis=-2), whole, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(state, last, rtol=1e-9, atol=1e-12)

    def test_finite_differences_through_the_state(self):
        rng = np.random.default_rng(0)
        q, k = np.abs(rng.standard_normal((2, 2, 5, 3)))
        v, state = rng.standard_normal((2, 5, 4)), np.abs(rng.standard_normal((2, 3, 5)))
        for document_ids in (None, np.array([0, 0, 1, 1, 2])):
            (y, last), cache = F.linear_attention_recurrent_forward(q, k, v, state, document_ids)
            dy, dlast = rng.standard_normal(y.shape), rng.standard_normal(last.shape)

            def objective(q, k, v, state, document_ids=document_ids, dy=dy, dlast=dlast):
                y, last = F.linear_attention_recurrent(q, k, v, state, document_ids)
                return (y * dy).sum() + (last * dlast).sum()

            gradients = F.linear_attention_recurrent_backward((dy, dlast), cache)
            check_gradients(objective, [q, k, v, state], gradients, rng)

    def test_no_state_is_kept_for_the_backward(self):
        T, D = 400, 16
        rng = np.random.default_rng(0)
        q, k, v = np.abs(rng.standard_normal((3, T, D)))
        all_states = T * D * (D + 1) * 8
        (y, _), cache = F.linear_attention_recurrent_forward(q, k, v)
        assert cache.nbytes < all_states / 2
        tracemalloc.start()
        F.linear_attention_recurrent_backward((y, None), cache)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < all_states / 2


def test_keys_of_zeros_add_nothing_to_the_state():
    rng = np.random.default_rng(0)
    q, k, v = np.abs(rng.standard_normal((3, 6, 4)))
    hidden = k.copy()
    hidden[:2] = 0.0
    for function in (F.linear_attention, lambda *qkv: F.linear_attention_recurrent(*qkv)[0]):
        y = function(q, hidden, v)
        np.testing.assert_array_equal(y[:2], 0)
        np.testing.assert_allclose(y[2:], function(q[2:], k[2:], v[2:]), rtol=1e-12)


@pytest.mark.parametrize("T", [0, 1])
def test_few_or_no_positions(T):
    q, k, v = np.ones((2, T, 3)), np.ones((2, T, 3)), np.full((2, T, 5), 7.0)
    y, state = F.linear_attention_recurrent(q, k, v)
    np.testing.assert_array_equal(y, v)
    np.testing.assert_array_equal(F.linear_attention(q, k, v), v)
    np.testing.assert_array_equal(state, T * np.concatenate([np.full((2, 3, 5), 7.0), np.ones((2, 3, 1))], axis=-1))


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((4, 3), (4, 2), (4, 5)), {}, r"q \(4, 3\), k \(4, 2\), v \(4, 5\): they must be"),
        (((4, 3), (4, 3), (5, 5)), {}, "they must be"),
        (((4,), (4,), (4,)), {}, "they must be"),
        (((4, 3), (4, 3), (4, 5)), {"document_ids": np.zeros(3, int)}, r"document_ids has shape \(3,\)"),
        (((4, 3), (4, 3), (4, 5)), {"document_ids": np.zeros((2, 4), int)}, r"document_ids has shape \(2, 4\)"),
    ],
)
def test_invalid_arguments(shapes, options, message):
    for function in (F.linear_attention, F.linear_attention_recurrent):
        with pytest.raises(ValueError, match=message):
            function(*[np.ones(shape) for shape in shapes], **options)


def test_invalid_state_and_dtypes():
    q, k, v = np.ones((4, 3)), np.ones((4, 3)), np.ones((4, 5))
    with pytest.raises(ValueError, match=r"state has shape \(3, 5\); it must be \(3, 6\)"):
        F.linear_attention_recurrent(q, k, v, np.ones((3, 5)))
    with pytest.raises(TypeError, match="v is float32 but q is float64"):
        F.linear_attention(q, k, v.astype(np.float32))
    with pytest.raises(ValueError, match="dy has shape"):
        F.linear_attention_recurrent_backward((v[:2], None), F.linear_attention_recurrent_forward(q, k, v)[1])


def build(num_heads, head_dim, mode="parallel", dtype="float64"):
    config = {"d_model": num_heads * head_dim, "context_length": 7, "num_heads": num_heads, "mode": mode}
    return implementation("LinearAttention")(**config, rng=np.random.default_rng(0), dtype=dtype)


@pytest.mark.covers("LinearAttention")
@given(st.data(), leading, sizes, st.integers(1, 3), sizes)
def test_both_modes_give_the_same(data, batch, T, num_heads, head_dim):
    parallel, recurrent = build(num_heads, head_dim), build(num_heads, head_dim, "recurrent")
    x = data.draw(arrays((*batch, T, num_heads * head_dim), np.dtype(np.float64)))
    values, gradients = [], []
    for layer in (parallel, recurrent):
        y, cache = layer.forward(x)
        values.append(y)
        dx = layer.backward(np.random.default_rng(0).standard_normal(y.shape), cache)
        gradients.append([dx, *(parameter.grad for _, parameter in layer.named_parameters())])
    np.testing.assert_allclose(*values, rtol=1e-9, atol=1e-11)
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.covers("LinearAttention")
def test_the_kv_cache_has_a_fixed_size():
    layer, x = build(2, 4, dtype="float32"), np.random.default_rng(0).standard_normal((3, 5, 8)).astype(np.float32)
    kv_cache = layer.new_kv_cache(3)
    assert kv_cache.nbytes == 0
    for read in range(1, 50):
        layer(x, kv_cache=kv_cache)
        assert kv_cache.length == 5 * read
        assert kv_cache.nbytes == 3 * 2 * 4 * (4 + 1) * 4


@pytest.mark.covers("LinearAttention")
def test_invalid_arguments_of_the_layer():
    with pytest.raises(ValueError, match="d_model is 6 and num_heads 4; num_heads must divide d_model"):
        LinearAttention(6, 5, 4)
    with pytest.raises(ValueError, match="mode is 'chunked'; it must be"):
        LinearAttention(6, 5, 2, "chunked")
