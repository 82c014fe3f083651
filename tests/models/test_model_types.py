"""Model types of transformers built from the parts of a decoder: the same numbers from the same files, in both ways."""

import json

import numpy as np
import pytest
import torch
import transformers
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

from npllm.generation import complete
from npllm.layers.cross_entropy import cross_entropy_backward, cross_entropy_forward
from npllm.models import Decoder
from npllm.models.hugging_face import MODEL_TYPES
from npllm.weights.tensor_names import from_hugging_face
from tests.equivalence import torch_reference

V = 23
SHAPE = {
    "vocab_size": V, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 32, "initializer_range": 0.3,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
LONGROPE = {"rope_type": "longrope", "rope_theta": 100.0, "short_factor": [1.1, 1.3], "long_factor": [2.0, 4.0]}
YARN = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 8}
CASES = {  # name: the fields besides SHAPE
    "gemma": {"model_type": "gemma", "head_dim": 8},
    "gemma, with biases and an untied head": {
        "model_type": "gemma", "head_dim": 6, "attention_bias": True, "tie_word_embeddings": False,
        "hidden_act": "relu",
    },
    "gemma2": {
        "model_type": "gemma2", "head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 5,
        "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0,
    },
    "gemma2, without caps": {
        "model_type": "gemma2", "head_dim": 8, "sliding_window": 4, "attn_logit_softcapping": None,
        "final_logit_softcapping": None, "layer_types": ["full_attention"] * 3 + ["sliding_attention"],
    },
    "gemma3": {
        "model_type": "gemma3_text", "head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 5,
        "sliding_window_pattern": 3, "final_logit_softcapping": 3.0,
    },
    "gemma3, yarn in the full layers": {
        "model_type": "gemma3_text", "head_dim": 8, "sliding_window": 4, "sliding_window_pattern": 2,
        "rope_parameters": {"full_attention": YARN, "sliding_attention": {"rope_type": "default", "rope_theta": 50.0}},
    },
    "gemma3, no window": {"model_type": "gemma3_text", "head_dim": 8, "layer_types": ["full_attention"] * 4},
    "olmo": {"model_type": "olmo"},
    "olmo2": {"model_type": "olmo2", "attention_bias": True},
    "olmo3": {"model_type": "olmo3", "sliding_window": 4},
    "olmo3, yarn in the full layers": {
        "model_type": "olmo3", "sliding_window": 4,
        "rope_parameters": {"full_attention": YARN, "sliding_attention": {"rope_type": "default", "rope_theta": 50.0}},
    },
    "smollm3": {"model_type": "smollm3", "no_rope_layer_interval": 2, "use_sliding_window": True, "sliding_window": 4},
    "smollm3, given layers": {"model_type": "smollm3", "no_rope_layers": [0, 1, 1, 0], "mlp_bias": True},
    "phi3": {"model_type": "phi3", "partial_rotary_factor": 0.5, "sliding_window": 6},
    "phi3, longrope": {
        "model_type": "phi3", "original_max_position_embeddings": 16, "rope_parameters": LONGROPE,
        "num_key_value_heads": 4, "sliding_window": 30, "partial_rotary_factor": 1.0,
    },
    "granite": {
        "model_type": "granite", "attention_multiplier": 0.4, "embedding_multiplier": 3.0, "residual_multiplier": 0.3,
        "logits_scaling": 5.0, "attention_bias": True, "mlp_bias": True,
    },
    "gpt_neox": {"model_type": "gpt_neox", "rotary_pct": 0.5},
    "gpt_neox, one layer after the other": {
        "model_type": "gpt_neox", "rotary_pct": 1.0, "use_parallel_residual": False, "attention_bias": False,
        "hidden_act": "gelu_new", "tie_word_embeddings": True, "rotary_emb_base": 100,
    },
    "starcoder2": {"model_type": "starcoder2", "sliding_window": 5},
    "starcoder2, without biases": {"model_type": "starcoder2", "use_bias": False, "tie_word_embeddings": False},
    "cohere": {"model_type": "cohere", "logit_scale": 0.25},
    "ministral": {
        "model_type": "ministral", "head_dim": 8, "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
}  # fmt: skip


def save_random(fields, folder):
    """A random model of transformers with these fields, saved; every parameter away from ones and zeros."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(**json.loads(json.dumps(SHAPE | fields)))
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return model


def assert_equal_logits(folder):
    """The logits of npllm and of transformers for the files in the folder."""
    reference = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    ids = np.random.default_rng(0).integers(0, V, (2, 21))
    with torch.inference_mode():
        expected = reference(torch.tensor(ids)).logits.numpy()
    np.testing.assert_allclose(Decoder.from_pretrained(folder)(ids), expected, rtol=1e-4, atol=3e-5)


def edit_config(folder, changes, left_out=()):
    """Change fields of config.json, and leave some out."""
    path = folder / "config.json"
    config = {key: value for key, value in json.loads(path.read_text()).items() if key not in left_out}
    path.write_text(json.dumps(config | changes))


@pytest.mark.parametrize("name", CASES)
def test_loads_what_transformers_saves(tmp_path, name):
    """Logits, loss, the gradient of every parameter, and greedy text with the key-value cache."""
    reference = save_random(CASES[name], tmp_path)
    model = Decoder.from_pretrained(tmp_path)
    ids = np.random.default_rng(0).integers(0, V, (2, 13))
    out = reference(torch.tensor(ids), labels=torch.tensor(ids))
    out.loss.backward()
    np.testing.assert_allclose(model(ids), out.logits.detach(), rtol=1e-4, atol=2e-5)
    assert float(model.loss(ids[:, :-1], ids[:, 1:])) == pytest.approx(out.loss.item(), rel=1e-5)
    logits, cache = model.forward(ids[:, :-1])
    _, cross_entropy = cross_entropy_forward(logits, ids[:, 1:])
    model.backward(cross_entropy_backward(1.0, cross_entropy), cache)
    gradients = {key: parameter.grad.numpy() for key, parameter in reference.named_parameters()}
    gradients = from_hugging_face(tmp_path, gradients, reference.config.to_dict())
    found = {key: parameter.grad for key, parameter in model.named_parameters()}
    assert found.keys() == gradients.keys()
    for key, gradient in gradients.items():
        scale = max(1.0, np.abs(gradient).max())
        np.testing.assert_allclose(found[key], gradient, rtol=1e-3, atol=5e-5 * scale, err_msg=key)
    prompt = ids[0, :5].tolist()
    written = reference.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)
    assert complete(model, prompt, 12, temperature=0) == written[0, 5:].tolist()


@pytest.mark.parametrize("name", CASES)
def test_transformers_loads_what_npllm_saves(tmp_path, name):
    """The same tensors under the same names; a configuration that means the same."""
    reference = save_random(CASES[name], tmp_path / "theirs")
    model = Decoder.from_pretrained(tmp_path / "theirs")
    model.save_pretrained(tmp_path / "ours")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    if name != "phi3, longrope":  # a Llama with longrope is the same model
        assert type(again) is type(reference)
    ids = torch.arange(21)[None]
    with torch.inference_mode():
        torch.testing.assert_close(again(ids).logits, reference(ids).logits, rtol=1e-5, atol=2e-5)
    assert Decoder.from_pretrained(tmp_path / "ours").config == model.config


@pytest.mark.parametrize("name", CASES)
def test_the_pytorch_reference_has_the_same_logits(tmp_path, name):
    save_random(CASES[name], tmp_path)
    model = Decoder.from_pretrained(tmp_path, dtype="float64")
    reference = torch_reference("Decoder")(model.config).double().eval()
    reference.load_state_dict({name: torch.tensor(array) for name, array in model.state_dict().items()})
    ids = np.arange(21)[None]
    np.testing.assert_allclose(model(ids), reference(torch.tensor(ids)).detach(), rtol=1e-8, atol=1e-10)


OLDER_FILES = {  # fields as in files of older versions: the name of a case, changes, fields left out
    "gemma: gelu means the tanh approximation": ("gemma", {"hidden_act": "gelu", "hidden_activation": None}, ()),
    "gemma3: two thetas, a linear scaling of the full layers": (
        "gemma3",
        {"rope_theta": 1000.0, "rope_local_base_freq": 50.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
         "sliding_window_pattern": 3},
        ("rope_parameters", "layer_types"),
    ),
    "gemma3: the default thetas": ("gemma3", {}, ("rope_parameters", "layer_types", "sliding_window_pattern")),
    "gemma2: the default theta and layers": ("gemma2", {}, ("rope_parameters", "layer_types")),
    "olmo3: rope_theta and rope_scaling are those of the full layers": (
        "olmo3", {"rope_theta": 300.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        ("rope_parameters", "layer_types"),
    ),
    "olmo3: transformers ignores the older name of rope_type": (
        "olmo3", {"rope_theta": 300.0, "rope_scaling": {"type": "linear", "factor": 4.0}},
        ("rope_parameters", "layer_types"),
    ),
    "smollm3: the default theta": ("smollm3, given layers", {}, ("rope_parameters", "layer_types")),
    "phi3: su": (
        "phi3, longrope",
        {"rope_scaling": {"type": "su", "short_factor": [1.1, 1.3], "long_factor": [2.0, 4.0],
                          "original_max_position_embeddings": 16}, "rope_theta": 100.0},
        ("rope_parameters", "partial_rotary_factor"),
    ),
    "gpt_neox: rotary_pct and rotary_emb_base": (
        "gpt_neox", {"rotary_pct": 1.0, "rotary_emb_base": 100, "rope_theta": 5.0}, ("rope_parameters",)
    ),
    "gpt_neox: a quarter by default": ("gpt_neox", {"hidden_size": 16}, ("rope_parameters", "rotary_pct")),
    "cohere: the default theta": ("cohere", {}, ("rope_parameters",)),
    "granite: scaled": (
        "granite", {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 50.0}, ("rope_parameters",)
    ),
    "starcoder2: no window": ("starcoder2", {"sliding_window": None}, ()),
}  # fmt: skip


@pytest.mark.parametrize("name", OLDER_FILES)
def test_files_of_older_versions(tmp_path, name):
    case, changes, left_out = OLDER_FILES[name]
    save_random(CASES[case] | ({"num_attention_heads": 2} if "quarter" in name else {}), tmp_path)
    edit_config(tmp_path, changes, left_out)
    assert_equal_logits(tmp_path)


DERIVED = {  # fields whose default transformers derives from others, or that it does not have
    "num_key_value_heads", "head_dim", "layer_types", "no_rope_layers", "rope_parameters", "rope_scaling",
    "original_max_position_embeddings", "num_local_experts", "num_experts", "per_layer_config",
    "sliding_window", "use_bidirectional_attention", "mlp_only_layers",
}  # fmt: skip


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_fields_left_out_have_the_defaults_of_transformers(kind):
    config = CONFIG_MAPPING[kind]()
    assert MODEL_TYPES[kind].architecture in dir(transformers)
    compared = []
    for name, field in MODEL_TYPES[kind].fields.items():
        if hasattr(config, name) and name not in DERIVED:
            compared.append(name)
            assert field.convert(getattr(config, name)) == field.default, name
    assert {"vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings"} <= {*compared}


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention true; it must be null or false"),
        ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar 0; it must be a finite number at least 1e-30"),
        ("gemma3", {"layer_types": ["full_attention"]}, "1 layer_types; it must be 4"),
        ("gemma3", {"model_type": "gemma3"}, 'model_type "gemma3"; it must be llama or'),
        ("gemma3", {"sliding_window_pattern": 0}, "sliding_window_pattern 0; it must be an integer from 1"),
        ("olmo", {"clip_qkv": 8.0}, "clip_qkv 8.0; it must be null"),
        ("smollm3", {"no_rope_layers": [1]}, "1 no_rope_layers; it must be 4"),
        ("smollm3", {"no_rope_layer_interval": 0, "no_rope_layers": None}, "no_rope_layer_interval 0; it must be"),
        ("granite", {"residual_multiplier": None}, "residual_multiplier null; it must be a finite number"),
        ("gpt_neox", {"rotary_pct": 2.0}, "rotary_pct 2.0; it must be"),
        ("gpt_neox", {"hidden_size": 18}, "hidden_size 18 and num_attention_heads 4; the second must divide the first"),
        ("gpt_neox", {"num_attention_heads": 3, "hidden_size": 15}, "query_key_value.bias, which has shape"),
        ("cohere", {"use_qk_norm": True}, "use_qk_norm true; it must be false"),
        ("phi3", {"num_key_value_heads": 3}, "num_attention_heads 4 and num_key_value_heads 3"),
        ("starcoder2", {"hidden_act": "mish"}, 'hidden_act "mish"; it must be'),
    ],
)
def test_unsupported_fields_are_named(tmp_path, case, changes, message):
    save_random(CASES[case], tmp_path)
    edit_config(tmp_path, changes)
    with pytest.raises(ValueError, match=message):
        Decoder.from_pretrained(tmp_path)
