"""Llama, Mistral, Qwen and Mixtral in transformers: the same files, the same numbers."""

import json

import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from npllm import functional as F
from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.options import QKNorm, SlidingWindow
from npllm.attention.variants.relative_bias import ALiBi
from npllm.attention.variants.rope import RoPE
from npllm.attention.variants.rope_scaling import NTKScaling
from npllm.attention.variants.shaw import Shaw
from npllm.generation import complete
from npllm.models import Decoder, DecoderConfig
from npllm.models.decoder_config import MLP, GatedMLP, MoE, Norm
from tests.equivalence import torch_reference

SHAPE = {
    "vocab_size": 23, "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 32, "initializer_range": 0.3,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None, "attn_implementation": "eager",
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "original_max_position_embeddings": 16,
          "low_freq_factor": 1.0, "high_freq_factor": 4.0}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 8}
RELATIVES = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "llama, tied": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": True}),
    "llama, as many key heads": (
        LlamaConfig, LlamaForCausalLM, {"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": None}
    ),
    "llama 3.1": (LlamaConfig, LlamaForCausalLM, {"rope_parameters": LLAMA3}),
    "llama, yarn": (LlamaConfig, LlamaForCausalLM, {"rope_parameters": YARN}),
    "llama, interpolated": (
        LlamaConfig, LlamaForCausalLM,
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 4.0}},
    ),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": 4}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"tie_word_embeddings": True}),
    "mixtral": (MixtralConfig, MixtralForCausalLM, {"num_local_experts": 4}),
    "qwen3, experts": (
        Qwen3MoeConfig, Qwen3MoeForCausalLM,
        {"num_experts": 4, "num_experts_per_tok": 3, "moe_intermediate_size": 8, "norm_topk_prob": True},
    ),
    "qwen3, experts not normalized": (
        Qwen3MoeConfig, Qwen3MoeForCausalLM,
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "norm_topk_prob": False},
    ),
}  # fmt: skip


def save_random(name, folder):
    """A random model of transformers, saved; every parameter away from ones and zeros."""
    config_class, model_class, changes = RELATIVES[name]
    torch.manual_seed(0)
    model = model_class(config_class(**SHAPE | changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("name", RELATIVES)
def test_loads_what_transformers_saves(tmp_path, name):
    reference = save_random(name, tmp_path)
    model = Decoder.from_pretrained(tmp_path)
    ids = np.random.default_rng(0).integers(0, 23, (2, 13))
    out = reference(torch.tensor(ids), labels=torch.tensor(ids))
    out.loss.backward()
    np.testing.assert_allclose(model(ids), out.logits.detach(), rtol=1e-4, atol=2e-5)
    assert float(model.loss(ids[:, :-1], ids[:, 1:])) == pytest.approx(out.loss.item(), rel=1e-5)
    logits, cache = model.forward(ids[:, :-1])  # without the routers' loss, which transformers leaves out here, too
    _, cross_entropy = F.cross_entropy_forward(logits, ids[:, 1:])
    model.backward(F.cross_entropy_backward(1.0, cross_entropy), cache)
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    checked = 0
    for key, parameter in reference.named_parameters():
        key = key.removeprefix("model.")
        if key in found:  # in memory transformers keeps experts in one tensor
            gradient = parameter.grad.numpy()
            scale = max(1.0, np.abs(gradient).max())
            np.testing.assert_allclose(found[key], gradient, rtol=1e-3, atol=5e-5 * scale, err_msg=key)
            checked += 1
    assert checked >= 20
    prompt = ids[0, :5].tolist()
    written = reference.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)
    assert complete(model, prompt, 12, temperature=0) == written[0, 5:].tolist()


@pytest.mark.parametrize("name", RELATIVES)
def test_transformers_loads_what_npllm_saves(tmp_path, name):
    reference = save_random(name, tmp_path / "theirs")
    model = Decoder.from_pretrained(tmp_path / "theirs")
    model.save_pretrained(tmp_path / "ours")
    again = type(reference).from_pretrained(tmp_path / "ours").eval()
    ids = torch.arange(13)[None]
    with torch.inference_mode():
        torch.testing.assert_close(again(ids).logits, reference(ids).logits, rtol=1e-5, atol=2e-5)
    kinds = [json.loads((tmp_path / who / "config.json").read_text())["model_type"] for who in ("theirs", "ours")]
    assert kinds[0] == kinds[1]


def test_the_pytorch_reference_has_the_same_logits(tmp_path):
    save_random("qwen3", tmp_path)
    model = Decoder.from_pretrained(tmp_path)
    reference = torch_reference("Decoder")(model.config).eval()
    reference.load_state_dict({name: torch.tensor(array) for name, array in model.state_dict().items()})
    ids = np.arange(13)[None]
    np.testing.assert_allclose(model(ids), reference(torch.tensor(ids)).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mistral", "qwen2", "qwen3", "mixtral"])
def test_fields_left_out_have_the_defaults_of_transformers(tmp_path, name):
    config_class, model_class, changes = RELATIVES[name]
    heads = {"num_attention_heads": 32, "num_key_value_heads": config_class().num_key_value_heads, "head_dim": None}
    shape = SHAPE | changes | heads | {"hidden_size": 128, "initializer_range": 0.05}
    for left_out in ("head_dim", "sliding_window", "max_window_layers", "num_key_value_heads"):
        shape.pop(left_out, None)
    reference = model_class(config_class(**shape)).eval()
    reference.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for left_out in ("head_dim", "sliding_window", "max_window_layers", "num_key_value_heads", "rope_parameters",
                     "layer_types"):  # fmt: skip
        config.pop(left_out, None)
    path.write_text(json.dumps(config))
    ids = np.arange(13)[None]
    with torch.inference_mode():
        expected = reference(torch.tensor(ids)).logits
    np.testing.assert_allclose(Decoder.from_pretrained(tmp_path)(ids), expected, rtol=1e-4, atol=2e-5)


def test_numpy_numbers_in_a_configuration_are_saved(tmp_path):
    config = DecoderConfig(np.int64(11), np.uint8(16), 8, np.int32(1), dropout=np.float32(0.25), tied=np.bool_(True))
    Decoder(config, rng=np.random.default_rng(0)).save_pretrained(tmp_path)
    assert Decoder.from_pretrained(tmp_path).config.dropout == 0.25


def test_rope_fields_of_older_files(tmp_path):
    reference = save_random("llama 3.1", tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    path.write_text(json.dumps(config))
    ids = np.arange(13)[None]
    np.testing.assert_allclose(
        Decoder.from_pretrained(tmp_path)(ids), reference(torch.tensor(ids)).logits.detach(), rtol=1e-4, atol=2e-5
    )


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "llama"),
        ({"attention": GQA(2, rope=RoPE(layout="pairs"))}, None),
        ({"attention": GQA(2, relative_bias=ALiBi())}, None),
        ({"attention": GQA(2)}, "smollm3"),
        ({"attention": GQA(2, rope=RoPE(), qk_norm=QKNorm())}, "qwen3"),
        ({"attention": GQA(2, rope=RoPE(), qk_norm=QKNorm(1e-3))}, None),
        ({"attention": GQA(2, rope=RoPE(), qkv_bias=True)}, "qwen2"),
        ({"attention": GQA(2, rope=RoPE(), window=SlidingWindow(3))}, "mistral"),
        ({"attention": GQA(2, rope=RoPE(), window=SlidingWindow(3, 1))}, None),
        ({"attention": GQA(2, rope=RoPE(partial_rotary_factor=0.5))}, "phi3"),
        ({"attention": GQA(2, rope=RoPE(scaling=NTKScaling(2.0)))}, None),
        ({"attention": GQA(2, rope=RoPE(), softcap=5.0)}, None),
        ({"attention": GQA(2, rope=RoPE(), output_gate=True)}, None),
        ({"attention": (GQA(2, rope=RoPE()), GQA(2, rope=RoPE(1e6)))}, None),
        ({"dropout": 0.1, "aux_loss_coef": 0.5}, "llama"),
        ({"attention": Shaw(2)}, None),
        ({"feed_forward": MLP()}, None),
        ({"feed_forward": (GatedMLP(), GatedMLP(9))}, None),
        ({"feed_forward": MoE(num_experts=3)}, "mixtral"),
        ({"feed_forward": MoE(num_experts=3, norm_topk_prob=False)}, None),
        ({"positions": "learned"}, None),
        ({"norm": Norm("layer_norm")}, None),
    ],
)
def test_a_saved_decoder_is_loaded_again(tmp_path, changes, kind):
    """And never under a model_type of transformers that would mean another model."""
    plain = {"vocab_size": 11, "context_length": 16, "d_model": 8, "num_layers": 2}
    config = DecoderConfig(**plain | {"attention": GQA(2, rope=RoPE())} | changes)
    model = Decoder(config, rng=np.random.default_rng(0))
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == (kind or "npllm_decoder")
    again, ids = Decoder.from_pretrained(tmp_path), np.arange(9)[None]
    np.testing.assert_array_equal(again(ids), model(ids))
    assert (again.config.dropout, again.config.aux_loss_coef) == (config.dropout, config.aux_loss_coef)
    if kind is None:
        assert again.config == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt_oss"}, 'has model_type "gpt_oss"; it must be llama or'),
        ({"hidden_act": "mish"}, 'has hidden_act "mish"; it must be "'),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 3, "layer_types": ["full_attention"]},
            "has 1 layer_types; it must be 3",
        ),
        ({"attention_bias": True}, "layers.0.self_attn.k_proj.bias, .* are missing"),
        ({"rope_parameters": {"rope_type": "mrope"}}, 'has rope_parameters.rope_type "mrope"; it must be "default" or'),
        (
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "mscale": "1"}},
            'has rope_[a-z]*.mscale "1"; it must be a finite',
        ),
        (
            {"rms_norm_eps": None, "hidden_size": "16"},
            'hidden_size "16"; it must .* It has rms_norm_eps null; it must be',
        ),
    ],
)
def test_unsupported_fields_are_named(tmp_path, change, message):
    save_random("llama", tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        Decoder.from_pretrained(tmp_path)


def test_missing_fields_and_files(tmp_path):
    save_random("llama", tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["hidden_size"]
    path.write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match="embed_tokens.weight with shape .23, 12.; by its config.json it must be .23, 4096."
    ):
        Decoder.from_pretrained(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="there is no .*config.json"):
        Decoder.from_pretrained(tmp_path)
