"""Random config.json files: what transformers and npllm make of each.

    python -m tests.weights.random_configs 300      counts of the outcomes

same            logits, loss and gradients are those of transformers
both refuse     transformers raises, and npllm raises ValueError
npllm refuses   transformers computes logits, npllm raises ValueError
npllm accepts   transformers raises, npllm computes
different, crash, by name of the exception: faults
"""

import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from npllm.models.hugging_face import read_decoder_config
from npllm.models.presets import from_pretrained
from npllm.weights.gpt2 import config_fields as read_gpt2_config
from tests.weights.published import BASE, IDS, compare, open_reference, write_folder

DECODERS = ("llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe", "ministral")
KEPT = ("model_type", "hidden_size", "n_embd")  # transformers' defaults of 4096 and 768 channels are slow
ODD = (None, "8", 0, -1, [1], True, 2.5, {})


def random_config(rng: np.random.Generator) -> dict:
    """A config.json: fields chosen, left out or, now and then, of another type."""
    config = _gpt2(rng) if rng.random() < 0.2 else _decoder(rng, str(rng.choice(DECODERS)))
    if rng.random() < 0.3:
        config.pop(str(rng.choice([name for name in config if name not in KEPT])))
    if rng.random() < 0.2:
        config[str(rng.choice(list(config)))] = ODD[rng.integers(len(ODD))]
    return config


def outcome(config: dict, folder: Path) -> tuple[str, str]:
    """(one of the outcomes, what was said)"""
    try:
        write_folder(folder, config)
        reference_error = _reference_error(folder)
    except Exception as error:  # whatever transformers raises
        reference_error = error
    if reference_error is None:
        try:
            compare(folder)
        except ValueError as error:
            return "npllm refuses", str(error)
        except AssertionError as error:
            return "different", str(error)
        except Exception as error:
            return f"crash: {type(error).__name__}", str(error)
        return "same", ""
    try:
        if not (folder / "model.safetensors").is_file():  # no weights: the table alone decides
            read_gpt2_config(folder, config) if "n_embd" in config else read_decoder_config(folder, config)
        else:
            from_pretrained(folder)(IDS)
    except ValueError:
        return "both refuse", str(reference_error)
    except Exception as error:
        return f"crash: {type(error).__name__}", str(error)
    return "npllm accepts", f"{type(reference_error).__name__}: {reference_error}"


def _reference_error(folder: Path) -> Exception | None:
    try:
        logits = open_reference(folder)(torch.tensor(IDS)).logits
    except Exception as error:
        return error
    return None if torch.isfinite(logits).all() else ValueError("logits that are not finite")


def _decoder(rng: np.random.Generator, kind: str) -> dict:
    def maybe(probability: float, **fields) -> dict:
        return fields if rng.random() < probability else {}

    def pick(*values):
        return values[rng.integers(len(values))]

    config = BASE | {"model_type": kind}
    config |= maybe(0.6, head_dim=pick(4, 6, 8, 16, None)) | maybe(0.3, rope_theta=pick(100.0, 1e4, 1000000, 5e5))
    config |= maybe(0.3, tie_word_embeddings=bool(pick(0, 1))) | maybe(0.2, num_key_value_heads=pick(1, 2, 4, None, 3))
    config |= maybe(0.3, hidden_act=pick("silu", "gelu", "gelu_pytorch_tanh", "relu", "mish", "quick_gelu", "tanh"))
    config |= maybe(0.3, attention_bias=bool(pick(0, 1))) | maybe(0.2, mlp_bias=bool(pick(0, 1)))
    config |= maybe(0.5, sliding_window=pick(4, 8, 40, None)) | maybe(0.4, use_sliding_window=bool(pick(0, 1)))
    config |= maybe(0.3, max_window_layers=pick(0, 1, 2, 28)) | maybe(0.2, rms_norm_eps=pick(1e-6, 1e-3))
    kinds = [pick("full_attention", "sliding_attention") for _ in range(pick(3, 3, 3, 2))]
    config |= maybe(0.25, layer_types=pick(kinds, kinds, None, ["full_attention"] * 3))
    config |= maybe(0.1, partial_rotary_factor=pick(0.5, 1.0)) | maybe(0.15, max_position_embeddings=pick(20, 64))
    config |= maybe(0.2, original_max_position_embeddings=pick(8, 16, 32))
    config |= maybe(0.5, **{pick("rope_scaling", "rope_parameters"): _rope(rng, pick)})
    config |= maybe(0.15, rope_parameters={"rope_type": "default", "rope_theta": pick(300.0, 1e6)})
    if kind == "mixtral":
        config |= {"num_local_experts": pick(2, 4)} | maybe(0.2, num_experts=pick(3, 4))
    if kind == "qwen3_moe":
        config |= {"num_experts": 4, "num_experts_per_tok": pick(1, 2), "moe_intermediate_size": 16}
        config |= maybe(0.3, norm_topk_prob=bool(pick(0, 1))) | maybe(0.3, decoder_sparse_step=pick(1, 2))
        config |= maybe(0.3, mlp_only_layers=pick([], [1], [0, 2], None))
    return config


def _rope(rng: np.random.Generator, pick) -> dict | None:
    kind = pick("default", "linear", "dynamic", "yarn", "llama3", "longrope", "mrope", None)
    if kind is None:
        return None
    scaling = {pick("type", "rope_type"): kind}
    if kind != "default":
        scaling["factor"] = pick(2.0, 4, 8.0)
    if rng.random() < 0.4:
        scaling["rope_theta"] = pick(1e4, 1e6)
    if rng.random() < 0.5:
        scaling["original_max_position_embeddings"] = pick(8, 16, 32)
    extra = {
        "yarn": [("beta_fast", 20), ("beta_slow", 2.0), ("attention_factor", 1.3), ("truncate", False),
                 ("mscale", 1.0), ("mscale_all_dim", 0.5)],
        "longrope": [("attention_factor", 1.2)],
    }  # fmt: skip
    for name, value in extra.get(kind, []):
        if rng.random() < 0.3:
            scaling[name] = value
    if kind == "llama3":
        scaling |= {"low_freq_factor": 1.0, "high_freq_factor": pick(4.0, 2.0)}
    if kind == "longrope":
        pairs = pick(4, 4, 2, 8)
        scaling["short_factor"] = [1.0 + 0.1 * i for i in range(pairs)]
        scaling["long_factor"] = [2.0 + i for i in range(pairs)]
    return scaling


def _gpt2(rng: np.random.Generator) -> dict:
    def maybe(probability: float, **fields) -> dict:
        return fields if rng.random() < probability else {}

    def pick(*values):
        return values[rng.integers(len(values))]

    config = {"model_type": "gpt2", "vocab_size": 61, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 4}
    config |= maybe(0.4, n_inner=pick(40, 128, None)) | maybe(0.3, n_ctx=pick(16, 32))
    config |= maybe(0.5, activation_function=pick("gelu", "gelu_new", "relu", "silu", "tanh", "gelu_fast", "mish"))
    config |= maybe(0.3, scale_attn_weights=bool(pick(0, 1))) | maybe(0.3, reorder_and_upcast_attn=bool(pick(0, 1)))
    config |= maybe(0.3, scale_attn_by_inverse_layer_idx=bool(pick(0, 1)))
    config |= maybe(0.3, tie_word_embeddings=bool(pick(0, 1))) | maybe(0.2, layer_norm_epsilon=pick(1e-6, 1e-3))
    config |= maybe(0.2, max_position_embeddings=pick(24, 64)) | maybe(0.1, hidden_size=pick(16, 32))
    return config


def main(number: int, seed: int = 0) -> None:
    """Print the counts of the outcomes, and what was said where they are not the same."""
    rng, counts = np.random.default_rng(seed), Counter()
    warnings.simplefilter("ignore")
    for _ in range(number):
        config = random_config(rng)
        with tempfile.TemporaryDirectory() as folder:
            result, said = outcome(config, Path(folder))
        counts[result] += 1
        if result not in ("same", "both refuse"):
            print(result, "|", config, "|", said.replace("\n", " ")[:300], flush=True)
    print(dict(counts))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
