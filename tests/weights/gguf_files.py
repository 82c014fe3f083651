"""GGUF files for tests: a small random model of transformers, written as llama.cpp's converter writes it.

The names of the tensors and of the metadata come from the package `gguf`, which npllm uses for the types only.
"""

import gguf
import numpy as np
import torch
import transformers

ARCHITECTURES = {  # architecture of GGUF: (configuration of transformers, its fields, fields of every class)
    "llama": transformers.LlamaConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
    "qwen3moe": transformers.Qwen3MoeConfig,
    "mixtral": transformers.MixtralConfig,
    "phi3": transformers.Phi3Config,
    "gemma2": transformers.Gemma2Config,
    "gemma3": transformers.Gemma3TextConfig,
    "olmo2": transformers.Olmo2Config,
    "gemma": transformers.GemmaConfig,
    "smollm3": transformers.SmolLM3Config,
    "granite": transformers.GraniteConfig,
    "starcoder2": transformers.Starcoder2Config,
    "gptneox": transformers.GPTNeoXConfig,
    "gpt2": transformers.GPT2Config,
}
SHAPE = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 32, "initializer_range": 0.3,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None, "attn_implementation": "eager",
}  # fmt: skip
CHANGES = {
    "qwen3": {"head_dim": 128},  # transformers reads no other from a GGUF file
    "qwen3moe": {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
                 "norm_topk_prob": True},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gemma2": {"head_dim": 256, "sliding_window": 4},  # the file has no scale of attention, which is 1/√256
    "gemma3": {"head_dim": 256, "sliding_window": 4, "num_hidden_layers": 7},
    "gemma": {"head_dim": 16},
    "smollm3": {"num_hidden_layers": 5, "no_rope_layer_interval": 4, "pad_token_id": 0},
    "granite": {"attention_multiplier": 0.3, "embedding_multiplier": 2.0, "residual_multiplier": 0.5,
                "logits_scaling": 4.0},
    "starcoder2": {"use_bias": True, "sliding_window": None},
    "gptneox": {"rotary_pct": 0.25, "num_key_value_heads": None, "tie_word_embeddings": False, "hidden_dropout": 0.0},
}  # fmt: skip
PERMUTED = ("llama", "mixtral", "smollm3", "granite")


def random_model(architecture, **changes):
    """A random model of transformers; every parameter away from ones and zeros."""
    fields = SHAPE | CHANGES.get(architecture, {}) | changes
    if architecture == "gpt2":
        fields |= {"n_positions": 1024, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        del fields["intermediate_size"], fields["num_key_value_heads"]
    torch.manual_seed(0)
    config = ARCHITECTURES[architecture](**fields)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def write_model(path, architecture, model, types=None, metadata=None, extra=None, without=()):
    """Write a model of transformers to a GGUF file.

    types     a function (name of the tensor, array) → GGMLQuantizationType; F32 unless given
    metadata  further fields; a value of None leaves a field out
    extra     further tensors, or others in place of the model's; `without`: names of tensors to leave out
    """
    config, name = model.config, "llama" if architecture == "mixtral" else architecture
    fields = _metadata(name, config) | (metadata or {})
    writer = gguf.GGUFWriter(path, fields.pop("general.architecture", name))
    for key, value in fields.items():
        if value is not None:
            add_field(writer, key, value)
    for key, array in (tensors(architecture, model) | (extra or {})).items():
        if key in without:
            continue
        kind = types(key, array) if types and array.ndim > 1 else gguf.GGMLQuantizationType.F32
        data = array if kind == gguf.GGMLQuantizationType.F32 else quantized(array, kind)
        writer.add_tensor(key, data, raw_dtype=kind)
    finish(writer)


def finish(writer):
    """Write everything that was added, and close the file."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_field(writer, key, value):
    """Add a field of the type that Python's type suggests; integers as uint32, floats as float32."""
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    if type(value) is int and value < 0:
        writer.add_int32(key, value)
    else:
        kinds.get(type(value), writer.add_array)(key, value)


def quantized(array, kind):
    """The blocks of an array. The package gguf cannot quantize to K-quants: random blocks of small numbers instead."""
    try:
        return gguf.quantize(array, kind)
    except NotImplementedError:
        return random_blocks(array.shape, kind)


def random_blocks(shape, kind, seed=0):
    """Random bytes as blocks of this type; all float16 in them are below 0.002, so the numbers are small and finite."""
    shape = gguf.quant_shape_to_byte_shape(shape, kind)
    blocks = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    size = gguf.GGML_QUANT_SIZES[kind][1]
    view = blocks.reshape(-1, size)
    for offset in SCALES.get(kind.name, ()):
        view[:, offset + 1] &= 0x97  # sign, and exponents up to 2⁻¹⁰
    return blocks


SCALES = {  # the bytes at which a block has a float16
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82), "Q3_K": (108,),
    "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,), "TQ1_0": (52,), "TQ2_0": (64,),
    "IQ2_XXS": (0,), "IQ2_XS": (0,), "IQ2_S": (0,), "IQ3_XXS": (0,), "IQ3_S": (0,), "IQ1_S": (0,),
}  # fmt: skip


def tensors(architecture, model):
    """The tensors as llama.cpp's converter stores them."""
    config, name = model.config, "llama" if architecture == "mixtral" else architecture
    arch = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == name)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    found = {}
    for key, tensor in model.state_dict().items():
        array = tensor.numpy()
        key = key.replace(".mlp.experts.gate_up_proj", ".mlp.experts.gate_up_proj.weight")
        key = key.replace(".mlp.experts.down_proj", ".mlp.experts.down_proj.weight")
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if key.endswith("experts.gate_up_proj.weight"):
            block = key.split(".")[2]
            gate, up = np.split(array, 2, axis=1)
            found[f"blk.{block}.ffn_gate_exps.weight"] = np.ascontiguousarray(gate)
            found[f"blk.{block}.ffn_up_exps.weight"] = np.ascontiguousarray(up)
            continue
        if key.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        stem, suffix = key.rsplit(".", 1)
        theirs = names.get_name(stem)
        assert theirs, f"the package gguf has no name for {stem}"
        if architecture in PERMUTED and stem.endswith(("q_proj", "k_proj")):
            heads = config.num_attention_heads if stem.endswith("q_proj") else config.num_key_value_heads
            array = array.reshape(heads, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
        if architecture.startswith("gemma") and stem.endswith("norm"):
            array = array + 1
        if "query_key_value" in stem:
            parts = array.reshape(config.num_attention_heads, 3, -1, *array.shape[1:])
            array = np.concatenate([parts[:, part].reshape(-1, *array.shape[1:]) for part in range(3)])
        if architecture == "gpt2" and stem.endswith(("c_attn", "c_proj", "c_fc")) and suffix == "weight":
            array = array.T
        found[f"{theirs}.{suffix}"] = np.ascontiguousarray(array)
    return found


def _metadata(name, config):
    """The fields that llama.cpp's converter writes for all architectures."""
    fields = {
        "general.name": "random",
        f"{name}.block_count": config.num_hidden_layers,
        f"{name}.context_length": config.max_position_embeddings,
        f"{name}.embedding_length": config.hidden_size,
        f"{name}.feed_forward_length": getattr(config, "intermediate_size", 4 * config.hidden_size),
        f"{name}.attention.head_count": config.num_attention_heads,
        f"{name}.vocab_size": config.vocab_size,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
    }
    if name == "gpt2":
        return fields | {"gpt2.attention.layer_norm_epsilon": config.layer_norm_epsilon}
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    fields |= {f"{name}.rope.freq_base": float(_theta(config))}
    if name == "gptneox":
        return fields | {
            "gptneox.attention.layer_norm_epsilon": config.layer_norm_eps,
            "gptneox.rope.dimension_count": head_dim // 4,
            "gptneox.use_parallel_residual": config.use_parallel_residual,
        }
    fields[f"{name}.attention.head_count_kv"] = config.num_key_value_heads
    if name == "starcoder2":
        return fields | {"starcoder2.attention.layer_norm_epsilon": config.norm_epsilon}
    fields[f"{name}.attention.layer_norm_rms_epsilon"] = config.rms_norm_eps
    if name == "granite":
        fields |= {
            "granite.attention.scale": config.attention_multiplier,
            "granite.embedding_scale": config.embedding_multiplier,
            "granite.residual_scale": config.residual_multiplier,
            "granite.logit_scale": config.logits_scaling,
        }
    if head_dim * config.num_attention_heads != config.hidden_size:
        fields |= {f"{name}.attention.key_length": head_dim, f"{name}.attention.value_length": head_dim}
    if name == "llama":
        fields["llama.rope.dimension_count"] = head_dim
    if getattr(config, "sliding_window", None) and name.startswith("gemma"):
        fields[f"{name}.attention.sliding_window"] = config.sliding_window
    for theirs in ("num_experts", "num_local_experts"):
        if getattr(config, theirs, None):
            fields[f"{name}.expert_count"] = getattr(config, theirs)
            fields[f"{name}.expert_used_count"] = config.num_experts_per_tok
    if name == "qwen3moe":
        fields["qwen3moe.expert_feed_forward_length"] = config.moe_intermediate_size
    return fields


def _theta(config):
    parameters = config.rope_parameters
    return parameters.get("rope_theta") or parameters["full_attention"]["rope_theta"]
