import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from npllm.models import ARCHITECTURES, GPT, Decoder, GPTConfig, architecture, build, from_pretrained
from npllm.models.presets import config_as_dict, config_from_dict

SIZES = {"vocab_size": 11, "context_length": 8, "d_model": 16, "num_layers": 2, "num_heads": 2}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_built_saved_and_loaded(tmp_path, name):
    config = architecture(name, **SIZES, dropout=0.1)
    assert config_from_dict(json.loads(json.dumps(config_as_dict(config)))) == config
    model = build(config, rng=np.random.default_rng(0))
    assert isinstance(model, GPT if name == "gpt" else Decoder)
    model.save_pretrained(tmp_path)
    ids = np.arange(7)[None]
    np.testing.assert_array_equal(from_pretrained(tmp_path)(ids), model(ids))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_sizes_equal_the_requested_ones(name):
    config = architecture(name, **SIZES, dropout=0.1)
    for field in ("vocab_size", "context_length", "d_model", "num_layers"):
        assert getattr(config, field) == SIZES[field]
    assert (config.residual_dropout if isinstance(config, GPTConfig) else config.dropout) == 0.1


PUBLISHED = {
    "llama": "llama", "mistral": "mistral", "qwen": "qwen3", "mixtral": "mixtral", "olmo2": "olmo2", "neox": "gpt_neox",
    "smollm3": "smollm3", "gemma2": "gemma2", "gemma3": "gemma3_text",
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_transformers_opens_the_architectures_that_it_has(tmp_path, name):
    model = build(architecture(name, **SIZES | {"num_layers": 6}), rng=np.random.default_rng(0))
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == PUBLISHED[name]
    reference, ids = AutoModelForCausalLM.from_pretrained(tmp_path).eval(), np.arange(8)[None]
    np.testing.assert_allclose(model(ids), reference(torch.tensor(ids)).logits.detach(), rtol=1e-4, atol=1e-5)


def test_lambda_grows_with_the_layer():
    """The schedule of Ye et al., section 2.1, for layers counted from 1."""
    model = build(architecture("differential", **SIZES | {"d_model": 12, "num_layers": 3, "num_heads": 6}))
    for number, layer in enumerate(model.layers, start=1):
        assert layer.self_attn.lambda_init == pytest.approx(0.8 - 0.6 * np.exp(-0.3 * (number - 1)))
        assert layer.self_attn.num_heads == 3
    with pytest.raises(ValueError, match="num_heads is 3; for differential attention it must be even"):
        architecture("differential", **SIZES | {"num_heads": 3})


def test_unknown_names(tmp_path):
    with pytest.raises(ValueError, match="architecture is 'rnn'; it must be one of gpt, llama"):
        architecture("rnn", **SIZES)
    with pytest.raises(ValueError, match="model has the type 'RNNConfig'; it must be GPTConfig or DecoderConfig"):
        config_from_dict({"type": "RNNConfig"})
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match='has model_type "bert"; it must be one of gpt2, llama'):
        from_pretrained(tmp_path)
