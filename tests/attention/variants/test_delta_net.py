import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.attention import DeltaNet
from npllm.core.gradient_check import check_gradients
from tests.attention import properties
from tests.equivalence import check_function, implementation
from tests.strategies import arrays, dtypes, leading, sizes

SUM = 10.0  # times the tolerance: every state is a sum over all earlier positions
BOTH = [
    pytest.param("delta_rule", id="recurrent", marks=pytest.mark.covers("delta_rule")),
    pytest.param("delta_rule_chunked", id="chunked", marks=pytest.mark.covers("delta_rule_chunked")),
]
chunks = st.sampled_from([1, 2, 3, 4, 64])


@st.composite
def rules(draw, dtype=None):
    """Queries, keys of length 1, values, β in 0 … 1, a state and document ids (or None for these two)."""
    dtype = draw(dtypes) if dtype is None else dtype
    batch, (T, D, E) = draw(leading), (draw(sizes) for _ in "TDE")
    q, k = draw(arrays((*batch, T, D), dtype)), F.l2_normalize(draw(arrays((*batch, T, D), dtype)))
    v = draw(arrays((*batch, T, E), dtype))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    beta = rng.random((*batch, T)).astype(dtype)
    state = rng.standard_normal((*batch, D, E)).astype(dtype) if draw(st.booleans()) else None
    shape = draw(st.sampled_from([(T,), (*batch[:-1], 1, T) if batch else (T,), (*batch, T)]))
    document_ids = np.cumsum(rng.random(shape) < 0.4, axis=-1) % 3 if draw(st.booleans()) else None
    return q, k, v, beta, state, document_ids


@pytest.mark.covers("delta_rule")
@given(rules())
def test_recurrent_equals_pytorch(drawn):
    check_function("delta_rule", *drawn, loosen=SUM)


@pytest.mark.covers("delta_rule_chunked")
@given(rules(), chunks)
def test_chunked_equals_pytorch(drawn, chunk):
    check_function("delta_rule_chunked", *drawn, chunk, loosen=SUM)


@given(rules(np.dtype(np.float64)), chunks, st.integers(0, 999))
def test_both_algorithms_give_the_same(drawn, chunk, seed):
    (y, last), recurrent = F.delta_rule_forward(*drawn)
    (y_again, last_again), chunked = F.delta_rule_chunked_forward(*drawn, chunk)
    np.testing.assert_allclose(y_again, y, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(last_again, last, rtol=1e-10, atol=1e-11)
    rng = np.random.default_rng(seed)
    dy = (rng.standard_normal(y.shape), rng.standard_normal(last.shape) if seed % 2 else None)
    gradients, others = F.delta_rule_backward(dy, recurrent), F.delta_rule_chunked_backward(dy, chunked)
    for gradient, other in zip(gradients, others, strict=True):
        np.testing.assert_allclose(other, gradient, rtol=1e-9, atol=1e-10)


@given(rules(np.dtype(np.float64)))
def test_plain_loops(drawn):
    q, k, v, beta, state, document_ids = drawn
    T, D, E = *q.shape[-2:], v.shape[-1]
    numbers = np.zeros(q.shape[:-1], int) if document_ids is None else np.broadcast_to(document_ids, q.shape[:-1])
    expected = np.zeros(v.shape)
    for where in np.ndindex(q.shape[:-2]):
        S = np.zeros((D, E)) if state is None else state[where].copy()
        for t in range(T):
            if t and numbers[(*where, t)] != numbers[(*where, t - 1)]:
                S[:] = 0.0
            here = (*where, t)
            for e in range(E):
                answer = sum(S[d, e] * k[here][d] for d in range(D))
                for d in range(D):
                    S[d, e] += beta[here] * k[here][d] * (v[here][e] - answer)
                expected[here][e] = sum(S[d, e] * q[here][d] for d in range(D))
    np.testing.assert_allclose(F.delta_rule(*drawn)[0], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("with_state", [False, True])
def test_transformers_gated_delta_rule_without_a_gate(with_state):
    from transformers.models.qwen3_next.modeling_qwen3_next import (
        torch_chunk_gated_delta_rule,
        torch_recurrent_gated_delta_rule,
    )

    rng = np.random.default_rng(0)
    q, k = (F.l2_normalize(rng.standard_normal((2, 3, 70, 8)).astype(np.float32)) for _ in "qk")
    v, beta = rng.standard_normal((2, 3, 70, 5)).astype(np.float32), rng.random((2, 3, 70)).astype(np.float32)
    state = rng.standard_normal((2, 3, 8, 5)).astype(np.float32) if with_state else None
    tensors = [torch.from_numpy(np.ascontiguousarray(x.swapaxes(1, 2))) for x in (q * 8**0.5, k, v)]
    beta_tensor = torch.from_numpy(np.ascontiguousarray(beta.swapaxes(1, 2)))
    for theirs in (torch_recurrent_gated_delta_rule, torch_chunk_gated_delta_rule):
        initial = None if state is None else torch.from_numpy(state.copy())  # they write into it
        expected, last = theirs(
            *tensors, torch.zeros_like(beta_tensor), beta_tensor, initial_state=initial, output_final_state=True
        )  # fmt: skip
        for y, final in (F.delta_rule(q, k, v, beta, state), F.delta_rule_chunked(q, k, v, beta, state, chunk=16)):
            np.testing.assert_allclose(y, expected.transpose(1, 2), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(final, last, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BOTH)
def test_finite_differences(name):
    rng = np.random.default_rng(0)
    rule, forward, backward = (getattr(F, name + form) for form in ("", "_forward", "_backward"))
    q, k = rng.standard_normal((2, 2, 5, 3))
    v, beta, state = rng.standard_normal((2, 5, 4)), rng.random((2, 5)), rng.standard_normal((2, 3, 4))
    options = {"chunk": 2} if name == "delta_rule_chunked" else {}
    for document_ids in (None, np.array([0, 0, 0, 1, 1])):
        (y, last), cache = forward(q, k, v, beta, state, document_ids, **options)
        dy, dlast = rng.standard_normal(y.shape), rng.standard_normal(last.shape)

        def objective(*inputs, document_ids=document_ids, dy=dy, dlast=dlast):
            y, last = rule(*inputs, document_ids, **options)
            return (y * dy).sum() + (last * dlast).sum()

        check_gradients(objective, [q, k, v, beta, state], backward((dy, dlast), cache), rng)


@pytest.mark.parametrize("name", BOTH)
def test_two_chunks_are_one_sequence(name):
    rng, rule = np.random.default_rng(0), getattr(F, name)
    q, k, v = rng.standard_normal((3, 2, 9, 4))
    k, beta = F.l2_normalize(k), rng.random((2, 9))
    whole, last = rule(q, k, v, beta)
    for split in range(10):
        first, state = rule(*(x[:, :split] for x in (q, k, v, beta)))
        second, state = rule(*(x[:, split:] for x in (q, k, v, beta)), state)
        np.testing.assert_allclose(np.concatenate([first, second], axis=-2), whole, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(state, last, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", BOTH)
class TestProperties:
    def test_a_value_with_the_same_key_is_replaced(self, name):
        rng = np.random.default_rng(0)
        directions = np.linalg.qr(rng.standard_normal((4, 4)))[0]
        k, v = directions[[0, 1, 0, 2]], rng.standard_normal((4, 3))
        state = getattr(F, name)(k, k, v, np.ones(4))[1]
        np.testing.assert_allclose(directions @ state, [v[2], v[1], v[3], np.zeros(3)], atol=1e-12)

    def test_with_beta_0_nothing_is_written(self, name):
        rng = np.random.default_rng(0)
        q, k, v, state = rng.standard_normal((4, 5, 5))
        y, last = getattr(F, name)(q, k, v, np.zeros(5), state)
        np.testing.assert_allclose(y, q @ state, rtol=1e-12)
        np.testing.assert_array_equal(last, state)

    def test_with_orthogonal_keys_it_is_a_sum_of_values_as_in_linear_attention(self, name):
        rng = np.random.default_rng(0)
        k = np.linalg.qr(rng.standard_normal((6, 6)))[0]
        q, v, beta = rng.standard_normal((6, 6)), rng.standard_normal((6, 3)), rng.random(6)
        y = getattr(F, name)(q, k, v, beta)[0]
        np.testing.assert_allclose(y, np.tril(q @ k.T) @ (beta[:, None] * v), rtol=1e-10, atol=1e-12)

    def test_keys_of_zeros_add_nothing_to_the_state(self, name):
        rng, rule = np.random.default_rng(0), getattr(F, name)
        q, k, v = rng.standard_normal((3, 6, 4))
        k, beta = F.l2_normalize(k), rng.random(6)
        hidden = k.copy()
        hidden[:2] = 0.0
        np.testing.assert_allclose(rule(q, hidden, v, beta)[0][2:], rule(q[2:], k[2:], v[2:], beta[2:])[0], atol=1e-12)

    @pytest.mark.parametrize("T", [0, 1])
    def test_few_or_no_positions(self, name, T):
        k, v = np.tile([1.0, 0.0], (2, T, 1)), np.full((2, T, 3), 7.0)
        y, state = getattr(F, name)(k, k, v, np.full((2, T), 0.5))
        np.testing.assert_array_equal(y, 0.5 * v)
        np.testing.assert_array_equal(state, np.tile([[3.5 * T], [0.0]], (2, 1, 3)))

    @pytest.mark.parametrize(
        ("changed", "error", "message"),
        [
            ({"k": np.ones((4, 2))}, ValueError, r"q \(4, 3\), k \(4, 2\), v \(4, 5\): they must be"),
            (
                {"beta": np.ones((4, 1))},
                ValueError,
                r"beta has shape \(4, 1\); it must have one number for each",
            ),
            ({"beta": np.ones(4, np.float32)}, TypeError, "beta is float32 but q is float64"),
            ({"state": np.ones((5, 3))}, ValueError, r"state has shape \(5, 3\); it must be \(3, 5\)"),
            ({"document_ids": np.zeros(5, int)}, ValueError, r"document_ids has shape \(5,\)"),
        ],
    )
    def test_invalid_arguments(self, name, changed, error, message):
        arguments = {"q": np.ones((4, 3)), "k": np.ones((4, 3)), "v": np.ones((4, 5)), "beta": np.ones(4)}
        with pytest.raises(error, match=message):
            getattr(F, name)(**arguments | changed)


def test_the_chunk_must_be_positive():
    with pytest.raises(ValueError, match="chunk is 0; it must be at least 1"):
        F.delta_rule_chunked(np.ones((4, 3)), np.ones((4, 3)), np.ones((4, 5)), np.ones(4), chunk=0)


def test_the_recurrent_form_keeps_no_state_for_the_backward():
    T, D = 400, 16
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, T, D))
    all_states = T * D * D * 8
    (y, _), cache = F.delta_rule_forward(q, F.l2_normalize(k), v, rng.random(T))
    assert cache.nbytes < all_states / 2
    tracemalloc.start()
    F.delta_rule_backward((y, None), cache)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < all_states / 2


def build(num_heads, head_dim, chunk=64, dtype="float64"):
    config = {"d_model": num_heads * head_dim, "context_length": 7, "num_heads": num_heads, "chunk": chunk}
    return implementation("DeltaNet")(**config, rng=np.random.default_rng(0), dtype=dtype)


@pytest.mark.covers("DeltaNet")
def test_the_layer_with_the_rule_of_transformers():
    from transformers.models.qwen3_next.modeling_qwen3_next import torch_recurrent_gated_delta_rule

    rng = np.random.default_rng(0)
    layer = properties.randomize(build(2, 4, chunk=3, dtype="float32"), rng)
    x = rng.standard_normal((2, 7, 8)).astype(np.float32)
    weights = {name: torch.from_numpy(array) for name, array in layer.state_dict().items()}
    project = {name: torch.from_numpy(x) @ weights[f"{name}_proj.weight"].T for name in "qkvb"}
    q, k, v = (project[name].unflatten(-1, (2, 4)) for name in "qkv")
    beta = project["b"].sigmoid()
    no_gate = torch.zeros_like(beta)
    context, _ = torch_recurrent_gated_delta_rule(q, k, v, no_gate, beta, use_qk_l2norm_in_kernel=True)
    context = context * 4**0.5  # theirs divides queries by √D, which the norm cancels but for eps
    normalized = torch.nn.functional.rms_norm(context, (4,), weights["o_norm.weight"], eps=1e-6)
    expected = normalized.flatten(-2) @ weights["o_proj.weight"].T
    np.testing.assert_allclose(layer(x), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.covers("DeltaNet")
def test_the_kv_cache_has_a_fixed_size():
    layer, x = build(2, 4, dtype="float32"), np.random.default_rng(0).standard_normal((3, 5, 8)).astype(np.float32)
    kv_cache = layer.new_kv_cache(3)
    assert kv_cache.nbytes == 0
    for read in range(1, 50):
        layer(x, kv_cache=kv_cache)
        assert kv_cache.length == 5 * read
        assert kv_cache.nbytes == 3 * 2 * 4 * 4 * 4


@pytest.mark.covers("DeltaNet")
def test_a_long_text_does_not_make_the_state_grow():
    layer, rng = build(2, 8), np.random.default_rng(0)
    kv_cache = layer.new_kv_cache()
    for _ in range(300):
        layer(rng.standard_normal((1, 7, 16)), kv_cache=kv_cache)
    values = layer.v_proj(rng.standard_normal((999, 16)))
    assert np.abs(kv_cache.state).max() < 3 * np.abs(values).max()


@pytest.mark.covers("DeltaNet")
def test_invalid_arguments_of_the_layer():
    with pytest.raises(ValueError, match="d_model is 6 and num_heads 4; num_heads must divide d_model"):
        DeltaNet(6, 5, 4)
    with pytest.raises(ValueError, match="chunk is 0; it must be at least 1"):
        DeltaNet(6, 5, 2, 0)
