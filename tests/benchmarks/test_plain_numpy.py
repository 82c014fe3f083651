"""The plain formulas and the ideas, compared with npllm: each idea gives the same numbers."""

import numpy as np
import pytest

from benchmarks import ideas, plain_numpy
from npllm import functional as F
from npllm.core.module import Parameter
from npllm.models import TransformerBlock
from npllm.training import AdamW

RNG = np.random.default_rng(0)


def test_attention():
    q, k, v = RNG.standard_normal((3, 2, 9, 4))
    np.testing.assert_allclose(
        plain_numpy.attention(q, k, v), F.scaled_dot_product_attention(q, k, v, is_causal=True), atol=1e-12
    )


def test_gpt_block():
    block = TransformerBlock(12, 8, 0.0, 3, rng=np.random.default_rng(0), dtype="float64")
    for parameter in block.state_dict().values():
        parameter += RNG.standard_normal(parameter.shape)
    x = RNG.standard_normal((2, 7, 12))
    np.testing.assert_allclose(plain_numpy.gpt_block(x, block.state_dict(), 3), block(x), rtol=1e-9, atol=1e-9)


def test_row_wise_functions():
    x = 3 * RNG.standard_normal((5, 700))
    np.testing.assert_allclose(plain_numpy.gelu(x), F.gelu(x, approximate="tanh"), atol=1e-12)
    np.testing.assert_allclose(plain_numpy.sigmoid(x), F.sigmoid(x), atol=1e-12)
    np.testing.assert_allclose(ideas.sigmoid(x), F.sigmoid(x), atol=1e-12)
    np.testing.assert_allclose(plain_numpy.softmax(x), F.softmax(x), atol=1e-12)


@pytest.mark.parametrize("rows", [1, 5, 401])
def test_blocks_cover_all_rows(rows):
    x = RNG.standard_normal((rows, 700))
    np.testing.assert_array_equal(ideas.in_blocks(np.exp, x), np.exp(x))
    np.testing.assert_array_equal(ideas.in_blocks(np.exp, x, ideas.POOL.map), np.exp(x))


@pytest.mark.parametrize("length", [5, 128, 300])
@pytest.mark.parametrize("in_place", [False, True])
def test_tiles(length, in_place):
    q, k, v = RNG.standard_normal((3, 2, length, 8))
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    np.testing.assert_allclose(ideas.tiled_attention(q, k, v, in_place), expected, atol=1e-12)
    np.testing.assert_allclose(ideas.tiled_attention(q, k, v, True, ideas.POOL.map), expected, atol=1e-12)


def test_embedding_gradients():
    ids, dy = np.array([3, 1, 3, 0, 1]), RNG.standard_normal((5, 4))
    _, cache = F.embedding_forward(ids, np.zeros((6, 4)))
    expected = F.embedding_backward(dy, cache)
    np.testing.assert_allclose(plain_numpy.embedding_gradient(ids, dy, 6), expected, atol=1e-12)
    np.testing.assert_allclose(ideas.sorted_gradient(ids, dy, 6), expected, atol=1e-12)


def test_adamw_after_many_steps():
    """After many steps the correction of the averages, which the plain step leaves out, is 1."""
    g = np.full(3, 0.5)
    parameter = Parameter(np.ones(3))
    parameter.grad = g
    optimizer = AdamW({"w": parameter}, 0.1, (0.5, 0.5), 1e-8, 0.1)
    w, m, v = np.ones(3), np.zeros(3), np.zeros(3)
    for _ in range(80):
        optimizer.step()
    for _ in range(80):
        plain_numpy.adamw(w, g, m, v, 0.1, 0.5, 0.5, 1e-8, 0.1)
    before = parameter.data.copy()
    optimizer.step()
    plain_numpy.adamw(before, g, m, v, 0.1, 0.5, 0.5, 1e-8, 0.1)
    np.testing.assert_allclose(before, parameter.data, rtol=1e-9)
