"""Save and load vocabularies: the name of a file decides its format when it is saved, its content when it is read.

tokenizer.json            Hugging Face (`hugging_face`)
another *.json            npllm's own (`npllm_json`)
*.tiktoken                tiktoken's ranks (`tiktoken_ranks`), without a pattern (`known_vocabularies`)
a folder                  OpenAI's encoder.json and vocab.bpe (`openai`)

Only read: vocab.json and merges.txt (`openai`), Llama's tokenizer.model with ranks (`tiktoken_ranks`), Mistral's
tekken.json (`tekken`), the JSON of js-tiktoken and Claude (`js_tiktoken`). A folder is read by the file in it that
holds the most. `loading` reads the formats of other kinds of tokenizers, too.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from npllm.tokenizers.byte_pair.backtracking import check_patterns
from npllm.tokenizers.byte_pair.normalizers import as_normalizers
from npllm.tokenizers.byte_pair.pattern_spellings import canonical_pattern
from npllm.tokenizers.byte_pair.pre_tokenizers import Step
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, PATTERNS
from npllm.tokenizers.byte_pair.published_patterns import QWEN2_PATTERN
from npllm.tokenizers.formats.file_kind import file_kind
from npllm.tokenizers.formats.hugging_face import from_tokenizer_json, is_tokenizer_json, to_tokenizer_json
from npllm.tokenizers.formats.js_tiktoken import from_js_tiktoken, is_js_tiktoken
from npllm.tokenizers.formats.known_vocabularies import known_vocabulary, pattern_of_name
from npllm.tokenizers.formats.npllm_json import from_npllm_json, to_npllm_json
from npllm.tokenizers.formats.openai import (
    PAIR_NAMES,
    PAIRS,
    find_pair,
    load_openai,
    ranks_from_merges,
    read_merges,
    save_openai,
)
from npllm.tokenizers.formats.reading import (
    parse_json,
    read_vocabulary_bytes,
    read_vocabulary_text,
    reading_vocabulary,
)
from npllm.tokenizers.formats.tekken import from_tekken, is_tekken
from npllm.tokenizers.formats.tiktoken_ranks import check_complete, from_tiktoken, to_tiktoken
from npllm.utils.files import atomic_write

FIELDS = ("ranks", "pattern", "special_tokens")
# the beginnings of tokenizer_class and model_type, in lower case, whose vocab.json has these patterns
GPT2_NAMES = ("gpt2", "gpt_neo", "gptneo", "gptj", "roberta", "opt", "bart", "codegen", "whisper")
QWEN_NAMES = ("qwen2", "qwen3")
NAMES = {"gguf": "GGUF", "sentencepiece": "SentencePiece"}
PAIR_JSON = tuple(names[0] for names in PAIRS)
OTHER_JSON = {  # a field → what the file is
    "tokenizer_class": "a tokenizer_config.json, which belongs to a vocabulary (give the folder)",
    "model_type": "the configuration of a model (give the folder)",
    "weight_map": "the index of a model's weights",
}


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


def load(path: str | Path, pattern: str | Sequence[Step] | None = None) -> dict[str, Any]:
    """Read a vocabulary: the arguments of BPETokenizer; see BPETokenizer.load."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    path = find_vocabulary(path) if path.is_dir() else path
    with reading_vocabulary(path):
        arguments = _load_file(path, pattern)
        if pattern is None:
            check_patterns(arguments["pattern"], as_normalizers(arguments.get("normalizer")))
        return arguments


def _load_file(path, pattern):
    kind = file_kind(path)
    if kind in ("gguf", "sentencepiece"):
        raise ValueError(f"{path} is a {NAMES[kind]} file; read it with npllm.tokenizers.load_tokenizer")
    if kind == "json":
        return from_json(parse_json(path), path, pattern)
    if kind == "tiktoken":
        return _from_tiktoken(path, pattern)
    if path.suffix == ".bpe" and not (path.parent / "encoder.json").is_file():
        with reading_vocabulary(path):
            ranks, special_tokens = ranks_from_merges(read_merges(read_vocabulary_text(path))), {}
    else:
        return _pair_arguments(path, pattern)
    return {"ranks": ranks, "pattern": pattern or GPT2_PATTERN, "special_tokens": special_tokens}


def from_json(content: Any, path: Path, pattern: str | Sequence[Step] | None = None) -> dict[str, Any]:
    """The arguments of BPETokenizer from the parsed content of a JSON file in one of the formats. Raises FileError."""
    with reading_vocabulary(path):
        if is_tokenizer_json(content):
            arguments = from_tokenizer_json(content)
        elif is_tekken(content):
            arguments = dict(zip(FIELDS, from_tekken(content)))
        elif is_js_tiktoken(content):
            arguments = dict(zip(FIELDS, from_js_tiktoken(content)))
        elif path.name in PAIR_JSON:
            arguments = _pair_arguments(path, pattern)
        else:
            arguments = from_npllm_json(content, _described(content, path))
        if pattern is None:
            check_patterns(arguments["pattern"], as_normalizers(arguments.get("normalizer")))
        return arguments | {"pattern": pattern or canonical_pattern(arguments["pattern"])}


def find_vocabulary(folder: Path) -> Path:
    """The file of a folder that holds the most: npllm's own, then tokenizer.json, then other formats.

    Raises FileNotFoundError if there is none, and ValueError if there are several of one kind.
    """
    if is_npllm_vocabulary(folder / "vocabulary.json"):
        return folder / "vocabulary.json"
    for name in ("tokenizer.json", "tekken.json", "tokenizer.model", "tiktoken.model", "claude.json"):
        if (folder / name).is_file():
            return folder / name
    if any((folder / name).is_file() for names in PAIRS for name in names):
        return find_pair(folder)[1]
    for ending in ("*.tiktoken", "*.model", "*.model.v[0-9]*", "*.gguf"):
        if found := sorted(folder.glob(ending)):
            if len(found) > 1:
                names = ", ".join(path.name for path in found[:4])
                raise ValueError(f"{folder} has {len(found)} vocabularies, {names}; give the path of one of them")
            return found[0]
    raise FileNotFoundError(
        f"there is no vocabulary in {folder}; it must have vocabulary.json, tokenizer.json, tekken.json, "
        f"tokenizer.model, {PAIR_NAMES}, a *.tiktoken or a *.gguf"
    )


def is_npllm_vocabulary(path: Path) -> bool:
    """True for a file that begins as npllm's vocabularies do."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return b'"npllm ' in file.read(80)


def _from_tiktoken(path, pattern):
    """The arguments for a file of ranks, whose pattern is given, or known by the file's SHA-256 or its name."""
    content = read_vocabulary_bytes(path)
    ranks, known = from_tiktoken(content, path), known_vocabulary(content)
    if known is not None:
        return {"ranks": ranks, "pattern": pattern or known.pattern, "special_tokens": known.special_tokens}
    check_complete(ranks, content, path)
    pattern = pattern or pattern_of_name(path)
    if pattern is None:
        raise ValueError(
            f"{path} holds tokens and ranks without the pattern that splits a text, and it is no published file that "
            f"npllm supports; pass pattern, a regular expression or one of {', '.join(map(repr, PATTERNS))}"
        )
    return {"ranks": ranks, "pattern": pattern, "special_tokens": {}}


def _pair_arguments(path, pattern):
    """The arguments for vocab.json and merges.txt, or encoder.json and vocab.bpe.

    The pattern is GPT-2's, unless the folder says that the vocabulary is that of another tokenizer.
    """
    ranks, special_tokens = load_openai(path)
    arguments = {"ranks": ranks, "pattern": pattern or GPT2_PATTERN, "special_tokens": special_tokens}
    folder = path if path.is_dir() else path.parent
    where, name = tokenizer_name(folder)
    if pattern is not None or name is None or path.name in PAIRS[0]:
        return arguments
    if name.removesuffix("Fast").lower().startswith(QWEN_NAMES):
        return arguments | {"pattern": QWEN2_PATTERN, "normalizer": "NFC"}
    if not name.removesuffix("Fast").lower().startswith(GPT2_NAMES):
        raise ValueError(
            f"{path} does not hold the pattern that splits a text, and {where} says that it belongs to {name}; "
            "give a tokenizer.json, or pass pattern"
        )
    return arguments


def tokenizer_name(folder: Path) -> tuple[str, str | None]:
    """(field and file, name) of a folder's tokenizer_class, or else of its model_type; ("", None) without both."""
    for name, field in (("tokenizer_config.json", "tokenizer_class"), ("config.json", "model_type")):
        content = parse_json(folder / name) if (folder / name).is_file() else None
        if isinstance(content, dict) and isinstance(content.get(field), str):
            return f"{field} of {folder / name}", content[field]
    return "", None


def _described(content, path):
    """The path, and what the file is if it is one that stands beside a vocabulary."""
    for key, what in OTHER_JSON.items():
        if isinstance(content, dict) and key in content:
            return f"{path}, {what},"
    return str(path)


def _write(path, data):
    with atomic_write(path) as file:
        file.write(data)
