import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.attention import LinearAttention
from tests.attention import laws
from tests.equivalence import check_layer, implementation
from tests.strategies import arrays, dtypes, leading, sizes

pytestmark = pytest.mark.covers("LinearAttention")
modes = st.sampled_from(["parallel", "recurrent"])
FLOAT64 = np.dtype(np.float64)


def build(num_heads, width, mode="parallel", dtype="float64", seed=0):
    config = {"d_model": num_heads * width, "context_length": 7, "num_heads": num_heads, "mode": mode}
    return implementation("LinearAttention")(**config, rng=np.random.default_rng(seed), dtype=dtype)


@given(st.data(), dtypes, leading, sizes, st.integers(1, 3), sizes, modes, st.booleans())
def test_equals_pytorch(data, dtype, batch, T, num_heads, width, mode, packed):
    config = {"d_model": num_heads * width, "context_length": 7, "num_heads": num_heads, "mode": mode}
    x = data.draw(arrays((*batch, T, num_heads * width), dtype))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    document_ids = laws.documents_of(rng, *batch, T) if packed else None
    check_layer("LinearAttention", config, x, dtype=dtype, document_ids=document_ids)


@pytest.mark.parametrize("mode", ["parallel", "recurrent"])
@pytest.mark.parametrize("document_ids", [None, np.array([[0, 0, 1, 1], [0, 1, 1, 0]])])
def test_finite_differences(mode, document_ids):
    rng = np.random.default_rng(0)
    laws.check_finite_differences(build(2, 3, mode), rng.standard_normal((2, 4, 6)), rng, document_ids)


@given(st.data(), leading, sizes, st.integers(1, 3), sizes)
def test_both_modes_are_one(data, batch, T, num_heads, width):
    parallel, recurrent = build(num_heads, width), build(num_heads, width, "recurrent")
    x = data.draw(arrays((*batch, T, num_heads * width), FLOAT64))
    values, gradients = [], []
    for layer in (parallel, recurrent):
        y, cache = layer.forward(x)
        values.append(y)
        dx = layer.backward(np.cos(np.arange(y.size, dtype=np.float64)).reshape(y.shape), cache)
        gradients.append([dx, *(parameter.grad for _, parameter in layer.named_parameters())])
    np.testing.assert_allclose(*values, rtol=1e-9, atol=1e-11)
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10)


@given(st.data(), st.integers(1, 3), sizes, sizes, modes, dtypes)
def test_laws(data, batch, T, width, mode, dtype):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    layer = laws.away_from_the_start(build(2, width, mode, dtype), rng)
    x = rng.standard_normal((batch, T, 2 * width)).astype(dtype)
    laws.check_later_tokens_change_nothing(layer, x, int(rng.integers(T)))
    laws.check_pieces(layer, x, rng)
    laws.check_padding(layer, x, rng)
    laws.check_packed(layer, x, laws.documents_of(rng, batch, T), rng)


def test_the_past_has_one_size():
    layer, x = build(2, 4, dtype="float32"), np.random.default_rng(0).standard_normal((3, 5, 8)).astype(np.float32)
    kv_cache = layer.new_kv_cache(3)
    assert kv_cache.nbytes == 0
    for read in range(1, 50):
        layer(x, kv_cache)
        assert kv_cache.length == 5 * read
        assert kv_cache.nbytes == 3 * 2 * 4 * (4 + 1) * 4


def test_bad_arguments():
    with pytest.raises(ValueError, match="d_model is 6 and num_heads 4; num_heads must divide d_model"):
        LinearAttention(6, 5, 4)
    with pytest.raises(ValueError, match="mode is 'chunked'; it must be"):
        LinearAttention(6, 5, 2, "chunked")
    layer = LinearAttention(6, 5, 2)
    with pytest.raises(ValueError, match="has 6 positions; it must have at most 5"):
        layer(np.zeros((6, 6), np.float32))
    with pytest.raises(ValueError, match=r"document_ids has shape \(4,\)"):
        layer(np.zeros((5, 6), np.float32), document_ids=np.zeros(4, int))
    with pytest.raises(ValueError, match="document_ids and kv_cache are both set"):
        layer(np.zeros((5, 6), np.float32), layer.new_kv_cache(), np.zeros(5, int))
