import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm.core.gradient_check import check_layer_gradients
from npllm.layers import FeedForward
from npllm.layers.activations import ACTIVATIONS
from tests.equivalence import check_layer, implementation
from tests.strategies import arrays, dtypes, leading, sizes

NAME = "FeedForward"
pytestmark = pytest.mark.covers(NAME)


@given(st.data(), dtypes, leading, sizes, st.none() | sizes, st.sampled_from(list(ACTIVATIONS)), st.booleans())
def test_equals_pytorch(data, dtype, batch, channels, hidden, activation, bias):
    x = data.draw(arrays((*batch, channels), dtype, scale=3.0))
    config = {"d_model": channels, "d_hidden": hidden, "activation": activation, "bias": bias}
    check_layer(NAME, config, x, dtype=dtype)


def test_defaults_equal_those_of_the_reference():
    check_layer(NAME, {"d_model": 5}, np.random.default_rng(0).standard_normal((2, 5)), dtype="float64")


def test_an_unknown_activation():
    with pytest.raises(ValueError, match="activation is 'swish'; it must be one of relu, squared_relu, sigmoid"):
        FeedForward(4, activation="swish")


def test_equals_the_layer_of_gpt2():
    from transformers.models.gpt2.modeling_gpt2 import GPT2MLP, GPT2Config

    layer = implementation(NAME)(6, 10, rng=np.random.default_rng(0), dtype="float64")
    reference = GPT2MLP(10, GPT2Config(n_embd=6)).double().eval()
    state = layer.state_dict()  # GPT-2's Conv1D has the transposed weight
    reference.load_state_dict(
        {name: torch.tensor(array.T if name.endswith("weight") else array) for name, array in state.items()}
    )
    x = np.random.default_rng(1).standard_normal((2, 5, 6))
    np.testing.assert_allclose(layer(x), reference(torch.tensor(x)).detach(), rtol=1e-12)


def test_finite_differences():
    rng = np.random.default_rng(0)
    layer, x = implementation(NAME)(3, rng=rng, dtype="float64"), rng.standard_normal((2, 4, 3))
    check_layer_gradients(layer, [x], rng)


def test_d_hidden_is_four_times_d_model():
    assert FeedForward(6).c_fc.weight.shape == (24, 6)
