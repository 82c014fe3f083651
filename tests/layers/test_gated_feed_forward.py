import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm.core.gradient_check import check_layer_gradients
from npllm.layers.activations import ACTIVATIONS
from tests.equivalence import check_layer, implementation
from tests.strategies import arrays, dtypes, leading, sizes

NAME = "GatedFeedForward"
pytestmark = pytest.mark.covers(NAME)


activations = st.sampled_from(list(ACTIVATIONS))


@given(st.data(), dtypes, leading, sizes, sizes, st.none() | sizes, activations, st.booleans())
def test_equals_pytorch(data, dtype, batch, T, d_model, d_hidden, activation, bias):
    x = data.draw(arrays((*batch, T, d_model), dtype))
    config = {"d_model": d_model, "d_hidden": d_hidden, "activation": activation, "bias": bias}
    check_layer(NAME, config, x, dtype=dtype)


def test_defaults_equal_those_of_the_reference():
    check_layer(NAME, {"d_model": 5}, np.random.default_rng(0).standard_normal((2, 5)), dtype="float64")


def test_an_unknown_activation():
    with pytest.raises(ValueError, match="activation is 'swish'; it must be one of relu, squared_relu, sigmoid"):
        implementation(NAME)(4, activation="swish")


def test_equals_the_layer_of_llama():
    from transformers.models.llama.modeling_llama import LlamaConfig, LlamaMLP

    layer = implementation(NAME)(6, 10, rng=np.random.default_rng(0), dtype="float64")
    reference = LlamaMLP(LlamaConfig(hidden_size=6, intermediate_size=10, num_attention_heads=2)).double()
    reference.load_state_dict({name: torch.tensor(array) for name, array in layer.state_dict().items()})
    x = np.random.default_rng(1).standard_normal((2, 5, 6))
    np.testing.assert_allclose(layer(x), reference(torch.tensor(x)).detach(), rtol=1e-12)


def test_equals_the_layer_of_gemma():
    from transformers.models.gemma2.modeling_gemma2 import Gemma2Config, Gemma2MLP

    layer = implementation(NAME)(6, 10, "gelu_tanh", rng=np.random.default_rng(0), dtype="float64")
    reference = Gemma2MLP(Gemma2Config(hidden_size=6, intermediate_size=10, num_attention_heads=2)).double()
    reference.load_state_dict({name: torch.tensor(array) for name, array in layer.state_dict().items()})
    x = np.random.default_rng(1).standard_normal((2, 5, 6))
    np.testing.assert_allclose(layer(x), reference(torch.tensor(x)).detach(), rtol=1e-12)


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_finite_differences(activation):
    rng = np.random.default_rng(0)
    layer, x = (
        implementation(NAME)(4, activation=activation, bias=True, rng=rng, dtype="float64"),
        rng.standard_normal((3, 4)),
    )
    check_layer_gradients(layer, [x], rng)


@pytest.mark.parametrize(("d_model", "d_hidden"), [(3, 8), (12, 32), (10, 28)])
def test_d_hidden_is_eight_thirds_of_d_model_rounded_up_to_even(d_model, d_hidden):
    assert implementation(NAME)(d_model).gate_proj.weight.shape == (d_hidden, d_model)
