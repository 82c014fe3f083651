"""Configurations refuse values of another type, and of sizes that no model has."""

import numpy as np
import pytest

from npllm.models import GPT, Decoder, DecoderConfig, GPTConfig
from npllm.models.decoder_config import MLP, GatedMLP, MoE, Norm

SIZES = {"vocab_size": 11, "context_length": 8, "d_model": 8, "num_layers": 1}


@pytest.mark.parametrize("config", [GPTConfig, DecoderConfig])
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", ["768", 2.0, True, None, float("nan"), [8], 0, -1, 2**31, 10**30, np.array([8])])
def test_sizes_are_integers_that_a_model_can_have(config, name, value):
    with pytest.raises((TypeError, ValueError), match=f"{name} is .*; it must be"):
        config(**SIZES | {name: value})


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        (GPTConfig, "num_heads", 2.0), (GPTConfig, "d_hidden", "8"), (GPTConfig, "tied", 1),
        (GPTConfig, "qkv_bias", "no"), (GPTConfig, "layer_norm_eps", "1e-5"), (GPTConfig, "layer_norm_eps", np.inf),
        (GPTConfig, "layer_norm_eps", -1.0), (GPTConfig, "attention_dropout", "0.1"),
        (GPTConfig, "attention_dropout", np.nan),
        (DecoderConfig, "dropout", None), (DecoderConfig, "logits_softcap", np.nan), (DecoderConfig, "tied", None),
        (DecoderConfig, "aux_loss_coef", "1"), (DecoderConfig, "embedding_multiplier", True),
    ],
)  # fmt: skip
def test_other_fields(config, name, value):
    with pytest.raises((TypeError, ValueError), match=f"{name} is .*; it must be"):
        config(**SIZES | {name: value})


@pytest.mark.parametrize(
    "make",
    [lambda: Norm(eps="8"), lambda: Norm(eps=-1.0), lambda: Norm(bias=1), lambda: MLP("8"), lambda: GatedMLP(2.0),
     lambda: GatedMLP(activation="none"), lambda: MoE(2.0), lambda: MoE(2, 3), lambda: MoE(2, norm_topk_prob=1)],
)  # fmt: skip
def test_the_parts_of_a_decoder(make):
    with pytest.raises((TypeError, ValueError), match="it must be|must be one of"):
        make()


@pytest.mark.parametrize("dtype", ["bfloat16", "fp16", "float16", np.float16, np.int64, object, None, 5, [1]])
@pytest.mark.parametrize(("model", "config"), [(GPT, GPTConfig), (Decoder, DecoderConfig)])
def test_the_dtype_of_a_model(model, config, dtype):
    with pytest.raises(ValueError, match='dtype is .*; it must be "float32" or "float64"'):
        model(config(**SIZES | ({"num_heads": 2} if model is GPT else {})), dtype=dtype)


@pytest.mark.parametrize(("model", "name"), [(GPT, "GPTConfig"), (Decoder, "DecoderConfig")])
@pytest.mark.parametrize("config", [None, 5, SIZES])
def test_the_configuration_of_a_model(model, name, config):
    with pytest.raises(TypeError, match=f"config is .*; it must be a {name}"):
        model(config)
