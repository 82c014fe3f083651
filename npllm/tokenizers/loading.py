"""Any published tokenizer: `load_tokenizer` reads a file or a folder, whatever its format.

    file → kind, from its content → [reader of the format] → tokenizer

tokenizer.json                  Hugging Face: byte-level BPE, or BPE of characters (Llama 2, Gemma, Mistral)
vocabulary.json                 npllm: a run of `npllm train`, or the folder of `npllm bpe train`
*.tiktoken, tokenizer.model     ranks of tiktoken (OpenAI, Llama 3 and 4, Qwen); see `formats.known_vocabularies`
tokenizer.model                 SentencePiece (Llama 2, Gemma, Mistral)
tekken.json                     Mistral
claude.json and others          js-tiktoken
vocab.json and merges.txt       Hugging Face, older; the same as OpenAI's encoder.json and vocab.bpe
*.gguf                          llama.cpp: the tokenizer in the metadata of a model
"""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from npllm.tokenizers import characters
from npllm.tokenizers.base import Tokenizer
from npllm.tokenizers.bpe import BPETokenizer
from npllm.tokenizers.byte_pair.pretokenize import PATTERNS
from npllm.tokenizers.formats import gguf
from npllm.tokenizers.formats.file_kind import file_kind
from npllm.tokenizers.formats.hugging_face_characters import is_characters_json
from npllm.tokenizers.formats.hugging_face_sentence_piece import is_character_level
from npllm.tokenizers.formats.reading import parse_json, reading_vocabulary
from npllm.tokenizers.formats.vocabulary_files import find_vocabulary, from_json
from npllm.tokenizers.sentence_piece import SentencePieceTokenizer
from npllm.utils.gguf_file import read_metadata


def load_tokenizer(
    path: str | PathLike[str], *, pattern: str | None = None, special_tokens: Mapping[str, int] | None = None
) -> Tokenizer:
    """The tokenizer of a file or a folder.

    path            a file in one of the formats above, or a folder with one; a model folder's tokenizer.json is read
                    with the added tokens of its tokenizer_config.json
    pattern         for files of ranks, which have none: a regular expression, or a name in PATTERNS
    special_tokens  replaces those of the file

    Raises FileNotFoundError if there is no such file, and FileError if it is of another kind or would not give the
    ids of the library that it comes from. The message names the file and what prevents it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    file = find_vocabulary(path) if path.is_dir() else path
    with reading_vocabulary(file):
        return _load(file, pattern, special_tokens)


def _load(file, pattern, special_tokens):
    kind = file_kind(file)
    if kind == "gguf":
        return tokenizer_from_metadata(read_metadata(file), file)
    if kind == "sentencepiece":
        return SentencePieceTokenizer.load(file)
    if kind == "json":
        content = parse_json(file)
        if _is_characters(content):
            return characters.CharacterTokenizer.load(file)
        if is_character_level(content):
            return SentencePieceTokenizer.from_tokenizer_json(content, file)
        if special_tokens is None:
            pattern = None if pattern is None else PATTERNS.get(pattern, pattern)
            return _byte_level(from_json(_with_added_tokens(content, file), file, pattern), file)
    return BPETokenizer.load(file, pattern, special_tokens)


def tokenizer_from_metadata(metadata: dict[str, Any], path: str | PathLike[str]) -> Tokenizer:
    """The tokenizer in the metadata of a GGUF file (`formats.gguf`); `path` is named in messages.

    Raises ValueError for an unknown algorithm or pre-tokenizer, and for missing or invalid fields.
    """
    path = Path(path)
    with reading_vocabulary(path):
        return _from_metadata(metadata, path)


def _from_metadata(metadata, path):
    if gguf.check_model(metadata, path) == "llama":
        tokenizer: Tokenizer = SentencePieceTokenizer(gguf.to_character_vocabulary(metadata, path))
    else:
        tokenizer = _byte_level(from_json(gguf.to_tokenizer_json(metadata, path), path), path)
    tokenizer.prefix_ids, tokenizer.suffix_ids = gguf.ids_around_a_text(metadata, path)
    return tokenizer


def _with_added_tokens(content: Any, file: Path) -> Any:
    """The content of a tokenizer.json with the added tokens of the tokenizer_config.json beside it.

    transformers adds those that the tokenizer.json does not have.
    """
    config_file = file.with_name("tokenizer_config.json")
    if file.name != "tokenizer.json" or not isinstance(content, dict) or not config_file.is_file():
        return content
    config = parse_json(config_file)
    listed = config.get("added_tokens_decoder") if isinstance(config, dict) else None
    known = content.get("added_tokens") or []
    if not isinstance(listed, dict) or not isinstance(known, list):
        return content
    have = {token.get("content") for token in known if isinstance(token, dict)}
    further = [
        {**token, "id": int(token_id)}
        for token_id, token in listed.items()
        if isinstance(token, dict) and token_id.isdecimal() and token.get("content") not in have
    ]
    return content | {"added_tokens": [*known, *sorted(further, key=lambda token: token["id"])]}


def _is_characters(content: Any) -> bool:
    own = isinstance(content, dict) and content.get("format") == characters.FORMAT
    return own or is_characters_json(content)


def _byte_level(arguments: dict[str, Any], path: Path) -> BPETokenizer:
    """`BPETokenizer(**arguments)`; a refusal of the constructor names the file `path`, too."""
    with reading_vocabulary(path):
        return BPETokenizer(**arguments)
