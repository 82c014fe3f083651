"""A published model with everything that belongs to it: weights, tokenizer, end tokens, chat template.

name, folder or GGUF file → [open_pretrained] → Pretrained(model, tokenizer, stop_ids, chat_template, …)

config.json                 the shape of the model; bos_token_id, eos_token_id
generation_config.json      further eos_token_id
tokenizer_config.json       bos_token, eos_token, chat_template
chat_template.jinja         the chat template, where it is a file of its own
"""

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from npllm.models.catalog import find_model
from npllm.models.decoder import Decoder
from npllm.models.gpt import GPT
from npllm.models.presets import from_pretrained
from npllm.tokenizers.base import Tokenizer
from npllm.tokenizers.bpe import BPETokenizer
from npllm.tokenizers.gpt2 import GPT2Tokenizer
from npllm.weights.model_folder import read_config

VOCABULARY_FILES = (
    "tokenizer.json", "tokenizer.model", "vocabulary.json", "vocab.json", "encoder.json", "tekken.json",
)  # fmt: skip


@dataclass(frozen=True)
class Pretrained:
    """A model, its tokenizer, and what generation needs to know of both.

    path            the folder or the GGUF file
    stop_ids        ids after which a text ends
    bos_token       the text of the token at the beginning of a sequence, or None
    eos_token       the text of the token at its end, or None
    chat_template   a Jinja template that turns messages into a prompt, or None
    """

    path: Path
    model: GPT | Decoder
    tokenizer: Tokenizer
    stop_ids: frozenset[int]
    bos_token: str | None
    eos_token: str | None
    chat_template: str | None


def open_pretrained(
    name_or_path: str | PathLike, dtype: str = "float32", *, vocabulary: str | PathLike | None = None
) -> Pretrained:
    """Open a published model.

    Args:
        name_or_path: a name of `npllm models`, a folder in Hugging Face's layout, or a GGUF file.
        dtype: of the weights, "float32" or "float64".
        vocabulary: a file or folder with the tokenizer, or "gpt2", in place of the model's own.

    Raises FileNotFoundError, or ValueError that names the file and what is wrong in it. A folder without a tokenizer
    is refused: the ids of another vocabulary mean other tokens.
    """
    path = find_model(name_or_path)
    return _open_folder(path, dtype, vocabulary)


def _open_folder(path: Path, dtype: str, vocabulary: str | PathLike | None) -> Pretrained:
    tokenizer = _load_tokenizer(path, vocabulary)
    config, tokenizer_config = read_config(path)[0], _read_object(path / "tokenizer_config.json")
    generation_config = _read_object(path / "generation_config.json")
    bos_token, eos_token = (_token_text(tokenizer_config.get(name)) for name in ("bos_token", "eos_token"))
    stop_ids = {*_as_ids(config.get("eos_token_id")), *_as_ids(generation_config.get("eos_token_id"))}
    if eos_token in tokenizer.special_tokens:
        stop_ids.add(tokenizer.special_tokens[eos_token])
    template = tokenizer_config.get("chat_template")
    if (path / "chat_template.jinja").is_file():
        template = (path / "chat_template.jinja").read_text(encoding="utf-8")
    return Pretrained(
        path, from_pretrained(path, dtype), tokenizer, frozenset(stop_ids), bos_token, eos_token, template
    )


def _load_tokenizer(path: Path, vocabulary: str | PathLike | None) -> Tokenizer:
    if vocabulary == "gpt2":
        return GPT2Tokenizer.load()
    if vocabulary is None and not any((path / name).is_file() for name in VOCABULARY_FILES):
        raise ValueError(f"{path} has no tokenizer; it must have one of {', '.join(VOCABULARY_FILES)}")
    return BPETokenizer.load(path if vocabulary is None else vocabulary)


def _read_object(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _as_ids(value: Any) -> list[int]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _token_text(value: Any) -> str | None:
    return value.get("content") if isinstance(value, dict) else value
