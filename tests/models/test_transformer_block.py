import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.core.gradient_check import check_layer_gradients
from tests.equivalence import check_layer, implementation
from tests.strategies import arrays, dtypes, leading, sizes

pytestmark = pytest.mark.covers("TransformerBlock")


@given(st.data(), dtypes, leading, sizes, st.integers(1, 3), st.integers(2, 3), st.booleans(), st.booleans())
def test_equals_pytorch(data, dtype, batch, T, num_heads, head_dim, qkv_bias, dropout):
    d_model = num_heads * head_dim
    config = {"d_model": d_model, "context_length": 7, "dropout": 0.2, "num_heads": num_heads, "qkv_bias": qkv_bias}
    x = data.draw(arrays((*batch, T, d_model), dtype))
    # the norms divide by the spread of few channels, which may be tiny, and multiply all rounding before them
    check_layer("TransformerBlock", config, x, dtype=dtype, dropout=dropout, loosen=30.0)


def test_finite_differences():
    rng = np.random.default_rng(0)
    block = implementation("TransformerBlock")(8, 6, 0.2, 2, rng=rng, dtype="float64")
    x = rng.standard_normal((2, 5, 8))
    check_layer_gradients(block, [x], rng, lambda: block.forward(x, rng=np.random.default_rng(1)))


def test_residual_connections_pass_the_input_through():
    block = implementation("TransformerBlock")(8, 6, 0.0, 2, rng=np.random.default_rng(0), dtype="float64")
    for layer in (block.attn.c_proj, block.mlp.c_proj):
        layer.weight.data[...], layer.bias.data[...] = 0, 0
    x = np.random.default_rng(1).standard_normal((5, 8))
    y, cache = block.forward(x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(block.backward(x, cache), x)


def test_the_gradient_does_not_vanish_with_depth():
    rng = np.random.default_rng(0)
    blocks = [implementation("TransformerBlock")(8, 6, 0.0, 2, rng=rng, dtype="float64") for _ in range(40)]
    x, caches = rng.standard_normal((5, 8)), []
    for block in blocks:
        x, cache = block.forward(x)
        caches.append(cache)
    dx = rng.standard_normal(x.shape)
    start = np.linalg.norm(dx)
    for block, cache in zip(reversed(blocks), reversed(caches)):
        dx = block.backward(dx, cache)
    assert 0.05 * start < np.linalg.norm(dx) < 100 * start
