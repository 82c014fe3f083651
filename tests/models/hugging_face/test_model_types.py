"""config.json of Llama, Mistral, Qwen, Mixtral: npllm's numbers are those of transformers, or the file is refused."""

import json

import numpy as np
import pytest
import torch

from npllm.models.hugging_face import MODEL_TYPES
from npllm.models.presets import from_pretrained
from tests.weights.published import BASE, LLAMA, compare, random_model, rewrite_config, rewrite_tensors, write_folder

TYPES = {
    "llama": LLAMA,
    "mistral": BASE | {"model_type": "mistral", "head_dim": 8, "sliding_window": 8},
    "ministral": BASE | {"model_type": "ministral", "head_dim": 8, "sliding_window": 8},
    "qwen2": BASE | {"model_type": "qwen2"},
    "qwen3": BASE | {"model_type": "qwen3", "head_dim": 16},
    "mixtral": BASE | {"model_type": "mixtral", "num_local_experts": 4},
    "qwen3_moe": BASE | {
        "model_type": "qwen3_moe", "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
    },
}  # fmt: skip
ALTERNATING = ["full_attention", "sliding_attention", "full_attention"]


@pytest.mark.parametrize("kind", TYPES)
def test_the_numbers_are_those_of_transformers(tmp_path, kind):
    compare(write_folder(tmp_path, TYPES[kind]), max_new_tokens=12)


@pytest.mark.parametrize("layer_types", [ALTERNATING, ["full_attention"] * 3, ["sliding_attention"] * 3, None])
def test_a_mistral_with_layer_types_is_a_ministral(tmp_path, layer_types):
    compare(write_folder(tmp_path, TYPES["mistral"] | {"layer_types": layer_types}), max_new_tokens=12)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
@pytest.mark.parametrize(
    "changes",
    [
        {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
        {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 28},
        {"use_sliding_window": True, "sliding_window": None},
        {"use_sliding_window": False, "sliding_window": 6, "max_window_layers": 0},
        {"use_sliding_window": True, "sliding_window": 6, "layer_types": ALTERNATING},
        {"layer_types": ["attention"] * 3},
        {"layer_types": None, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 0},
    ],
)
def test_windows_of_qwen(tmp_path, kind, changes):
    compare(write_folder(tmp_path, TYPES[kind] | changes))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {"attention_bias": True}),
        ("llama", {"mlp_bias": True}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
        ("qwen3", {"attention_bias": True}),
        ("qwen3_moe", {"attention_bias": True}),
        ("qwen2", {"attention_bias": False}),  # no field of qwen2: its biases are always there
        ("mistral", {"attention_bias": True}),  # nor of mistral, which never has any
    ],
)
def test_biases(tmp_path, kind, changes):
    compare(write_folder(tmp_path, TYPES[kind] | changes))


@pytest.mark.parametrize(
    "name",
    ["gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "quick_gelu", "relu", "relu2", "silu", "swish", "tanh"],
)
def test_activations_of_the_gate(tmp_path, name):
    compare(write_folder(tmp_path, LLAMA | {"hidden_act": name}))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("mixtral", {"hidden_act": "gelu"}),
        ("mixtral", {"num_experts": 5}),  # another name of num_local_experts, which counts before it
        ("mixtral", {"num_experts_per_tok": 3}),
        ("mixtral", {"sliding_window": 6}),
        ("qwen3_moe", {"hidden_act": "relu"}),
        ("qwen3_moe", {"num_local_experts": 5}),
        ("qwen3_moe", {"norm_topk_prob": True}),
        ("qwen3_moe", {"mlp_only_layers": [1]}),
        ("qwen3_moe", {"decoder_sparse_step": 2}),
        ("qwen3_moe", {"decoder_sparse_step": 2, "mlp_only_layers": [0, 7]}),
        ("qwen3_moe", {"use_sliding_window": True, "sliding_window": 6}),
    ],
)
def test_experts(tmp_path, kind, changes):
    compare(write_folder(tmp_path, TYPES[kind] | changes), max_new_tokens=8)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {"head_dim": None}),
        ("llama", {"head_dim": 6}),
        ("llama", {"num_key_value_heads": None}),
        ("qwen2", {"num_key_value_heads": None, "head_dim": 16}),
        ("qwen3", {"num_key_value_heads": None}),
        ("mixtral", {"head_dim": None}),
        ("mistral", {"head_dim": None, "sliding_window": None}),
        ("llama", {"sliding_window": 4, "layer_types": ["sliding_attention"] * 3}),  # no fields of llama
    ],
)
def test_heads_and_fields_of_other_types(tmp_path, kind, changes):
    compare(write_folder(tmp_path, TYPES[kind] | changes))


@pytest.mark.parametrize("kind", TYPES)
def test_the_defaults_of_fields_left_out_are_those_of_transformers(kind):
    """Whatever transformers' configuration has for a field, the table has as its default."""
    import transformers

    reference = transformers.AutoConfig.for_model(kind)
    defaults = {name: field.default for name, field in type(reference).__dataclass_fields__.items()}
    checked = {name for name in MODEL_TYPES[kind].fields if name in defaults}
    for name in checked - {"rope_parameters"}:
        assert MODEL_TYPES[kind].fields[name].default == defaults[name], name
    assert len(checked) >= 10


def test_sizes_left_out_have_the_defaults_of_transformers(tmp_path):
    names = ("num_attention_heads", "rms_norm_eps", "rope_theta", "max_position_embeddings", "hidden_act")
    config = {name: value for name, value in LLAMA.items() if name not in (*names, "num_key_value_heads")}
    compare(write_folder(tmp_path, config | {"hidden_size": 64}))


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("qwen2", {"layer_types": ALTERNATING}, '"sliding_attention" in layer_types, but no sliding_window'),
        ("qwen2", {"use_sliding_window": True, "layer_types": ["full_attention"]}, "1 layer_types; it must be 3"),
        ("qwen3", {"layer_types": ["chunked_attention"] * 3}, "layer_types .*chunked_attention.*; it must be a list"),
        (
            "llama",
            {"num_key_value_heads": 3},
            "num_key_value_heads 3; the second must divide the first",
        ),
        ("llama", {"hidden_size": 30}, "hidden_size 30 and num_attention_heads 4; the second must divide"),
        ("llama", {"head_dim": 7}, "rotary_dim is 7; it must be even"),
        ("llama", {"model_type": "bloom"}, 'has model_type "bloom"; it must be one of gpt2, llama'),
        ("llama", {"model_type": [3]}, "has model_type .3.; it must be one of"),
        ("llama", {"per_layer_config": {"0": {"hidden_size": 8}}}, "has per_layer_config .*all that npllm supports"),
        ("llama", {"hidden_act": "xielu"}, 'has hidden_act "xielu"; it must be "'),
        ("mixtral", {"num_experts_per_tok": 9}, "top_k is 9; it must be at least 1 and at most num_experts, 4"),
        ("qwen2", {"num_key_value_heads": 32, "head_dim": None}, "num_attention_heads 4 and num_key_value_heads 32"),
    ],
)
def test_what_npllm_does_not_build_is_refused_with_file_and_field(tmp_path, kind, changes, message):
    rewrite_config(write_folder(tmp_path, TYPES[kind]), **changes)
    with pytest.raises(ValueError, match=rf"config.json.*{message}"):
        from_pretrained(tmp_path)


def test_all_invalid_fields_are_named_at_once(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | {"hidden_size": "32", "rms_norm_eps": None}))
    with pytest.raises(ValueError, match='hidden_size "32"; it must be an integer.*rms_norm_eps null; it must be'):
        from_pretrained(tmp_path)


WRONG = [None, "12", 0, -1, [1], True, 1.5, {}, [], float("nan"), float("inf"), 10**400, 10**12, "", [[]], {"a": 1}]
FIELDS = [
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling",
    "rope_parameters", "tie_word_embeddings", "sliding_window", "layer_types", "model_type", "attention_bias",
    "num_local_experts", "num_experts", "num_experts_per_tok", "mlp_only_layers", "decoder_sparse_step",
    "original_max_position_embeddings", "partial_rotary_factor", "max_window_layers", "use_sliding_window",
]  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
def test_a_field_of_another_type_gives_a_model_or_a_value_error(tmp_path, kind):
    """Nothing but ValueError that names config.json, its folder or the weights leaves the loader."""
    write_folder(tmp_path, TYPES[kind])
    for name in FIELDS:
        for value in WRONG:
            (tmp_path / "config.json").write_text(json.dumps(TYPES[kind] | {name: value}))
            try:
                from_pretrained(tmp_path)
            except ValueError as error:
                assert str(tmp_path) in str(error), (name, value)


@pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim"])
def test_a_size_that_the_weights_do_not_have_allocates_nothing(tmp_path, name):
    import tracemalloc

    write_folder(tmp_path, LLAMA)
    for value in (5000, 10**8, 2**31 - 1):
        rewrite_config(tmp_path, **{name: value})
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="config.json"):
                from_pretrained(tmp_path)
            assert tracemalloc.get_traced_memory()[1] < 30e6
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("is_other", [True, False])
def test_a_head_of_its_own_counts_before_tie_word_embeddings(tmp_path, kind, is_other):
    write_folder(tmp_path, TYPES[kind] | {"tie_word_embeddings": True})

    def add_head(tensors):
        embedding = tensors["model.embed_tokens.weight"]
        return tensors | {"lm_head.weight": torch.randn_like(embedding) if is_other else embedding.clone()}

    compare(rewrite_tensors(tmp_path, add_head))
    model = from_pretrained(tmp_path)
    assert model.config.tied != is_other
    model.save_pretrained(tmp_path / "again")
    np.testing.assert_array_equal(from_pretrained(tmp_path / "again")(np.arange(5)), model(np.arange(5)))


def test_biases_that_config_does_not_declare_are_refused(tmp_path):
    write_folder(tmp_path, LLAMA)
    bias = {f"model.layers.{layer}.self_attn.q_proj.bias": torch.zeros(32) for layer in range(3)}
    rewrite_tensors(tmp_path, lambda tensors: tensors | bias)
    with pytest.raises(ValueError, match="the tensors layers.0.self_attn.q_proj.bias, .* are unexpected"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", TYPES)
def test_what_npllm_saves_is_the_same_model_in_transformers(tmp_path, kind):
    write_folder(tmp_path, TYPES[kind] | {"hidden_act": "gelu_new"})
    model = from_pretrained(tmp_path)
    model.save_pretrained(tmp_path / "again")
    saved = json.loads((tmp_path / "again" / "config.json").read_text())
    assert saved["model_type"] in (kind, "mistral", "llama")
    assert saved["eos_token_id"] is None
    compare(tmp_path / "again")
    assert from_pretrained(tmp_path / "again").config == model.config
    assert random_model(saved).num_parameters() == model.num_parameters()
