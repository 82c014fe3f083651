"""The metadata of a GGUF file as config.json of transformers.

    general.architecture = "llama"       model_type            "llama"
    llama.block_count = 30               num_hidden_layers     30
    llama.rope.freq_base = 100000.0      rope_theta            100000.0

gguf_fields.py checks the fields by themselves, this file against the shapes of the tensors. What llama.cpp's program
reads of an architecture, and its files do not say, is here: the windows of Gemma, the activations.

llama.cpp, src/llama-model.cpp; transformers, integrations/ggml.py
"""

import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from npllm.utils.file_errors import FileError
from npllm.utils.gguf_file import GGUFTensor
from npllm.weights.gguf_fields import FACTORS, Fields
from npllm.weights.gguf_rope import rope

NUM_LAYERS_27B = {"gemma2": 46, "gemma3_text": 62}  # the size whose attention scale is 1/√(d_model/num_heads)
LAYER_NORMS = {"starcoder2": "norm_epsilon", "gpt_neox": "layer_norm_eps"}  # with layer norm: the name of its epsilon


def config_of_metadata(
    path: str | PathLike, metadata: dict[str, Any], tensors: Mapping[str, GGUFTensor]
) -> dict[str, Any]:
    """The config.json of the model in a GGUF file; raises ValueError that names the file and the field."""
    fields = Fields(Path(path), metadata)
    if fields.get("attention.causal", True) is not True:
        raise fields.error("attention.causal", "must be true")
    config = fields.sizes()
    kind = config["model_type"]
    config["tie_word_embeddings"] = "output.weight" not in tensors
    config["vocab_size"] = _checked_shapes(fields, config, tensors)
    config |= fields.token_ids(config["vocab_size"])
    if kind == "gpt2":
        return _gpt2_config(fields, config)
    config["num_key_value_heads"] = config.get("num_key_value_heads", config["num_attention_heads"])
    if kind in LAYER_NORMS:
        config[LAYER_NORMS[kind]] = fields.number("attention.layer_norm_epsilon")
    else:
        config["rms_norm_eps"] = fields.number("attention.layer_norm_rms_epsilon")
    config |= {"hidden_act": "silu", "head_dim": _head_dim(fields, config)}
    config |= rope(fields, config, tensors)
    if kind in LAYER_NORMS:
        config |= _with_biases(fields, config, tensors)
    elif kind != "qwen2":
        config["attention_bias"] = "blk.0.attn_q.bias" in tensors
        config["mlp_bias"] = "blk.0.ffn_down.bias" in tensors
    if kind in ("mixtral", "qwen3_moe"):
        config |= _experts(fields, config, tensors)
    elif "num_experts" in config:
        raise fields.error("expert_count", "must be 0: npllm has no experts in this architecture")
    if kind == "gemma":
        config |= {"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh"}
    elif kind.startswith("gemma"):
        config |= _gemma(fields, config)
    elif kind == "granite":
        config |= {theirs: fields.number(name, 1.0) for name, theirs in FACTORS.items()}
    elif kind == "phi3":
        config["original_max_position_embeddings"] = fields.get(
            "rope.scaling.original_context_length", config["max_position_embeddings"]
        )
    return config


def _checked_shapes(fields: Fields, config: dict[str, Any], tensors: Mapping[str, GGUFTensor]) -> int:
    """The size of the vocabulary; raises ValueError unless the sizes are those of the tensors.

    So nothing is allocated that the file does not contain.
    """
    path, embedding = fields.path, tensors.get("token_embd.weight")
    if embedding is None or embedding.ndim != 2:
        raise FileError(path, "has no tensor token_embd.weight with two axes; it must have the token embedding")
    vocab_size, d_model = embedding.shape
    if config["hidden_size"] != d_model:
        raise fields.error("embedding_length", f"must be that of token_embd.weight, {d_model}")
    if fields.get("vocab_size", vocab_size) != vocab_size:
        raise fields.error("vocab_size", f"must be the number of rows of token_embd.weight, {vocab_size}")
    layers = {int(match[1]) for name in tensors if (match := re.match(r"blk\.(\d{1,9})\.", name))}
    if layers != set(range(len(layers))) or config["num_hidden_layers"] != len(layers):
        raise fields.error("block_count", f"must be the number of layers with tensors, {len(layers)}")
    return vocab_size


def _head_dim(fields: Fields, config: dict[str, Any]) -> int:
    """attention.key_length; without it d_model / num_heads."""
    heads, d_model = config["num_attention_heads"], config["hidden_size"]
    if heads % config["num_key_value_heads"]:
        raise fields.error("attention.head_count_kv", f"must be a divisor of attention.head_count, {heads}")
    if "head_dim" not in config and d_model % heads:
        raise fields.error("attention.head_count", f"must be a divisor of embedding_length, {d_model}")
    head_dim = config.get("head_dim", d_model // heads)
    if fields.get("attention.value_length", head_dim) != head_dim:
        raise fields.error("attention.value_length", f"must be that of the keys, {head_dim}")
    return head_dim


def _experts(fields: Fields, config: dict[str, Any], tensors: Mapping[str, GGUFTensor]) -> dict[str, Any]:
    """The fields of a mixture of experts."""
    if "num_experts_per_tok" not in config:
        raise fields.error("expert_used_count", "must be a positive integer")
    experts = tensors.get("blk.0.ffn_gate_exps.weight")
    if experts is None or experts.ndim != 3 or experts.shape[0] != config["num_experts"]:
        raise fields.error("expert_count", "must be the number of experts in blk.0.ffn_gate_exps.weight")
    if config["model_type"] == "mixtral":
        return {"num_local_experts": config["num_experts"]}
    return {"moe_intermediate_size": experts.shape[1], "norm_topk_prob": True, "decoder_sparse_step": 1,
            "mlp_only_layers": []}  # fmt: skip


def _gemma(fields: Fields, config: dict[str, Any]) -> dict[str, Any]:
    """What Gemma's files leave to the program: the pattern of the windows, the scale of attention."""
    kind, number = config["model_type"], config["num_hidden_layers"]
    period = 2 if kind == "gemma2" else 6
    layers = ["full_attention" if layer % period == period - 1 else "sliding_attention" for layer in range(number)]
    is_27b = number == NUM_LAYERS_27B[kind]
    scalar = config["hidden_size"] // config["num_attention_heads"] if is_27b else config["head_dim"]
    found = {"hidden_activation": "gelu_pytorch_tanh", "layer_types": layers, "query_pre_attn_scalar": scalar}
    if kind == "gemma2":
        found["attn_logit_softcapping"] = fields.number("attn_logit_softcapping", 50.0)
        found["final_logit_softcapping"] = fields.number("final_logit_softcapping", 30.0)
    else:
        found["rope_local_base_freq"] = fields.number("rope.freq_base_swa", 10000.0)
    return found


def _with_biases(fields: Fields, config: dict[str, Any], tensors: Mapping[str, GGUFTensor]) -> dict[str, Any]:
    """The fields of StarCoder 2 and of GPT-NeoX, which have layer norm and biases."""
    if config["model_type"] == "starcoder2":
        return {"hidden_act": "gelu_pytorch_tanh", "use_bias": "blk.0.ffn_down.bias" in tensors, "sliding_window": None}
    parallel = fields.get("use_parallel_residual", True)
    if not isinstance(parallel, bool):
        raise fields.error("use_parallel_residual", "must be a bool")
    fraction = config.get("partial_rotary_factor", 1.0)
    return {"hidden_act": "gelu", "use_parallel_residual": parallel, "rotary_pct": fraction,
            "rotary_emb_base": config["rope_theta"], "attention_bias": "blk.0.attn_qkv.bias" in tensors}  # fmt: skip


def _gpt2_config(fields: Fields, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "gpt2",
        "vocab_size": config["vocab_size"],
        "n_positions": config["max_position_embeddings"],
        "n_embd": config["hidden_size"],
        "n_layer": config["num_hidden_layers"],
        "n_head": config["num_attention_heads"],
        "n_inner": config["intermediate_size"],
        "layer_norm_epsilon": fields.number("attention.layer_norm_epsilon"),
        "activation_function": "gelu_new",
        "tie_word_embeddings": config["tie_word_embeddings"],
        "bos_token_id": config["bos_token_id"],
        "eos_token_id": config["eos_token_id"],
    }
