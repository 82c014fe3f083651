"""Damaged vocabulary files of every format.

A vocabulary that is accepted must be usable: it encodes a text, and decodes its ids, without an exception.
"""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
import numpy as np

from npllm.tokenizers import CharacterTokenizer, load_tokenizer, train_bpe
from tests.fuzz.mutations import mutate_json
from tests.fuzz.readers import Reader, rounds
from tests.tokenizers.character_vocabularies import llama_like, trained_model
from tests.tokenizers.formats import test_gguf, test_hugging_face_pipelines, test_js_tiktoken, test_tekken
from tests.weights import gguf_files

TEXT = "The cat's hat, 1234 times!\n\n  naïve 日本 \U0001f600 a"


def damage_json(rng: np.random.Generator, content: bytes) -> bytes:
    """Damage of the JSON tree, or of the text."""
    return mutate_json(rng, json.loads(content))


def _use(path: Path, **options: Any) -> tuple[int, int]:
    tokenizer = load_tokenizer(path, **options)
    is_characters = isinstance(tokenizer, CharacterTokenizer)  # it encodes no other characters than its own
    text = "".join(tokenizer.characters[:9]) if is_characters else TEXT
    ids = tokenizer.encode_ordinary(text) if hasattr(tokenizer, "encode_ordinary") else tokenizer.encode(text)
    return len(ids), len(tokenizer.decode(ids))


def _use_ranks(folder: Path) -> tuple[int, int]:
    return _use(folder / "some.tiktoken", pattern="gpt2")


def _saved(name: str) -> Callable[[], dict[str, bytes]]:
    """The files that npllm writes for a vocabulary of this file name; "" for a folder."""

    def files() -> dict[str, bytes]:
        tokenizer = train_bpe(TEXT * 20, 280, special_tokens=["<|x|>"])
        with TemporaryDirectory() as folder:
            tokenizer.save(Path(folder) / name if name else folder)
            return {path.name: path.read_bytes() for path in Path(folder).iterdir()}

    return files


def _characters() -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.json"
        CharacterTokenizer.from_text(TEXT).save(path)
        return {path.name: path.read_bytes()}


def _json(name: str, content: Callable[[], Any]) -> Callable[[], dict[str, bytes]]:
    return lambda: {name: json.dumps(content(), ensure_ascii=False).encode()}


def _byte_level() -> dict[str, Any]:
    """A tokenizer.json of tokenizers with a normalizer, added tokens and a pre-tokenizer of several steps."""
    _, theirs = test_hugging_face_pipelines.trained("", "NFKC", "lstrip")
    return json.loads(theirs.to_str())


def _gguf() -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        for key, value in test_gguf.metadata().items():
            gguf_files.add_field(writer, key, value)
        gguf_files.finish(writer)
        return {path.name: path.read_bytes()}


def _pair(vocabulary: str, merges: str) -> Callable[[], dict[str, bytes]]:
    """OpenAI's two files under these names."""

    def files() -> dict[str, bytes]:
        saved = _saved("")()
        return {vocabulary: saved["encoder.json"], merges: saved["vocab.bpe"]}

    return files


READERS = {
    "tokenizer.json, byte level": Reader(_json("tokenizer.json", _byte_level), "tokenizer.json", _use, damage_json),
    "tokenizer.json, characters": Reader(_json("tokenizer.json", llama_like), "tokenizer.json", _use, damage_json),
    "vocabulary.json": Reader(_saved("vocabulary.json"), "vocabulary.json", _use, damage_json),
    "vocabulary.json, characters": Reader(_characters, "vocabulary.json", _use, damage_json),
    ".tiktoken": Reader(_saved("some.tiktoken"), "some.tiktoken", _use_ranks),
    "encoder.json": Reader(_pair("encoder.json", "vocab.bpe"), "encoder.json", _use, damage_json,
                           names=("encoder.json", "vocab.bpe")),
    "vocab.bpe": Reader(_pair("encoder.json", "vocab.bpe"), "vocab.bpe", _use, names=("encoder.json", "vocab.bpe")),
    "merges.txt": Reader(_pair("vocab.json", "merges.txt"), "merges.txt", _use, names=("vocab.json", "merges.txt")),
    "tekken.json": Reader(_json("tekken.json", test_tekken.content), "tekken.json", _use, damage_json),
    "js-tiktoken": Reader(_json("claude.json", test_js_tiktoken.content), "claude.json",
                          lambda folder: _use(folder / "claude.json"), damage_json),
    "SentencePiece": Reader(lambda: {"tokenizer.model": trained_model(normalization_rule_name="identity")},
                            "tokenizer.model", _use),
    "SentencePiece, normalization": Reader(lambda: {"tokenizer.model": trained_model()}, "tokenizer.model", _use,
                                           number=10),
    "GGUF, vocabulary": Reader(_gguf, "model.gguf", lambda folder: _use(folder / "model.gguf")),
}  # fmt: skip
ROUNDS = rounds(READERS)
