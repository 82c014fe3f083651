"""Save and load vocabularies: the name of a file decides its format.

tokenizer.json      Hugging Face (`hugging_face`)
another *.json      npllm's own (`npllm_json`); tokenizer.json's content is recognized under any name
*.tiktoken          tiktoken's ranks (`tiktoken_ranks`)
a folder            OpenAI's encoder.json and vocab.bpe (`openai`); a *.bpe alone can be read
"""

import json
from pathlib import Path

from npllm.tokenizers.formats.hugging_face import from_tokenizer_json, is_tokenizer_json, to_tokenizer_json
from npllm.tokenizers.formats.npllm_json import from_npllm_json, to_npllm_json
from npllm.tokenizers.formats.openai import load_openai, ranks_from_merges, read_merges, save_openai
from npllm.tokenizers.formats.tiktoken_ranks import from_tiktoken, to_tiktoken
from npllm.utils.files import atomic_write

Vocabulary = tuple[dict[bytes, int], str | None, dict[str, int]]  # ranks, pattern if the format has one, special tokens


def save(path: str | Path, tokenizer) -> None:
    """Write a BPETokenizer in the format of the name; see BPETokenizer.save."""
    path = Path(path)
    if path.name == "tokenizer.json":
        _write(path, json.dumps(to_tokenizer_json(tokenizer), ensure_ascii=False, indent=2).encode())
    elif path.suffix == ".json":
        _write(path, json.dumps(to_npllm_json(tokenizer), ensure_ascii=False, indent=1).encode())
    elif path.suffix == ".tiktoken":
        _write(path, to_tiktoken(tokenizer.ranks))
    elif path.suffix == "" or path.is_dir():
        save_openai(path, tokenizer)
    else:
        raise ValueError(f"path is {path}; it must end in .json or .tiktoken, or be a folder")


def load(path: str | Path) -> Vocabulary:
    """Read a vocabulary; see BPETokenizer.load."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    if path.is_dir():
        ranks, special_tokens = load_openai(path)
        return ranks, None, special_tokens
    try:
        if path.suffix == ".json":
            return _load_json(path)
        if path.suffix == ".bpe":
            return ranks_from_merges(read_merges(path.read_text(encoding="utf-8"))), None, {}
        return from_tiktoken(path.read_bytes(), path), None, {}
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not a vocabulary in the format of its name: {error}") from None


def _load_json(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    if not is_tokenizer_json(content):
        hint = " (for OpenAI's files, give the folder)" if path.name == "encoder.json" else ""
        return from_npllm_json(content, f"{path}{hint}")
    try:
        return from_tokenizer_json(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _write(path, data):
    with atomic_write(path) as file:
        file.write(data)
