"""Models by name: one word for each way to put a decoder together, at any size.

    config = architecture("llama", vocab_size=65, context_length=64, d_model=128, num_layers=4, num_heads=4)
    model = build(config)

Whoever wants to compare forms of attention changes the word and leaves the rest.
"""

from dataclasses import asdict
from functools import partial

from npllm.attention.variants.differential import lambda_of_layer
from npllm.models.decoder import Decoder
from npllm.models.decoder_config import DecoderConfig
from npllm.models.gpt import GPT, GPTConfig
from npllm.weights import gpt2 as hugging_face
from npllm.weights import llama as hugging_face_decoder
from npllm.weights.model_folder import read_config


def _gpt(vocab_size, context_length, d_model, num_layers, num_heads, dropout):
    return GPTConfig(
        vocab_size, context_length, d_model, num_layers, num_heads,
        embedding_dropout=dropout, attention_dropout=dropout, residual_dropout=dropout,
    )  # fmt: skip


def _decoder(attention_of, vocab_size, context_length, d_model, num_layers, num_heads, dropout, **choices):
    """`attention_of(heads, context)` gives the choice of attention."""
    attention = attention_of(num_heads, context_length)
    return DecoderConfig(vocab_size, context_length, d_model, num_layers, attention, dropout=dropout, **choices)


def _grouped(num_heads, context_length, **parts):
    key_heads = num_heads // 2 if num_heads % 2 == 0 else num_heads
    return {"kind": "grouped_query", "num_heads": num_heads, "num_kv_heads": key_heads, "parts": parts}


def _llama(num_heads, context_length):
    return _grouped(num_heads, context_length, rotary={})


def _mistral(num_heads, context_length):
    return _grouped(num_heads, context_length, rotary={}, window={"size": max(context_length // 2, 1)})


def _qwen(num_heads, context_length):
    return _grouped(num_heads, context_length, query_key_norm={}, rotary={})


def _alibi(num_heads, context_length):
    return _grouped(num_heads, context_length, alibi={})


def _latent(num_heads, context_length):
    return {"kind": "latent", "num_heads": num_heads, "kv_lora_rank": 32, "head_dim": 32, "qk_rope_head_dim": 16}


def _other(kind):
    return lambda num_heads, context_length: {"kind": kind, "num_heads": num_heads}


def _differential(vocab_size, context_length, d_model, num_layers, num_heads, dropout):
    """Each head has two maps, so it is as wide as two; the deeper the layer, the more is subtracted at the start."""
    if num_heads % 2:
        raise ValueError(f"num_heads is {num_heads}; for differential attention it must be even, two maps to a head")
    choice = {"kind": "differential", "num_heads": num_heads // 2}
    attention = [choice | {"lambda_init": lambda_of_layer(layer)} for layer in range(num_layers)]
    return DecoderConfig(vocab_size, context_length, d_model, num_layers, attention, dropout=dropout)


EXPERTS = {"kind": "mixture_of_experts", "num_experts": 4, "top_k": 2}
ARCHITECTURES = {  # name: the configuration for (vocab_size, context_length, d_model, num_layers, num_heads, dropout)
    "gpt": _gpt,
    "llama": partial(_decoder, _llama),
    "mistral": partial(_decoder, _mistral),
    "qwen": partial(_decoder, _qwen),
    "mixtral": partial(_decoder, _llama, feed_forward=EXPERTS),
    "alibi": partial(_decoder, _alibi),
    "relative": partial(_decoder, _other("relative_position")),
    "differential": _differential,
    "latent": partial(_decoder, _latent),
    "linear": partial(_decoder, _other("linear")),
    "delta": partial(_decoder, _other("delta")),
}


def architecture(name, vocab_size, context_length, d_model, num_layers, num_heads, dropout=0.0):
    """The configuration of this name and size: a GPTConfig for "gpt", else a DecoderConfig."""
    if name not in ARCHITECTURES:
        raise ValueError(f"the architecture is {name!r}; it must be one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name](vocab_size, context_length, d_model, num_layers, num_heads, dropout)


def build(config, *, rng=None, dtype="float32"):
    """The model of a GPTConfig or of a DecoderConfig, with random weights."""
    return (GPT if isinstance(config, GPTConfig) else Decoder)(config, rng=rng, dtype=dtype)


def config_as_dict(config):
    """What JSON can hold; `config_from_dict` undoes it."""
    return {"class": type(config).__name__, **asdict(config)}


def config_from_dict(fields):
    """The configuration of a dict; without a "class" it is a GPT's. Raises TypeError or ValueError if it is none."""
    classes = {"GPTConfig": GPTConfig, "DecoderConfig": DecoderConfig}
    fields = dict(fields)
    name = fields.pop("class", "GPTConfig")
    if name not in classes:
        raise ValueError(f"class is {name!r}; it must be one of {', '.join(classes)}")
    return classes[name](**fields)


def from_pretrained(path, dtype="float32"):
    """A GPT-2, or a Llama or its kin, in Hugging Face's layout: whichever the folder's config.json says it is."""
    kind = read_config(path)[0].get("model_type", "gpt2")
    known = [*hugging_face.ONLY["model_type"], *hugging_face_decoder.ONLY["model_type"]]
    if kind not in known:
        raise ValueError(f"{path} has model_type {kind!r}; it must be one of {', '.join(known)}")
    return (GPT if kind in hugging_face.ONLY["model_type"] else Decoder).from_pretrained(path, dtype)
