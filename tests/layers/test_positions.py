import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import torch_ref.functional
from npllm import functional as F
from npllm.layers import LearnedPositionalEmbedding, SinusoidalPositionalEncoding, TokenPositionEmbedding
from tests.equivalence import check_layer, implementation
from tests.strategies import dtypes, integers, leading, sizes


@given(st.integers(0, 300), st.integers(1, 33), st.sampled_from([100.0, 10000.0]))
def test_equals_pytorch(num_positions, d_model, base):
    ours = F.sinusoidal_positions(num_positions, d_model, base, np.float64)
    theirs = torch_ref.functional.sinusoidal_positions(num_positions, d_model, base, torch.float64)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    assert F.sinusoidal_positions(num_positions, d_model).dtype == np.float32


def test_formula_one_entry_at_a_time():
    table = F.sinusoidal_positions(20, 6, dtype=np.float64)
    for t in range(20):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            assert table[t, 2 * i] == pytest.approx(math.sin(angle), abs=1e-14)
            assert table[t, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-14)


def test_the_product_of_two_positions_depends_on_their_distance_only():
    table = F.sinusoidal_positions(50, 8, dtype=np.float64)
    products = table @ table.T
    for step in range(10):
        np.testing.assert_allclose(np.diagonal(products, step), products[0, step], atol=1e-12)


def test_all_positions_differ():
    assert len(np.unique(F.sinusoidal_positions(5000, 16), axis=0)) == 5000


@pytest.mark.covers("LearnedPositionalEmbedding", "SinusoidalPositionalEncoding")
@given(dtypes, st.integers(0, 8), sizes)
def test_layers_equal_pytorch(dtype, num_positions, channels):
    check_layer("LearnedPositionalEmbedding", {"context_length": 8, "d_model": channels}, num_positions, dtype=dtype)
    check_layer("SinusoidalPositionalEncoding", {"d_model": channels}, num_positions, dtype=dtype)


@pytest.mark.covers("TokenPositionEmbedding")
@given(st.data(), dtypes, leading, sizes, sizes, st.sampled_from(["learned", "sinusoidal"]))
def test_token_position_embedding_equals_pytorch(data, dtype, batch, rows, channels, positions):
    config = {"vocab_size": rows, "context_length": 6, "d_model": channels, "positions": positions}
    ids = data.draw(integers((*batch, data.draw(st.integers(1, 6))), rows))
    check_layer("TokenPositionEmbedding", config, ids, dtype=dtype)


@pytest.mark.covers("TokenPositionEmbedding")
def test_the_gradient_of_a_position_is_summed_over_the_batch():
    layer = implementation("TokenPositionEmbedding")(5, 4, 2, rng=np.random.default_rng(0), dtype="float64")
    _, cache = layer.forward(np.array([[0, 1], [2, 3], [0, 0]]))
    dy = np.arange(12.0).reshape(3, 2, 2)
    layer.backward(dy, cache)
    np.testing.assert_array_equal(layer.wpe.weight.grad, [[12, 15], [18, 21], [0, 0], [0, 0]])
    np.testing.assert_array_equal(layer.wte.weight.grad, [[18, 21], [2, 3], [4, 5], [6, 7], [0, 0]])


def test_the_output_is_no_view_of_the_weight():
    layer = LearnedPositionalEmbedding(4, 2, rng=np.random.default_rng(0))
    assert not np.may_share_memory(layer(3), layer.weight.data)


def test_invalid_arguments():
    with pytest.raises(ValueError, match="num_positions is -1 and d_model 4"):
        F.sinusoidal_positions(-1, 4)
    with pytest.raises(ValueError, match="num_positions is 3 and d_model 0"):
        F.sinusoidal_positions(3, 0)
    with pytest.raises(ValueError, match="d_model is 0; it must be at least 1"):
        SinusoidalPositionalEncoding(0)
    with pytest.raises(ValueError, match="the sequence has 5 positions; it must have at most 4"):
        LearnedPositionalEmbedding(4, 2)(5)
    with pytest.raises(ValueError, match="the sequence has 5 positions; it must have at most 4"):
        TokenPositionEmbedding(9, 4, 2)(np.zeros((2, 5), int))
    with pytest.raises(ValueError, match="ids is a single number"):
        TokenPositionEmbedding(9, 4, 2)(3)
    with pytest.raises(ValueError, match="positions is 'none'; it must be"):
        TokenPositionEmbedding(9, 4, 2, positions="none")
