"""Attention in small tiles and parts equals the plain form: value, gradients, dtype, and every option."""

import numpy as np
import pytest
from hypothesis import given

from npllm import functional as F
from npllm.attention import StridedMask, small_tiles, tiled
from npllm.attention.distance_bias import DistanceBias
from npllm.attention.mask_rule import ArrayElement, MaskRule
from npllm.attention.plain import plain_attention_backward, plain_attention_forward
from npllm.attention.small_tiles import SmallTiles, plan_of_mask
from npllm.attention.tiled import TiledCache, tiled_attention_backward, tiled_attention_forward
from npllm.core.gradient_check import check_function_gradients
from tests.attention.test_tiled import TOLERANCES, inputs
from tests.equivalence.inputs import make_cache_read_only, read_only


def small_parts(mask, num_queries, num_keys):
    """Small tiles for any mask."""
    mask = ArrayElement(np.ones((num_queries, num_keys), bool)) if mask is None else mask
    return [SmallTiles(part, 3 - number) for number, part in enumerate(mask.parts())]


@pytest.fixture
def only_small_tiles(monkeypatch):
    monkeypatch.setattr(tiled, "plan_of_mask", small_parts)
    monkeypatch.setattr(small_tiles, "BATCH", 40)


@pytest.fixture(autouse=True, scope="module")
def _small(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_tiles, "BATCH", 40)
        yield


@given(inputs())
def test_equals_the_plain_form(drawn):
    arguments, options = drawn
    dtype = arguments[0].dtype
    arguments = [read_only(x) for x in arguments]
    options = {name: read_only(x) if isinstance(x, np.ndarray) else x for name, x in options.items()}
    expected, plain_cache = plain_attention_forward(*arguments, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiled, "plan_of_mask", small_parts)
        y, cache = tiled_attention_forward(*arguments, **options)
        assert isinstance(cache, TiledCache)
        make_cache_read_only(cache)
        dy = np.random.default_rng(0).standard_normal(y.shape).astype(dtype)
        results = [y, *tiled_attention_backward(dy, cache)]
    wanted = [expected, *plain_attention_backward(dy, plain_cache)]
    for result, want in zip(results, wanted, strict=True):
        assert result.dtype == want.dtype == dtype
        assert result.shape == want.shape
        np.testing.assert_allclose(result, want, **TOLERANCES[dtype.name])


@pytest.mark.parametrize("bias", ["none", "table", "array"])
@pytest.mark.parametrize(
    "options",
    [
        {"pattern": StridedMask(9)},
        {"pattern": StridedMask(40), "document_ids": np.repeat(np.arange(3), [400, 37, 163])},
        {"window": 20, "sinks": 3},
        {"window": 200, "sinks": 3, "pattern": StridedMask(16)},
    ],
)
def test_the_plan_by_size_equals_the_plain_form(options, bias):
    T, rng = 600, np.random.default_rng(0)
    ids = options.get("document_ids")
    positions = np.arange(T) if ids is None else F.document_positions(ids)
    rule = MaskRule(positions, positions, **options)
    assert not hasattr(plan_of_mask(rule.element(()), T, T), "by_query")
    q, k, v, dy = (rng.standard_normal((heads, T, 8)) for heads in (4, 2, 2, 4))
    terms = {
        "none": None,
        "table": DistanceBias(rng.standard_normal((4, T)), positions, positions),
        "array": rng.standard_normal((4, 1, T)),
    }
    found = []
    for forward, backward in [
        (plain_attention_forward, plain_attention_backward),
        (tiled_attention_forward, tiled_attention_backward),
    ]:
        y, cache = forward(q, k, v, rule, terms[bias], softcap=5.0)
        found.append([y, *backward(dy, cache)])
    for plain, tiles in zip(*found, strict=True):
        np.testing.assert_allclose(tiles, plain, **TOLERANCES["float64"])


def test_finite_differences(only_small_tiles):
    rng = np.random.default_rng(0)
    arguments = [rng.standard_normal(shape) for shape in [(2, 4, 9, 3), (2, 2, 9, 3), (2, 2, 9, 2), (4, 1, 9)]]
    rule = MaskRule(np.arange(9), np.arange(9), pattern=StridedMask(3))
    dropout_mask = F.draw_dropout_mask((2, 4, 9, 9), 0.3, rng, np.float64)

    def forward(q, k, v, bias):
        return tiled_attention_forward(q, k, v, rule, bias, 0.7, dropout_mask, 1.5)

    check_function_gradients(forward, tiled_attention_backward, arguments, rng)


def test_a_query_without_keys_gets_zeros(only_small_tiles):
    x, mask = np.ones((5, 2)), np.eye(5, dtype=bool)
    mask[3] = False
    y, cache = tiled_attention_forward(x, x, x, mask)
    np.testing.assert_array_equal(y[:, 0], [1, 1, 1, 0, 1])
    dq, dk, dv = tiled_attention_backward(x, cache)
    np.testing.assert_array_equal(dv[:, 0], [1, 1, 1, 0, 1])
