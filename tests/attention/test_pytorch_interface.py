import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.core.gradient_check import check_function_gradients
from tests.equivalence import check_function, implementation
from tests.strategies import arrays, dtypes, leading, sizes

NAME = "scaled_dot_product_attention"
pytestmark = pytest.mark.covers(NAME)


@st.composite
def attentions(draw, dtype=None):
    """q, k and v of different lengths and channels, and options that go together."""
    dtype = draw(dtypes) if dtype is None else dtype
    batch, (T, S, D, E) = draw(leading), (draw(sizes) for _ in "TSDE")
    heads = key_heads = ()
    options = {}
    if draw(st.booleans()):
        options["enable_gqa"] = True
        number = draw(st.integers(1, 3))
        key_heads, heads = (number,), (number * draw(st.integers(1, 3)),)
    scale = draw(st.sampled_from([1.0, 4.0]))
    q = draw(arrays((*batch, *heads, T, D), dtype, scale))
    k = draw(arrays((*batch, *key_heads, S, D), dtype, scale))
    v = draw(arrays((*batch, *key_heads, S, E), dtype))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    shape = draw(st.sampled_from([(T, S), (1, S), (T, 1), (*batch, *heads, T, S)]))
    kind = draw(st.sampled_from(["none", "causal", "boolean", "additive", "additive with -inf"]))
    if kind == "causal":
        options["is_causal"] = True
        options["offset"] = draw(st.integers(0, 3))
        options["window"] = draw(st.sampled_from([None, 1, 2, 5]))
        if options["window"] is not None:
            options["sinks"] = draw(st.integers(0, 2))
    elif kind == "boolean":
        options["attn_mask"] = rng.random(shape) < draw(st.sampled_from([0.2, 0.7]))
    elif kind != "none":
        mask = rng.standard_normal(shape).astype(dtype)
        if kind == "additive with -inf":
            mask[rng.random(shape) < 0.4] = -np.inf
        options["attn_mask"] = mask
    if draw(st.booleans()):
        bias_shape = draw(st.sampled_from([(T, S), (*heads, 1, S), (*batch, *heads, T, S)]))
        options["bias"] = rng.standard_normal(bias_shape).astype(dtype)
    if draw(st.booleans()):
        options["scale"] = draw(st.sampled_from([0.0, 0.3, 2.0]))
    if draw(st.booleans()):
        options["softcap"] = draw(st.sampled_from([0.5, 5.0, 50.0]))
    if draw(st.booleans()):
        options["dropout_mask"] = F.draw_dropout_mask((*batch, *heads, T, S), 0.3, rng, dtype)
    return (q, k, v), options


@given(attentions())
def test_equals_pytorch(drawn):
    (q, k, v), options = drawn
    # exp turns the rounding error of a score, which grows with the score, into a relative error of its weight
    largest = np.abs(q).max() * np.abs(k).max() * q.shape[-1] * abs(options.get("scale", q.shape[-1] ** -0.5))
    check_function(NAME, q, k, v, loosen=4.0 * (1.0 + float(largest)), **options)


@given(attentions())
def test_equals_the_operator_of_pytorch(drawn):
    (q, k, v), options = drawn
    options.pop("softcap", None)
    options.pop("dropout_mask", None)
    ours = implementation(NAME)(q, k, v, **options)
    mask = options.pop("attn_mask", None)
    bias = options.pop("bias", None)
    tensors = [torch.tensor(np.ascontiguousarray(x)) for x in (q, k, v)]
    mask = None if mask is None else torch.tensor(mask).expand(*q.shape[:-1], k.shape[-2])
    offset, window, sinks = (options.pop(name, 0) for name in ("offset", "window", "sinks"))
    if bias is not None or offset or window:  # the operator has none of these by name; all are an additive mask
        where = np.arange(offset, offset + q.shape[-2])[:, None] - np.arange(k.shape[-2])
        mask_of_positions = (where >= 0) & ((where < (window or 99)) | (np.arange(k.shape[-2]) < sinks))
        mask_of_positions = mask_of_positions if options.pop("is_causal", False) else np.ones_like(mask_of_positions)
        added = torch.zeros(*q.shape[:-1], k.shape[-2], dtype=tensors[0].dtype)
        added = added if bias is None else added + torch.tensor(bias)
        if mask is not None:
            added = added.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else added + mask
        mask = added.masked_fill(~torch.tensor(mask_of_positions), -torch.inf)
    theirs = torch.nn.functional.scaled_dot_product_attention(*tensors, attn_mask=mask, **options)
    tolerance = 1e-4 if q.dtype == np.float32 else 1e-10
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@given(attentions(np.dtype(np.float64)))
def test_plain_loops(drawn):
    (q, k, v), options = drawn
    groups = q.shape[-3] // k.shape[-3] if options.get("enable_gqa") else 1
    S = k.shape[-2]
    mask = options.get("attn_mask")
    full = None if mask is None else np.broadcast_to(mask, (*q.shape[:-1], S))
    expected = np.zeros((*q.shape[:-1], v.shape[-1]))
    for where in np.ndindex(q.shape[:-1]):
        t, key_where = where[-1], where[:-1]
        if options.get("enable_gqa"):
            key_where = (*where[:-2], where[-2] // groups)
        scores = {}
        for s in range(S):
            score = sum(a * b for a, b in zip(q[where], k[(*key_where, s)]))
            score *= options.get("scale", 1 / math.sqrt(q.shape[-1]))
            if "softcap" in options:
                score = options["softcap"] * math.tanh(score / options["softcap"])
            if full is not None and full.dtype != bool:
                score += full[(*where, s)]
            if "bias" in options:
                score += np.broadcast_to(options["bias"], (*q.shape[:-1], S))[(*where, s)]
            back = t + options.get("offset", 0) - s
            near = options.get("window") is None or back < options["window"] or s < options["sinks"]
            may_attend = (full is None or full.dtype != bool or full[(*where, s)]) and (
                (back >= 0 and near) or not options.get("is_causal")
            )
            if may_attend and score > -math.inf:
                scores[s] = score
        largest = max(scores.values(), default=0.0)
        total = sum(math.exp(score - largest) for score in scores.values())
        for s, score in scores.items():
            factor = options["dropout_mask"][(*where, s)] if "dropout_mask" in options else 1.0
            expected[where] += math.exp(score - largest) / total * factor * v[(*key_where, s)]
    np.testing.assert_allclose(implementation(NAME)(q, k, v, **options), expected, rtol=1e-9, atol=1e-11)


@given(attentions(np.dtype(np.float64)), st.data())
def test_a_later_token_does_not_change_earlier_outputs(drawn, data):
    (_, _, v), _ = drawn
    T = v.shape[-2]
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    q, k = rng.standard_normal((2, *v.shape[:-1], 5))
    attention = implementation(NAME)
    before = attention(q, k, v, is_causal=True)
    j = data.draw(st.integers(0, T - 1))
    q, k, v = q.copy(), k.copy(), v.copy()
    q[..., j, :], k[..., j, :], v[..., j, :] = 9.0, -9.0, 99.0
    after = attention(q, k, v, is_causal=True)
    np.testing.assert_array_equal(after[..., :j, :], before[..., :j, :])
    assert (after[..., j, :] != before[..., j, :]).any()


@given(attentions(np.dtype(np.float64)))
def test_the_output_lies_between_the_values(drawn):
    (q, k, v), options = drawn
    options.pop("dropout_mask", None)
    y = implementation(NAME)(q, k, v, **options)
    if options.get("enable_gqa"):
        v = v.repeat(q.shape[-3] // v.shape[-3], axis=-3)
    low, high = v.min(axis=-2, keepdims=True), v.max(axis=-2, keepdims=True)
    masked = (y == 0).all(axis=-1, keepdims=True)
    assert ((low - 1e-9 <= y) & (y <= high + 1e-9) | masked).all()


@given(st.data())
def test_permuting_the_keys_and_values_together_changes_nothing(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    q, k, v = rng.standard_normal((4, 3)), rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
    order = rng.permutation(6)
    attention = implementation(NAME)
    np.testing.assert_allclose(attention(q, k[order], v[order]), attention(q, k, v), rtol=1e-10, atol=1e-12)
    queries = rng.permutation(4)
    np.testing.assert_allclose(attention(q[queries], k, v), attention(q, k, v)[queries], rtol=1e-10, atol=1e-12)


def test_grouped_heads_equal_repeated_heads():
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((2, 6, 5, 4)), rng.standard_normal((2, 2, 7, 4)), rng.standard_normal((2, 2, 7, 3))
    attention = implementation(NAME)
    repeated = attention(q, k.repeat(3, axis=-3), v.repeat(3, axis=-3))
    np.testing.assert_allclose(attention(q, k, v, enable_gqa=True), repeated, rtol=1e-12)
    tiled = attention(q, np.tile(k, (1, 3, 1, 1)), np.tile(v, (1, 3, 1, 1)))
    assert np.abs(tiled - repeated).max() > 0.1


def test_a_query_that_may_attend_nowhere_gets_zeros_and_no_gradient():
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 2)), rng.standard_normal((4, 2)), rng.standard_normal((4, 2))
    mask = np.ones((3, 4), bool)
    mask[1] = False
    y, cache = F.scaled_dot_product_attention_forward(q, k, v, mask)
    np.testing.assert_array_equal(y[1], 0)
    dq, dk, dv = F.scaled_dot_product_attention_backward(rng.standard_normal(y.shape), cache)
    np.testing.assert_array_equal(dq[1], 0)
    assert np.isfinite(np.concatenate([dk, dv])).all()


def test_finite_differences():
    rng = np.random.default_rng(0)
    shapes = [(2, 4, 3, 5), (2, 2, 6, 5), (2, 2, 6, 4), (4, 1, 6)]
    inputs = [rng.standard_normal(shape) for shape in shapes]
    forward, backward = F.scaled_dot_product_attention_forward, F.scaled_dot_product_attention_backward
    dropout_mask = F.draw_dropout_mask((2, 4, 3, 6), 0.3, rng, np.float64)
    check_function_gradients(forward, backward, inputs, rng, enable_gqa=True, softcap=2.0, dropout_mask=dropout_mask)
    check_function_gradients(forward, backward, inputs[:3], rng, enable_gqa=True, is_causal=True)
    bias = rng.standard_normal((4, 3, 6))
    options = {"is_causal": True, "offset": 2, "window": 3, "sinks": 1, "enable_gqa": True}
    check_function_gradients(
        lambda q, k, v, bias: forward(q, k, v, bias=bias, **options), backward, [*inputs[:3], bias], rng
    )


def test_gradients_of_broadcast_inputs_are_summed():
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(shape) for shape in ((2, 3, 4, 5), (1, 1, 6, 5), (3, 6, 2))]
    forward, backward = F.scaled_dot_product_attention_forward, F.scaled_dot_product_attention_backward
    check_function_gradients(forward, backward, inputs, rng)


@pytest.mark.parametrize("with_dropout", [False, True])
@pytest.mark.parametrize(
    ("q", "k", "v", "options"),
    [
        ((4, 3), (5, 3), (2, 5, 6), {}),
        ((1, 4, 3), (1, 5, 3), (2, 5, 6), {}),
        ((6, 4, 3), (2, 5, 3), (3, 2, 5, 6), {"enable_gqa": True}),
    ],
)
def test_one_matrix_of_weights_averages_several_values(q, k, v, options, with_dropout):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in (q, k, v)]
    if with_dropout:  # a mask for each of the v
        heads = q[-3:-2] if "enable_gqa" in options else ()
        options = options | {"dropout_mask": 2.0 * rng.integers(0, 2, (v[0], *heads, 4, 5))}
    check_function("scaled_dot_product_attention", *arrays, **options)


@pytest.mark.parametrize(("T", "S"), [(0, 3), (3, 0), (1, 1)])
def test_few_or_no_positions(T, S):
    y = implementation(NAME)(np.ones((2, T, 4)), np.ones((2, S, 4)), np.ones((2, S, 5)))
    np.testing.assert_array_equal(y, np.full((2, T, 5), float(S > 0)))


@pytest.mark.parametrize(
    ("shapes", "options", "error", "message"),
    [
        (((3, 4), (3, 5), (3, 4)), {}, ValueError, "the last axis of q and k, D, must be the same"),
        (((3, 4), (3, 4), (2, 4)), {}, ValueError, "k and v must have one length S"),
        (((4,), (3, 4), (3, 4)), {}, ValueError, "at least two axes"),
        (((4, 3, 4), (2, 3, 4), (2, 3, 4)), {}, ValueError, "need enable_gqa=True"),
        (((4, 3, 4), (3, 3, 4), (3, 3, 4)), {"enable_gqa": True}, ValueError, "divide those of q"),
        (((4, 3, 4), (2, 3, 4), (4, 3, 4)), {"enable_gqa": True}, ValueError, "must be equal"),
        (((3, 4), (3, 4), (3, 4)), {"enable_gqa": True}, ValueError, "needs a head axis"),
        (((3, 4),) * 3, {"is_causal": True, "attn_mask": np.ones((3, 3), bool)}, ValueError, "both set"),
        (((3, 4),) * 3, {"attn_mask": np.ones((3, 3), int)}, TypeError, "attn_mask has dtype int64"),
        (((3, 4),) * 3, {"attn_mask": np.ones((3, 3), np.float32)}, TypeError, "attn_mask has dtype float32"),
        (((3, 4),) * 3, {"attn_mask": np.ones((2, 3), bool)}, ValueError, r"attn_mask has shape \(2, 3\)"),
        (((3, 4),) * 3, {"attn_mask": np.ones((2, 3, 3), bool)}, ValueError, r"must broadcast to the scores' \(3, 3\)"),
        (((3, 4),) * 3, {"bias": np.ones((2, 3))}, ValueError, r"bias has shape \(2, 3\)"),
        (((3, 4),) * 3, {"bias": np.ones((3, 3), bool)}, TypeError, "bias has dtype bool"),
        (((3, 4),) * 3, {"window": 2}, ValueError, "window is 2 but is_causal is False"),
        (((3, 4),) * 3, {"offset": 2}, ValueError, "offset is 2 but is_causal is False"),
        (((3, 4),) * 3, {"sinks": 2, "is_causal": True}, ValueError, "sinks is 2 but window is None"),
        (((3, 4),) * 3, {"window": 0, "is_causal": True}, ValueError, "window is 0"),
        (((3, 4),) * 3, {"offset": -1, "is_causal": True}, ValueError, "offset is -1"),
        (((3, 4),) * 3, {"dropout_mask": np.ones((2, 3))}, ValueError, r"dropout_mask has shape \(2, 3\)"),
        (((3, 4),) * 3, {"dropout_mask": np.ones((3, 3), np.float32)}, TypeError, "dropout_mask has dtype float32"),
    ],
)
def test_invalid_arguments(shapes, options, error, message):
    with pytest.raises(error, match=message):
        F.scaled_dot_product_attention(*[np.ones(shape) for shape in shapes], **options)
