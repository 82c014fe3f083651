"""Damaged model folders and GGUF files: every file of theirs that npllm reads, field by field and byte by byte."""

import json
import struct
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from npllm.generation.chat import Chat
from npllm.models import Decoder
from npllm.models.hugging_face import MODEL_TYPES, read_decoder_config
from npllm.models.presets import architecture, build, from_pretrained
from npllm.models.pretrained import open_pretrained
from npllm.tokenizers import train_bpe
from npllm.utils.gguf_file import read_gguf
from npllm.weights import safetensors
from tests.fuzz.mutations import dumps, mutate_bytes, mutate_json, odd_value, pick
from tests.fuzz.readers import Reader, problem, rounds, try_contents
from tests.fuzz.runner import Finding, Round
from tests.weights.gguf_files import random_model, write_model

KINDS = ("gpt2", "llama", "mistral", "qwen3", "qwen3_moe", "gemma3_text", "phi3", "gpt_neox", "npllm_decoder")
GGUF_KINDS = ("llama", "gpt2", "gemma2", "mixtral", "gptneox")
GGUF_VALUES = (
    None, True, -1, 0, 1, 2, 1.5, -0.5, 1e30, float("inf"), float("nan"), 2**31, 2**62, "", "8", "x" * 999, [1, 2],
    [1.5], ["a"], [0] * 100, [True],
)  # fmt: skip
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


def _folder(kind: str) -> dict[str, bytes]:
    """The files of a small model of this type, with a tokenizer and a chat template."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = _config(kind)
        if isinstance(config, dict):
            decoder = read_decoder_config(folder, config)
            Decoder(decoder, rng=np.random.default_rng(0)).save_pretrained(folder)
            saved = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(saved | {"bos_token_id": 1, "eos_token_id": [1, 2]}))
        else:
            build(config, rng=np.random.default_rng(0)).save_pretrained(folder)
        tokenizer = train_bpe("some text " * 9, vocab_size=258, special_tokens=["<|end|>"])
        tokenizer.save(folder / "tokenizer.json")
        config = {"bos_token": {"content": "<|end|>", "lstrip": False}, "eos_token": "<|end|>"}
        config["chat_template"] = [{"name": "default", "template": TEMPLATE}]
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": [257, 1]}))
        (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "<|end|>"}}))
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def _config(kind: str):
    if kind == "gpt2":
        return architecture("gpt", 258, 16, 16, 2, 2)
    if kind == "npllm_decoder":
        return architecture("latent", 258, 16, 16, 2, 2)
    written = {
        "model_type": kind, "vocab_size": 258, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 16, "num_experts": 2,
        "num_experts_per_tok": 1, "moe_intermediate_size": 8, "head_dim": 8,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    }  # fmt: skip
    if kind in ("phi3", "gemma3_text", "gpt_neox"):
        written.pop("rope_scaling")
    return {key: value for key, value in written.items() if key == "model_type" or key in MODEL_TYPES[kind].fields}


def _sharded() -> dict[str, bytes]:
    """A model in two shards, and their index."""
    files = _folder("llama")
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "model.safetensors"
        whole.write_bytes(files.pop("model.safetensors"))
        tensors, _ = safetensors.load(whole)
        names = {tensor: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, tensor in enumerate(tensors)}
        for file in sorted(set(names.values())):
            part = {tensor: np.array(array) for tensor, array in tensors.items() if names[tensor] == file}
            safetensors.save(whole, part)
            files[file] = whole.read_bytes()
    return files | {"model.safetensors.index.json": json.dumps({"metadata": {}, "weight_map": names}).encode()}


def _gguf(kind: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.gguf"
        write_model(path, kind, random_model(kind))
        return {"model.gguf": path.read_bytes()}


def _damaged_json(rng: np.random.Generator, content: bytes) -> bytes:
    """Another value for one field, no field, a change anywhere in the tree, or damaged bytes."""
    kind, tree = rng.random(), json.loads(content)
    if kind < 0.5:
        name = pick(rng, list(tree))
        return dumps(tree | {name: odd_value(rng)}).encode("utf-8", "surrogatepass")
    if kind < 0.6:
        tree.pop(pick(rng, list(tree)))
        return json.dumps(tree).encode()
    return mutate_json(rng, tree) if kind < 0.9 else mutate_bytes(rng, content)


def _open(folder: Path) -> list[float]:
    """Open the model, compute logits and render a conversation."""
    pretrained = open_pretrained(folder)
    logits = pretrained.model(np.zeros(1, int))
    if pretrained.chat_template is not None:
        Chat(pretrained).prompt_ids([{"role": "user", "content": "Hi"}])
    return [float(logits.ravel()[0]), *sorted(pretrained.stop_ids)]


def _open_weights(path: Path) -> float:
    return float(from_pretrained(path)(np.zeros(1, int)).ravel()[0])


def _damaged_gguf(rng: np.random.Generator, content: bytes) -> bytes:
    return mutate_bytes(rng, content, header=len(content) // 3)


def _readers() -> dict[str, Reader]:
    readers = {}
    for kind in KINDS:
        files = partial(_folder, kind)
        readers[f"config.json of {kind}"] = Reader(
            files, "config.json", _open, _damaged_json, names=("config.json", "model")
        )
    for name in ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json"):
        readers[name] = Reader(partial(_folder, "llama"), name, _open, _damaged_json)
    index = "model.safetensors.index.json"
    readers[index] = Reader(_sharded, index, _open, _damaged_json, names=("model-0000", index))
    for kind in GGUF_KINDS:
        readers[f"{kind} in GGUF"] = Reader(
            partial(_gguf, kind), "model.gguf", lambda folder: _open_weights(folder / "model.gguf"), _damaged_gguf
        )
    return readers


READERS = _readers()


def gguf_fields(rng: np.random.Generator, number: int = 60) -> int:
    """GGUF files of which one metadata field is missing or has another value and type."""
    kind = pick(rng, GGUF_KINDS)
    reader, model = READERS[f"{kind} in GGUF"], random_model(kind)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write_model(path, kind, model)
        fields = [name for name in read_gguf(path)[0] if not name.startswith("GGUF.")]
        contents, said = [], []
        for _ in range(number):
            said.append((pick(rng, fields), pick(rng, GGUF_VALUES)))
            try:
                write_model(path, kind, model, metadata=dict([said[-1]]))
            except (OverflowError, ValueError, TypeError, AssertionError, struct.error):  # the writer refuses it
                said.pop()
                continue
            contents.append(path.read_bytes())
    for (field, value), (content, outcome) in zip(said, try_contents(reader, contents)):
        if found := problem(reader, outcome):
            raise Finding(f"{kind} in GGUF with {field} {value!r}: {found}", content)
    return number


ROUNDS: Mapping[str, Round] = rounds(READERS) | {"fields of GGUF": gguf_fields}
