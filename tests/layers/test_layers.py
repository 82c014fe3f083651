"""Every layer against its twin; what the functions below them do is tested in tests/layers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm.layers import Dropout, Embedding, LayerNorm, LearnedPositionalEmbedding, Linear, TokenPositionEmbedding
from tests.equivalence import check_layer, implementation
from tests.strategies import arrays, dtypes, integers, leading, sizes


@pytest.mark.covers("Linear")
@given(st.data(), dtypes, leading, sizes, sizes, st.booleans())
def test_linear(data, dtype, batch, inputs, outputs, bias):
    config = {"in_features": inputs, "out_features": outputs, "bias": bias}
    check_layer("Linear", config, data.draw(arrays((*batch, inputs), dtype)), dtype=dtype)


@pytest.mark.covers("Embedding")
@given(st.data(), dtypes, leading, sizes, sizes)
def test_embedding(data, dtype, batch, rows, channels):
    config = {"num_embeddings": rows, "embedding_dim": channels}
    config["padding_idx"] = data.draw(st.none() | st.integers(0, rows - 1))
    check_layer("Embedding", config, data.draw(integers((*batch, 5), rows)), dtype=dtype)


@pytest.mark.covers("LearnedPositionalEmbedding", "SinusoidalPositionalEncoding")
@given(dtypes, st.integers(0, 8), sizes)
def test_positions(dtype, num_positions, channels):
    check_layer("LearnedPositionalEmbedding", {"context_length": 8, "d_model": channels}, num_positions, dtype=dtype)
    check_layer("SinusoidalPositionalEncoding", {"d_model": channels}, num_positions, dtype=dtype)


@pytest.mark.covers("TokenPositionEmbedding")
@given(st.data(), dtypes, leading, sizes, sizes, st.sampled_from(["learned", "sinusoidal"]))
def test_token_position_embedding(data, dtype, batch, rows, channels, positions):
    config = {"vocab_size": rows, "context_length": 6, "d_model": channels, "positions": positions}
    ids = data.draw(integers((*batch, data.draw(st.integers(1, 6))), rows))
    check_layer("TokenPositionEmbedding", config, ids, dtype=dtype)


@pytest.mark.covers("LayerNorm")
@given(st.data(), dtypes, leading, st.integers(2, 9), st.booleans())
def test_layer_norm(data, dtype, batch, channels, bias):
    x = data.draw(arrays((*batch, channels), dtype))
    # where all channels are nearly equal, 1/std is up to 300 and multiplies the rounding of the mean
    check_layer("LayerNorm", {"num_channels": channels, "bias": bias}, x, dtype=dtype, loosen=30.0)


@pytest.mark.covers("RMSNorm")
@given(st.data(), dtypes, leading, st.integers(1, 9))
def test_rms_norm(data, dtype, batch, channels):
    x = data.draw(arrays((*batch, channels), dtype))
    # of a row of tiny or no numbers, 1/rms is up to 1000 and multiplies the rounding
    check_layer("RMSNorm", {"num_channels": channels}, x, dtype=dtype, loosen=30.0)


@pytest.mark.covers("Dropout")
@given(st.data(), dtypes, leading, sizes, st.booleans())
def test_dropout(data, dtype, batch, channels, dropout):
    check_layer("Dropout", {"p": 0.4}, data.draw(arrays((*batch, channels), dtype)), dtype=dtype, dropout=dropout)


@pytest.mark.covers("FeedForward")
@given(st.data(), dtypes, leading, sizes, st.none() | sizes)
def test_feed_forward(data, dtype, batch, channels, hidden):
    x = data.draw(arrays((*batch, channels), dtype, scale=3.0))
    check_layer("FeedForward", {"d_model": channels, "d_hidden": hidden}, x, dtype=dtype)


@pytest.mark.covers("TokenPositionEmbedding")
def test_one_row_of_positions_serves_the_whole_batch():
    layer = implementation("TokenPositionEmbedding")(5, 4, 2, rng=np.random.default_rng(0), dtype="float64")
    _, cache = layer.forward(np.array([[0, 1], [2, 3], [0, 0]]))
    layer.backward(np.ones((3, 2, 2)), cache)
    np.testing.assert_array_equal(layer.wpe.weight.grad, [[3, 3], [3, 3], [0, 0], [0, 0]])
    np.testing.assert_array_equal(layer.wte.weight.grad[:, 0], [3, 1, 1, 1, 0])


def test_initial_weights_are_distributed_as_in_pytorch():
    rng = np.random.default_rng(0)
    ours = Linear(50, 400, rng=rng).weight.data
    theirs = torch.nn.Linear(50, 400).weight.detach().numpy()
    assert abs(ours).max() <= 1 / np.sqrt(50)
    assert ours.std() == pytest.approx(theirs.std(), rel=0.05)  # 20,000 draws: the standard error is half a percent
    assert Embedding(400, 50, rng=rng).weight.data.std() == pytest.approx(1, rel=0.05)
    assert (Embedding(4, 2, padding_idx=1, rng=rng).weight.data[1] == 0).all()
    assert (LayerNorm(3).weight.data == 1).all()


def test_the_generator_alone_decides_the_weights():
    one, same, other = (Linear(3, 2, rng=np.random.default_rng(seed)).weight.data for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert (Linear(3, 2).weight.data != Linear(3, 2).weight.data).any()


def test_bad_arguments():
    with pytest.raises(ValueError, match="the sequence has 5 positions; it must have at most 4"):
        LearnedPositionalEmbedding(4, 2)(5)
    with pytest.raises(ValueError, match="the sequence has 5 positions; it must have at most 4"):
        TokenPositionEmbedding(9, 4, 2)(np.zeros((2, 5), int))
    with pytest.raises(ValueError, match="ids is a single number"):
        TokenPositionEmbedding(9, 4, 2)(3)
    with pytest.raises(ValueError, match="positions is 'none'"):
        TokenPositionEmbedding(9, 4, 2, positions="none")
    with pytest.raises(ValueError, match="p is 1.0"):
        Dropout(1.0)
