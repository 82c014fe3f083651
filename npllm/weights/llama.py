"""Llama and its kin as Hugging Face stores them: one configuration of npllm's Decoder each.

    llama       grouped-query attention, rotary positions, RMS norm, gated network
    mistral     with a sliding window
    qwen2       with biases on queries, keys and values; windows in some layers
    qwen3       with query/key norm
    mixtral     llama with a mixture of experts;     qwen3_moe     qwen3 with one

A decoder that is none of these is stored in the same two files under a model_type of npllm's own.
"""

from npllm.weights.model_folder import read_config, read_tensors, require, write

OWN = "npllm_decoder"
FIELDS = {  # ours: theirs
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "d_model": "hidden_size",
    "num_layers": "num_hidden_layers",
}
CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}
ONLY = {  # what npllm's Decoder is not built for must have these values
    "model_type": [*CLASSES, OWN],
    "hidden_act": ["silu"],
    "attention_bias": [False],
    "mlp_bias": [False],
    "mlp_only_layers": [[], None],
    "decoder_sparse_step": [1],
}
STRETCHES = {  # theirs: ours, and our names of their numbers
    "linear": ("linear", {}),
    "yarn": ("yarn", {"original_max_position_embeddings": "original_length", "beta_fast": "fast", "beta_slow": "slow"}),
    "llama3": ("llama3", {"original_max_position_embeddings": "original_length", "low_freq_factor": "low_factor",
                          "high_freq_factor": "high_factor"}),
}  # fmt: skip
DEFAULTS = {  # what transformers takes for a field that the file leaves out, where it is not what Llama has
    "mistral": {"num_key_value_heads": 8, "sliding_window": 4096},
    "mixtral": {"num_key_value_heads": 8, "rope_theta": 1e6},
    "qwen2": {"num_key_value_heads": 32, "max_window_layers": 28, "sliding_window": 4096},
    "qwen3": {"num_key_value_heads": 32, "max_window_layers": 28, "sliding_window": 4096, "head_dim": 128},
    "qwen3_moe": {"num_key_value_heads": 4, "sliding_window": 4096},
}
OURS = {
    "dropout": ("npllm_dropout", 0.0),
    "aux_loss_coef": ("npllm_balance", 0.01),
}  # ours: the name in the file, if not there
EXPERT_NAMES = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}  # Mixtral's: Qwen's, which are ours


def load(path):
    """Read a folder, or the safetensors file in one; return (fields of DecoderConfig, state dict of npllm's Decoder).

    The arrays are views of the mapped files. Raises FileNotFoundError, or ValueError saying what is wrong.
    """
    config, config_path = read_config(path)
    require(config_path, config, ONLY, "npllm's Decoder")
    if config.get("model_type") == OWN:
        fields = {name: value for name, value in config.items() if name not in ("model_type", "architectures")}
    else:
        try:
            fields = _fields(config)
        except KeyError as error:
            raise ValueError(f"{config_path} lacks {error}; it must be the configuration of a decoder") from None
        except ValueError as error:
            raise ValueError(f"{config_path} has {error}") from None
    state = {_our_name(name): array for name, array in read_tensors(path).items()}
    if fields["tied"]:
        state["lm_head.weight"] = state.get("embed_tokens.weight")
    return fields, {name: array for name, array in state.items() if not name.endswith("rotary_emb.inv_freq")}


def save(folder, fields, state):
    """Write both files; as a model of transformers where it has this shape, else under npllm's own model_type."""
    config = _config(fields)
    kind = config["model_type"]
    tensors = {_their_name(name, kind): array for name, array in state.items()}
    if fields["tied"]:
        del tensors["lm_head.weight"]
    write(folder, config, tensors)


def _fields(config):
    """The fields of DecoderConfig that a config.json of transformers means; raises KeyError for what it lacks."""
    kind = config["model_type"]
    config, heads = DEFAULTS.get(kind, {}) | config, config["num_attention_heads"]
    parts = {"query_key_norm": {"eps": config["rms_norm_eps"]}} if kind.startswith("qwen3") else {}
    attention = {
        "kind": "grouped_query",
        "num_heads": heads,
        "num_kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or config["hidden_size"] // heads,
        "qkv_bias": kind == "qwen2",
        "parts": parts | {"rotary": _rotary(config)},
    }
    windows = _windows(config)
    choices = [
        attention if size is None else attention | {"parts": attention["parts"] | {"window": {"size": size}}}
        for size in windows
    ]
    return {ours: config[theirs] for ours, theirs in FIELDS.items()} | {
        "attention": choices[0] if len(set(windows)) == 1 else choices,
        "feed_forward": _feed_forward(config),
        "norm": {"kind": "rms_norm", "eps": config["rms_norm_eps"]},
        "tied": config.get("tie_word_embeddings", False),
        **{ours: config.get(*name_and_default) for ours, name_and_default in OURS.items()},
    }


def _windows(config):
    """The window of each layer, or None."""
    kind, size, number = config["model_type"], config.get("sliding_window"), config["num_hidden_layers"]
    if kind in ("mistral", "mixtral"):
        return [size] * number
    if not config.get("use_sliding_window", False) or size is None:
        return [None] * number
    if config.get("layer_types"):
        if len(config["layer_types"]) != number:
            raise ValueError(f"{len(config['layer_types'])} layer_types; it must be {number}, one for each layer")
        return [size if which == "sliding_attention" else None for which in config["layer_types"]]
    if kind == "qwen3_moe":
        return [size] * number
    first = config.get("max_window_layers", 0)
    return [size if layer >= first else None for layer in range(number)]


def _rotary(config):
    """The options of the rotary part. Newer files have rope_parameters, older ones rope_theta and rope_scaling."""
    given = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    options = {"base": float(given.pop("rope_theta", config.get("rope_theta", 10000.0)))}
    share = given.pop("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    if share != 1.0:
        raise ValueError(f"partial_rotary_factor {share}; it must be 1.0, as in all models of this kind")
    kind = given.pop("rope_type", given.pop("type", "default"))
    given.pop("type", None)
    if kind == "default":
        return options
    if kind not in STRETCHES:
        raise ValueError(f"rope_type {kind!r}; it must be default, {', '.join(STRETCHES)}")
    ours, names = STRETCHES[kind]
    if kind == "yarn":
        given.setdefault("original_max_position_embeddings", config["max_position_embeddings"])
    if unknown := sorted(given.keys() - names.keys() - {"factor"}):
        raise ValueError(f"{unknown[0]!r} beside rope_type {kind!r}, which npllm does not know")
    stretch = {"kind": ours} | {names.get(name, name): value for name, value in given.items()}
    return options | {"stretch": stretch}


def _feed_forward(config):
    experts = config.get("num_local_experts", config.get("num_experts"))
    if config["model_type"] not in ("mixtral", "qwen3_moe"):
        return {"kind": "gated", "d_hidden": config["intermediate_size"]}
    is_qwen = config["model_type"] == "qwen3_moe"
    return {
        "kind": "mixture_of_experts",
        "num_experts": experts,
        "top_k": config["num_experts_per_tok"],
        "d_hidden": config["moe_intermediate_size" if is_qwen else "intermediate_size"],
        "norm_topk_prob": config.get("norm_topk_prob", False) if is_qwen else True,
    }


def _config(fields):
    """The config.json for these fields: of transformers where a model of its means exactly them, else npllm's own."""
    full = _explicit(fields)
    config = _their_config(full)
    if config is not None and _in_order(_fields(config)) == _in_order({name: full[name] for name in _fields(config)}):
        return config
    return {"model_type": OWN, **fields}


def _explicit(fields):
    """The fields with every default written out, as `_fields` writes them."""
    d_model = fields["d_model"]
    attentions = [_explicit_attention(choice, d_model) for choice in _choices(fields["attention"])]
    attentions = [attentions[layer % len(attentions)] for layer in range(fields["num_layers"])]
    alike = all(_in_order(choice) == _in_order(attentions[0]) for choice in attentions)
    networks = [_explicit_network(choice, d_model) for choice in _choices(fields["feed_forward"])]
    return fields | {
        "attention": attentions[0] if alike else attentions,
        "feed_forward": networks[0] if len(networks) == 1 else networks,
        "norm": {"eps": 1e-6} | fields["norm"],
    }


def _in_order(fields):
    """The fields, and the names of all parts in the order in which they act: two dicts are equal in any order."""
    parts = [list(choice.get("parts") or {}) for choice in _choices(fields.get("attention", fields))]
    return fields, parts


def _explicit_attention(choice, d_model):
    parts = {name: dict(options) for name, options in (choice.get("parts") or {}).items()}
    for name, defaults in {"query_key_norm": {"eps": 1e-6}, "rotary": {"base": 10000.0}}.items():
        if name in parts:
            parts[name] = defaults | parts[name]
    for name, option, default in [("rotary", "layout", "halves"), ("rotary", "share", 1.0), ("window", "sinks", 0)]:
        if parts.get(name, {}).get(option) == default:
            del parts[name][option]
    heads = choice.get("num_heads", 1)
    defaults = {"num_kv_heads": heads, "head_dim": d_model // heads, "qkv_bias": False}
    return defaults | {name: value for name, value in choice.items() if value is not None} | {"parts": parts}


def _explicit_network(choice, d_model):
    defaults = {"d_hidden": -(-4 * d_model // 3) * 2}
    if choice["kind"] == "mixture_of_experts":
        defaults |= {"top_k": 2, "norm_topk_prob": True}
    return defaults | {name: value for name, value in choice.items() if value is not None}


def _their_config(full):
    """The nearest thing that transformers has for these explicit fields; it may not mean the same. None if nothing."""
    attentions, network = _choices(full["attention"]), full["feed_forward"]
    first, parts = attentions[0], attentions[0]["parts"]
    is_kin = first["kind"] == "grouped_query" and list(parts)[:2] in (["rotary"], ["rotary", "window"],
                                                                       ["query_key_norm", "rotary"])  # fmt: skip
    if not is_kin or not isinstance(network, dict) or full["positions"] != "none":
        return None
    windows = [choice["parts"].get("window", {}).get("size") for choice in attentions] * full["num_layers"]
    windows = windows[: full["num_layers"]]
    size = next(filter(None, windows), None)
    has_experts = network["kind"] == "mixture_of_experts"
    kind = "mixtral" if has_experts else "mistral" if size else "llama"
    if "query_key_norm" in parts:
        kind = "qwen3_moe" if has_experts else "qwen3"
    elif first["qkv_bias"]:
        kind = "qwen2"
    config = {theirs: full[ours] for ours, theirs in FIELDS.items()} | {
        "architectures": [CLASSES[kind]],
        "model_type": kind,
        "hidden_act": "silu",
        "num_attention_heads": first["num_heads"],
        "num_key_value_heads": first["num_kv_heads"],
        "head_dim": first["head_dim"],
        "rms_norm_eps": full["norm"]["eps"],
        "tie_word_embeddings": full["tied"],
        "rope_parameters": _rope_parameters(parts["rotary"]),
        "sliding_window": size,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        **{theirs: full[ours] for ours, (theirs, _) in OURS.items()},
    }
    if kind.startswith("qwen"):
        config["use_sliding_window"] = size is not None
    if kind in ("qwen2", "qwen3"):
        config["layer_types"] = ["full_attention" if w is None else "sliding_attention" for w in windows]
    if not has_experts:
        return config | {"intermediate_size": network["d_hidden"]}
    config |= {"num_experts_per_tok": network["top_k"], "intermediate_size": network["d_hidden"]}
    if kind == "mixtral":
        return config | {"num_local_experts": network["num_experts"]}
    return config | {
        "num_experts": network["num_experts"],
        "moe_intermediate_size": network["d_hidden"],
        "norm_topk_prob": network["norm_topk_prob"],
    }


def _rope_parameters(rotary):
    """Their names of the options of the rotary part."""
    found = {"rope_theta": rotary["base"], "rope_type": "default"}
    stretch = dict(rotary.get("stretch") or {})
    for theirs, (ours, names) in STRETCHES.items():
        if stretch.get("kind") == ours:
            back = {ours: theirs for theirs, ours in names.items()}
            numbers = {back.get(name, name): value for name, value in stretch.items() if name != "kind"}
            found |= {"rope_type": theirs} | numbers
    return found


def _choices(choice):
    return list(choice) if isinstance(choice, (list, tuple)) else [choice]


def _our_name(name):
    """model.layers.0.self_attn.q_norm.weight → layers.0.self_attn.q_norm.weight, and so on."""
    name = name.removeprefix("model.").replace("block_sparse_moe.", "mlp.")
    for theirs, ours in EXPERT_NAMES.items():
        name = name.replace(f".{theirs}.weight", f".{ours}.weight")
    return name


def _their_name(name, kind):
    """The name under which transformers knows it; npllm's own models keep their names."""
    if kind == OWN:
        return name
    if kind == "mixtral" and ".mlp." in name:
        name = name.replace(".mlp.", ".block_sparse_moe.")
        for theirs, ours in EXPERT_NAMES.items():
            name = name.replace(f".{ours}.weight", f".{theirs}.weight")
    return name if name.startswith("lm_head.") else f"model.{name}"
