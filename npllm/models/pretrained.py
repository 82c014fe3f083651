"""A published model with everything that belongs to it: weights, tokenizer, end tokens, chat template.

    name, folder or GGUF file → [open_pretrained] → Pretrained(model, tokenizer, stop_ids, chat_template, …)

    config.json                 the shape of the model; bos_token_id, eos_token_id
    generation_config.json      eos_token_id: an id or a list of ids
    tokenizer_config.json       bos_token, eos_token, chat_template (a text, or a list of templates with names)
    special_tokens_map.json     bos_token, eos_token, in older folders
    chat_template.jinja         the chat template, where it is a file of its own

A GGUF file has all of these in its metadata.
"""

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from npllm.models.catalog import find_model
from npllm.models.decoder import Decoder
from npllm.models.gpt import GPT
from npllm.models.presets import from_pretrained
from npllm.tokenizers import load_tokenizer
from npllm.tokenizers.base import Tokenizer
from npllm.tokenizers.gpt2 import GPT2Tokenizer
from npllm.tokenizers.loading import tokenizer_from_metadata
from npllm.utils.fields import Field, any_of, has_texts, items, optional, read_fields, size, text
from npllm.utils.file_errors import FileError
from npllm.utils.files import read_regular_file
from npllm.utils.gguf_file import is_gguf, read_metadata
from npllm.utils.json_files import read_json_object
from npllm.weights.folder_files import as_path
from npllm.weights.model_folder import check_dtype, read_config

GENERATION, TOKENIZER, SPECIAL_TOKENS = "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"
TEMPLATE, OLDER_TEMPLATE = "chat_template.jinja", "chat_template.json"
GGUF_END_FIELDS = ("eos_token_id", "eot_token_id", "eom_token_id")  # the end of a text, of a turn, of a message
GGUF_IDS = ("bos_token_id", *GGUF_END_FIELDS)
END_OF_TURN = (  # the special tokens with which chat templates end a message
    "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|end_of_turn|>", "<|endofturn|>", "<|eot|>",
)  # fmt: skip


Fields = dict[str, Any]
MAX_TEMPLATE_BYTES = 10_000_000
ID = size(None, low=-1, high=2**32)  # −1, and an id that the model does not have: none
IDS = any_of(optional(ID), items(None, ID), must_be="an id or a list of ids, or null")
TEXT = text(None)
TOKEN = any_of(optional(TEXT), has_texts("content"), must_be='a text, or an object with "content", or null')
CHAT_TEMPLATE = any_of(
    optional(TEXT), items(None, has_texts("name", "template")), has_texts(),
    must_be='a text, or a list of {"name", "template"}, or null',
)  # fmt: skip
TOKENS = {"bos_token": TOKEN, "eos_token": TOKEN}
FILES: dict[str, dict[str, Field]] = {
    GENERATION: {"eos_token_id": IDS},
    TOKENIZER: {**TOKENS, "chat_template": CHAT_TEMPLATE},
    SPECIAL_TOKENS: TOKENS,
    OLDER_TEMPLATE: {"chat_template": CHAT_TEMPLATE},
}
GGUF_FIELDS: dict[str, Field] = {f"tokenizer.ggml.{name}": replace(ID, default=-1) for name in GGUF_IDS}
GGUF_FIELDS["tokenizer.chat_template"] = optional(TEXT)


@dataclass(frozen=True)
class Pretrained:
    """A model, its tokenizer, and what generation needs to know of both.

    path            the folder or the GGUF file
    stop_ids        ids after which a text ends
    bos_token       the text of the token at the beginning of a sequence, or None
    eos_token       the text of the token at its end, or None
    chat_template   a Jinja template that turns messages into a prompt, or None
    template_path   the file that it was read from, or None
    """

    path: Path
    model: GPT | Decoder
    tokenizer: Tokenizer
    stop_ids: frozenset[int]
    bos_token: str | None
    eos_token: str | None
    chat_template: str | None
    template_path: Path | None = None


def open_pretrained(
    name_or_path: str | PathLike, dtype: str = "float32", *, vocabulary: str | PathLike | None = None
) -> Pretrained:
    """Open a published model.

    Args:
        name_or_path: a name of `npllm models`, a folder in Hugging Face's layout, or a GGUF file.
        dtype: of the weights, "float32" or "float64".
        vocabulary: a file or folder with the tokenizer, or "gpt2", in place of the model's own.

    Raises FileNotFoundError, or ValueError that names the file and what is wrong in it. A folder without a tokenizer
    is refused: the ids of another vocabulary mean other tokens. For a folder with the weights of OpenAI's GPT-2 and
    nothing else, `vocabulary="gpt2"` is the right one.
    """
    check_dtype(dtype)
    path = find_model(name_or_path)
    if is_gguf(path):
        return _open_gguf(path, dtype, vocabulary)
    if not path.is_dir():
        raise FileError(path, "is neither a folder nor a GGUF file; it must be a model")
    return _open_folder(path, dtype, vocabulary)


def _open_gguf(path: Path, dtype: str, vocabulary: str | PathLike | None) -> Pretrained:
    metadata = read_metadata(path)
    tokenizer = tokenizer_from_metadata(metadata, path) if vocabulary is None else _vocabulary(vocabulary)
    fields = read_fields(path, metadata, GGUF_FIELDS)
    ends = {fields[f"tokenizer.ggml.{name}"] for name in GGUF_END_FIELDS}
    texts = {token_id: token for token, token_id in tokenizer.special_tokens.items()}
    bos_token, eos_token = (texts.get(fields[f"tokenizer.ggml.{name}_token_id"]) for name in ("bos", "eos"))
    template = fields["tokenizer.chat_template"]
    return _pretrained(path, dtype, tokenizer, ends, bos_token, eos_token, template, path)


def _open_folder(path: Path, dtype: str, vocabulary: str | PathLike | None) -> Pretrained:
    config, config_path = read_config(path)
    tokenizer = _tokenizer_of_folder(path) if vocabulary is None else _vocabulary(vocabulary)
    ids = read_fields(config_path, config, {"bos_token_id": IDS, "eos_token_id": IDS})
    ends = set(_as_list(ids["eos_token_id"])) | set(_as_list(_read(path / GENERATION)["eos_token_id"]))
    texts = {token_id: token for token, token_id in tokenizer.special_tokens.items()}
    tokens: dict[str, str | None] = {}
    for name in ("bos_token", "eos_token"):
        values = [_read(path / file)[name] for file in (TOKENIZER, SPECIAL_TOKENS)]
        found = next((value["content"] if isinstance(value, dict) else value for value in values if value), None)
        first = next(iter(sorted(_as_list(ids[f"{name}_id"]))), None)
        tokens[name] = texts.get(first) if found is None and first is not None else found
    if tokens["eos_token"] in tokenizer.special_tokens:
        ends.add(tokenizer.special_tokens[tokens["eos_token"]])
    template, file = _template(path)
    return _pretrained(path, dtype, tokenizer, ends, tokens["bos_token"], tokens["eos_token"], template, file)


def _pretrained(
    path: Path, dtype: str, tokenizer: Tokenizer, ends: set[int], bos: str | None, eos: str | None,
    template: str | None, template_path: Path | None,
) -> Pretrained:  # fmt: skip
    """Open the weights, compare them with the vocabulary, and add the end of a turn to the end tokens."""
    for token in END_OF_TURN:
        if template is not None and token in template and token in tokenizer.special_tokens:
            ends.add(tokenizer.special_tokens[token])
    model = from_pretrained(path, dtype)
    num_ids, added = model.config.vocab_size, set(tokenizer.special_tokens.values())
    too_high = [int(token_id) for token_id in tokenizer.token_ids() if token_id >= num_ids and token_id not in added]
    if too_high:  # special tokens that the model was not trained with are common, and harmless unless they are used
        raise FileError(
            path,
            f"has a model of vocab_size {num_ids} and a tokenizer with the id {max(too_high)}; they do not "
            f"belong together",
        )
    stop_ids = frozenset(token_id for token_id in ends if 0 <= token_id < num_ids)
    return Pretrained(path, model, tokenizer, stop_ids, bos, eos, template, template_path)


def _vocabulary(vocabulary: str | PathLike) -> Tokenizer:
    return GPT2Tokenizer.load() if vocabulary == "gpt2" else load_tokenizer(as_path("vocabulary", vocabulary))


def _tokenizer_of_folder(path: Path) -> Tokenizer:
    """The tokenizer in a model folder; the error for a folder without one says which files would do."""
    try:
        return load_tokenizer(path)
    except FileNotFoundError as error:
        raise FileError(
            path,
            f"has no tokenizer: {error}. Put the model's tokenizer.json (or tokenizer.model, vocab.json and "
            f"merges.txt) into it, or name a vocabulary; for OpenAI's GPT-2 that is gpt2",
        ) from None


def _template(path: Path) -> tuple[str | None, Path | None]:
    """The chat template of a folder and its file: one of its own, or the field of tokenizer_config.json."""
    if (path / TEMPLATE).is_file():
        try:
            return read_regular_file(path / TEMPLATE, MAX_TEMPLATE_BYTES).decode("utf-8"), path / TEMPLATE
        except UnicodeDecodeError as error:
            raise FileError(path / TEMPLATE, f"is not UTF-8: {error}") from None
    for file in (path / TOKENIZER, path / OLDER_TEMPLATE):
        template = _read(file)["chat_template"]
        if isinstance(template, list):  # several templates by name
            template = {item["name"]: item["template"] for item in template}
        if isinstance(template, dict):
            template = template.get("default")
        if template is not None:
            return template, file
    return None, None


def _read(file: Path) -> Fields:
    """The fields of one of FILES; defaults if there is no such file."""
    return read_fields(file, read_json_object(file) if file.is_file() else {}, FILES[file.name])


def _as_list(ids: int | list[int] | None) -> list[int]:
    return ids if isinstance(ids, list) else [] if ids is None else [ids]
