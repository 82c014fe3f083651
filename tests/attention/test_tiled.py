"""Attention in tiles equals the plain form: value, gradients, dtype, and every option; and PyTorch's fused function."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.attention import tile_plan
from npllm.attention.distance_bias import DistanceBias
from npllm.attention.mask_rule import MaskRule
from npllm.attention.plain import plain_attention_backward, plain_attention_forward
from npllm.attention.tiled import TiledCache, _heads, tiled_attention_backward, tiled_attention_forward
from npllm.core.gradient_check import check_function_gradients
from npllm.core.threads import limit_threads
from tests.attention.test_mask_rule import mask_rules
from tests.equivalence.inputs import make_cache_read_only, read_only
from tests.strategies import arrays, dtypes, leading

TOLERANCES = {
    "float32": {"rtol": 1e-4, "atol": 3e-5},
    "float64": {"rtol": 1e-9, "atol": 1e-11},
}  # of sums in another order


@pytest.fixture(autouse=True, scope="module")
def small_tiles():
    """Tiles of 4 × 4 and spans of 2 tiles, so that short sequences have several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tile_plan, "BLOCK", 4)
        patch.setattr(tile_plan, "SPAN", 8)
        yield


@st.composite
def inputs(draw):
    """q, k, v with grouped heads or leading axes that broadcast, and options."""
    dtype, batch = draw(dtypes), draw(leading)
    T, S, D, E = draw(st.integers(1, 19)), draw(st.integers(1, 19)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    kv_heads = draw(st.integers(1, 3))
    heads = kv_heads * draw(st.integers(1, 2))
    rule = draw(st.none() | mask_rules())
    if rule is not None:
        T, S, batch = rule.query_positions.shape[-1], rule.key_positions.shape[-1], (2,)
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    options = {"mask": rule}
    if rule is None and draw(st.booleans()):
        options["mask"] = rng.random(draw(st.sampled_from([(T, S), (heads, 1, S), (S,), ()]))) < 0.6
    if draw(st.booleans()):
        shapes = [(T, S), (heads, T, 1), (S,), (), (*batch, heads, T, S), (heads, 1, S), (1, T, S)]
        options["bias"] = rng.standard_normal(draw(st.sampled_from(shapes))).astype(dtype)
    if rule is not None and draw(st.booleans()):
        table = rng.standard_normal((heads, int(rule.query_positions.max(initial=0)) + 1)).astype(dtype)
        options["bias"] = DistanceBias(table, rule.query_positions, rule.key_positions)
    if draw(st.booleans()):
        options["scale"] = draw(st.sampled_from([0.0, 0.3, 2.0]))
    if draw(st.booleans()):
        options["dropout_mask"] = F.draw_dropout_mask((*batch, heads, T, S), 0.3, rng, dtype)
    if draw(st.booleans()):
        options["softcap"] = draw(st.sampled_from([0.5, 20.0]))
    q = draw(arrays((*batch, heads, T, D), dtype, draw(st.sampled_from([1.0, 5.0]))))
    k = draw(arrays((*batch[draw(st.integers(0, len(batch))) :], kv_heads, S, D), dtype))
    v = draw(arrays((*batch, draw(st.sampled_from([1, kv_heads, heads])), S, E), dtype))
    return (q, k, v), options


@given(inputs(), st.booleans())
def test_equals_the_plain_form(drawn, one_thread):
    arguments, options = drawn
    dtype = arguments[0].dtype
    arguments = [read_only(x) for x in arguments]
    options = {name: read_only(x) if isinstance(x, np.ndarray) else x for name, x in options.items()}
    expected, plain_cache = plain_attention_forward(*arguments, **options)
    with limit_threads(1 if one_thread else 2):
        y, cache = tiled_attention_forward(*arguments, **options)
        assert isinstance(cache, TiledCache)
        make_cache_read_only(cache)
        dy = np.random.default_rng(0).standard_normal(y.shape).astype(dtype)
        gradients = tiled_attention_backward(dy, cache)
    results = [y, *gradients, cache.weights]
    wanted = [expected, *plain_attention_backward(dy, plain_cache), plain_cache.weights]
    for result, want in zip(results, wanted, strict=True):
        assert result.dtype == want.dtype == dtype
        assert result.shape == want.shape
        np.testing.assert_allclose(result, want, **TOLERANCES[dtype.name])


@pytest.mark.parametrize("causal", [False, True])
@given(dtypes, st.integers(1, 40), st.integers(1, 9))
def test_equals_the_fused_function_of_pytorch(causal, dtype, T, D):
    rng = np.random.default_rng(T)
    q, k, v, dy = (rng.standard_normal((2, 3, T, D)).astype(dtype) for _ in range(4))
    tensors = [torch.tensor(x, requires_grad=True) for x in (q, k, v)]
    expected = torch.nn.functional.scaled_dot_product_attention(*tensors, is_causal=causal)
    expected.backward(torch.tensor(dy))
    y, cache = tiled_attention_forward(q, k, v, MaskRule(np.arange(T), np.arange(T)) if causal else None)
    results = [y, *tiled_attention_backward(dy, cache)]
    for result, want in zip(results, [expected.detach(), *(x.grad for x in tensors)]):
        np.testing.assert_allclose(result, want.numpy(), **TOLERANCES[dtype.name])


def test_finite_differences():
    rng = np.random.default_rng(0)
    arguments = [rng.standard_normal(shape) for shape in [(2, 4, 9, 3), (2, 2, 9, 3), (2, 2, 9, 2), (4, 1, 9)]]
    rule, dropout_mask = (
        MaskRule(np.arange(9), np.arange(9), 6),
        F.draw_dropout_mask((2, 4, 9, 9), 0.3, rng, np.float64),
    )

    def forward(q, k, v, bias):
        return tiled_attention_forward(q, k, v, rule, bias, 0.7, dropout_mask, 1.5)

    check_function_gradients(forward, tiled_attention_backward, arguments, rng)


@pytest.mark.parametrize("at", ["q", "k", "v", "dy", "bias"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_numbers_at_the_edge_give_what_the_plain_form_gives(at, value):
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal((2, 9, 4)).astype(np.float32) for name in ("q", "k", "v", "dy")}
    arrays["bias"] = rng.standard_normal((9, 9)).astype(np.float32)
    arrays[at][..., 6, 2] = value
    rule = MaskRule(np.arange(9), np.arange(9))
    results = []
    with np.errstate(all="ignore"):
        for forward, backward, mask in [
            (tiled_attention_forward, tiled_attention_backward, rule),
            (plain_attention_forward, plain_attention_backward, rule.array()),
        ]:
            y, cache = forward(arrays["q"], arrays["k"], arrays["v"], mask, arrays["bias"])
            results.append([y, *backward(arrays["dy"], cache)])
    for result, want in zip(*results):
        np.testing.assert_allclose(result, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 5, 3, 2), (5, 0, 3, 2), (5, 5, 0, 2), (5, 5, 3, 0)])
def test_empty_axes(shape):
    T, S, D, E = shape
    y, cache = tiled_attention_forward(np.ones((2, T, D)), np.ones((2, S, D)), np.ones((2, S, E)))
    expected, plain_cache = plain_attention_forward(np.ones((2, T, D)), np.ones((2, S, D)), np.ones((2, S, E)))
    for result, want in zip(
        [y, *tiled_attention_backward(y, cache)], [expected, *plain_attention_backward(expected, plain_cache)]
    ):
        np.testing.assert_array_equal(result, want)


@pytest.mark.parametrize("size", [1.0, 5.0, 100.0])
@pytest.mark.parametrize("softcap", [None, 20.0])
def test_large_scores(size, softcap):
    q, k, v = size * np.random.default_rng(0).standard_normal((3, 2, 13, 4)).astype(np.float32)
    y, cache = tiled_attention_forward(q, k, v, softcap=softcap)
    assert cache.is_bounded == (softcap is not None or size == 1.0)
    np.testing.assert_allclose(y, plain_attention_forward(q, k, v, softcap=softcap)[0], rtol=1e-4, atol=1e-5 * size)


@pytest.mark.parametrize(
    ("shape", "options", "groups"),
    [
        ((24, 9, 4), {}, [6] * 4),
        ((2, 7, 9, 4), {}, [3, 3, 1] * 2),
        ((2, 9, 4), {}, [1, 1]),
        ((9, 4), {}, [1]),
        ((8, 9, 4), {"bias": np.ones((9, 9), np.float32)}, [1] * 8),
        ((8, 9, 4), {"mask": np.ones((8, 9, 9), bool)}, [1] * 8),
        ((8, 9, 4), {"mask": np.ones((1, 9, 9), bool)}, [2] * 4),
    ],
)
def test_short_sequences_take_several_heads_at_a_time(shape, options, groups):
    x = np.ones(shape, np.float32)
    assert [len(head.q) for head in _heads(tiled_attention_forward(x, x, x, **options)[1])] == groups


def test_memory_is_linear_in_the_length():
    x = np.ones((2, 64, 4), np.float32)
    positions = np.arange(64)
    _, cache = tiled_attention_forward(x, x.copy(), x.copy(), MaskRule(positions, positions))
    assert cache.nbytes < 6 * x.nbytes


@pytest.mark.parametrize(
    ("shapes", "options", "error", "message"),
    [
        (((3, 4), (3, 5), (3, 4)), {}, ValueError, "the last axis, D, must be the same in both"),
        (((3, 4), (3, 4), (2, 4)), {}, ValueError, "one value for each of the S keys"),
        (((3, 4),) * 3, {"mask": np.ones((3, 3))}, TypeError, "mask has dtype float64; it must be boolean"),
        (((3, 4),) * 3, {"mask": MaskRule(np.arange(2), np.arange(3))}, ValueError, "the mask rule has shape"),
        (((3, 4),) * 3, {"bias": np.ones((2, 3))}, ValueError, r"bias has shape \(2, 3\); it must broadcast"),
        (((3, 4),) * 3, {"softcap": 0.0}, ValueError, "it must be greater than 0"),
    ],
)
def test_invalid_arguments(shapes, options, error, message):
    with pytest.raises(error, match=message):
        tiled_attention_forward(*[np.ones(shape) for shape in shapes], **options)
