"""The initial weights of every layer."""

import numpy as np
import pytest

from npllm import attention, before_transformers, layers

LAYERS = {  # constructor arguments; large enough that a distribution shows
    layers.Linear: (20, 30),
    layers.Embedding: (20, 30),
    layers.LearnedPositionalEmbedding: (20, 30),
    layers.TokenPositionEmbedding: (20, 20, 30),
    layers.LayerNorm: (20,),
    layers.RMSNorm: (20,),
    layers.FeedForward: (20,),
    layers.GatedFeedForward: (20,),
    layers.MixtureOfExperts: (20, 3),
    attention.SelfAttentionV1: (20, 30),
    attention.SelfAttentionV2: (20, 30, True),
    attention.CausalAttention: (20, 30, 8, 0.0, True),
    attention.MultiHeadAttentionWrapper: (20, 30, 8, 0.0, 2, True),
    attention.MultiHeadAttention: (20, 30, 8, 0.0, 2, True),
    attention.CausalSelfAttention: (20, 8, 0.0, 2),
    attention.CrossAttention: (20, 2, 30, 0.0, True),
    before_transformers.RNN: (20, 30),
    before_transformers.GRU: (20, 30),
    before_transformers.LSTM: (20, 30),
    before_transformers.AdditiveAttention: (20, 30, 40),
    before_transformers.GeneralAttention: (20, 30),
    before_transformers.ConcatAttention: (20, 30, 40),
}
NORMS = [layers.LayerNorm, layers.RMSNorm]
NORMAL = [layers.Embedding, layers.LearnedPositionalEmbedding, layers.TokenPositionEmbedding]
UNIFORM = [layer for layer in LAYERS if layer not in (*NORMS, *NORMAL, attention.SelfAttentionV1)]
DRAWN = [layer for layer in LAYERS if layer not in NORMS]


def arrays(layer):
    """Copies of all parameters by name."""
    return {name: array.copy() for name, array in layer.state_dict().items()}


@pytest.mark.parametrize("layer_class", UNIFORM)
def test_uniform_initial_values_fill_an_interval_around_zero(layer_class):
    for name, array in arrays(layer_class(*LAYERS[layer_class], rng=np.random.default_rng(0))).items():
        bound = np.abs(array).max()
        assert bound <= 1.0, name
        assert array.min() < -0.7 * bound, name  # of 20 or more draws, none in that part: less than 1 of 25
        assert array.max() > 0.7 * bound, name
        assert np.abs(array.mean()) < 0.5 * bound, name
        if array.size >= 400:
            assert np.abs(array.mean()) < 0.1 * bound, name  # standard error 0.03
            assert array.std() == pytest.approx(bound / np.sqrt(3), rel=0.1), name


@pytest.mark.parametrize("layer_class", NORMAL)
def test_embeddings_start_standard_normal(layer_class):
    for name, array in arrays(layer_class(*LAYERS[layer_class], rng=np.random.default_rng(0))).items():
        assert abs(array.mean()) < 0.15, name
        assert array.std() == pytest.approx(1.0, rel=0.1), name
        assert (array < -2).any(), name
        assert (array > 2).any(), name


@pytest.mark.parametrize("layer_class", DRAWN)
def test_the_generator_decides_the_weights(layer_class):
    one, same, other = (
        arrays(layer_class(*LAYERS[layer_class], rng=np.random.default_rng(seed))) for seed in (0, 0, 1)
    )
    for name, array in one.items():
        np.testing.assert_array_equal(array, same[name], err_msg=name)
        assert (array != other[name]).any(), name


def test_layers_without_a_generator_differ():
    assert (layers.Linear(3, 2).weight.data != layers.Linear(3, 2).weight.data).any()


@pytest.mark.parametrize("layer_class", LAYERS)
def test_init_weights_draws_what_the_constructor_draws(layer_class):
    rng = np.random.default_rng(0)
    layer = layer_class(*LAYERS[layer_class], rng=rng)
    first = arrays(layer)
    layer.init_weights(rng)
    for name, array in arrays(layer).items():
        assert layer_class in NORMS or (array != first[name]).any(), name
    layer.init_weights(np.random.default_rng(0))
    for name, array in arrays(layer).items():
        np.testing.assert_array_equal(array, first[name], err_msg=name)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_init_false_gives_zeros_and_draws_nothing(layer_class):
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    layer = layer_class(*LAYERS[layer_class], rng=rng, dtype="float64", init=False)
    assert rng.bit_generator.state == before
    for name, array in arrays(layer).items():
        assert array.dtype == np.float64, name
        assert not array.any(), name


@pytest.mark.parametrize("layer_class", LAYERS)
def test_the_float32_weights_are_the_float64_weights_rounded(layer_class):
    single, double = (
        arrays(layer_class(*LAYERS[layer_class], rng=np.random.default_rng(0), dtype=dtype))
        for dtype in ("float32", "float64")
    )
    for name, array in single.items():
        assert array.dtype == np.float32, name
        np.testing.assert_array_equal(array, double[name].astype(np.float32), err_msg=name)


def test_the_padding_row_is_zero_again_after_init_weights():
    layer = layers.Embedding(4, 3, padding_idx=-3, rng=np.random.default_rng(0))
    layer.weight.data[...] = 7
    layer.init_weights(np.random.default_rng(0))
    assert (layer.weight.data == 0).all(axis=1).tolist() == [False, True, False, False]


def test_norms_start_as_the_identity_after_normalization():
    for norm in (layers.LayerNorm(5), layers.RMSNorm(5)):
        assert (norm.weight.data == 1).all()
    assert (layers.LayerNorm(5).bias.data == 0).all()
