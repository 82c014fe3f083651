"""A published model with everything that belongs to it: weights, tokenizer, end tokens, chat template.

    name, folder or GGUF file → [open_pretrained] → Pretrained(model, tokenizer, stop_ids, chat_template, …)

    config.json                 the shape of the model; bos_token_id, eos_token_id
    generation_config.json      eos_token_id: an id or a list of ids
    tokenizer_config.json       bos_token, eos_token, chat_template (a text, or a list of templates with names)
    special_tokens_map.json     bos_token, eos_token, in older folders
    chat_template.jinja         the chat template, where it is a file of its own

A GGUF file has all of these in its metadata.
"""

from dataclasses import dataclass
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
from npllm.utils.gguf_file import is_gguf, read_metadata
from npllm.utils.json_files import as_json, read_json_object
from npllm.weights.model_folder import read_config

GENERATION, TOKENIZER, SPECIAL_TOKENS = "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"
TEMPLATE, OLDER_TEMPLATE = "chat_template.jinja", "chat_template.json"
GGUF_END_FIELDS = ("eos_token_id", "eot_token_id", "eom_token_id")  # the end of a text, of a turn, of a message
END_OF_TURN = (  # the special tokens with which chat templates end a message
    "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|end_of_turn|>", "<|endofturn|>", "<|eot|>",
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
    is refused: the ids of another vocabulary mean other tokens. For a folder with the weights of OpenAI's GPT-2 and
    nothing else, `vocabulary="gpt2"` is the right one.
    """
    path = find_model(name_or_path)
    if is_gguf(path):
        return _open_gguf(path, dtype, vocabulary)
    if not path.is_dir():
        raise ValueError(f"{path} is neither a folder nor a GGUF file; it must be a model")
    return _open_folder(path, dtype, vocabulary)


def _open_gguf(path: Path, dtype: str, vocabulary: str | PathLike | None) -> Pretrained:
    metadata = read_metadata(path)
    tokenizer = tokenizer_from_metadata(metadata, path) if vocabulary is None else _vocabulary(vocabulary)
    ids: dict[str, int] = {}
    for name in ("bos_token_id", *GGUF_END_FIELDS):
        value = metadata.get(f"tokenizer.ggml.{name}", -1)  # no token has the id −1
        if type(value) is not int:
            raise ValueError(f"{path} has tokenizer.ggml.{name} {value!r:.80}; it must be an id")
        ids[name] = value
    template = metadata.get("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        raise ValueError(f"{path} has tokenizer.chat_template {template!r:.80}; it must be a text")
    ends = {ids[name] for name in GGUF_END_FIELDS}
    texts = {token_id: text for text, token_id in tokenizer.special_tokens.items()}
    bos_token, eos_token = texts.get(ids["bos_token_id"]), texts.get(ids["eos_token_id"])
    return _pretrained(path, dtype, tokenizer, ends, bos_token, eos_token, template)


def _open_folder(path: Path, dtype: str, vocabulary: str | PathLike | None) -> Pretrained:
    config, config_path = read_config(path)
    tokenizer = _tokenizer_of_folder(path) if vocabulary is None else _vocabulary(vocabulary)
    generation = _read_if_there(path / GENERATION)
    ends = _ids(config_path, config, "eos_token_id") | _ids(path / GENERATION, generation, "eos_token_id")
    texts = {token_id: text for text, token_id in tokenizer.special_tokens.items()}
    tokens: dict[str, str | None] = {}
    for name in ("bos_token", "eos_token"):
        text = next(filter(None, (_token(path / file, name) for file in (TOKENIZER, SPECIAL_TOKENS))), None)
        ids = sorted(_ids(config_path, config, f"{name}_id"))
        tokens[name] = texts.get(ids[0]) if text is None and ids else text
    if tokens["eos_token"] in tokenizer.special_tokens:
        ends.add(tokenizer.special_tokens[tokens["eos_token"]])
    return _pretrained(path, dtype, tokenizer, ends, tokens["bos_token"], tokens["eos_token"], _template(path))


def _pretrained(
    path: Path, dtype: str, tokenizer: Tokenizer, ends: set[int], bos: str | None, eos: str | None, template: str | None
) -> Pretrained:
    """Open the weights, compare them with the vocabulary, and add the end of a turn to the end tokens."""
    for text in END_OF_TURN:
        if template is not None and text in template and text in tokenizer.special_tokens:
            ends.add(tokenizer.special_tokens[text])
    model = from_pretrained(path, dtype)
    num_ids, added = model.config.vocab_size, set(tokenizer.special_tokens.values())
    too_high = [int(token_id) for token_id in tokenizer.token_ids() if token_id >= num_ids and token_id not in added]
    if too_high:  # special tokens that the model was not trained with are common, and harmless unless they are used
        raise ValueError(
            f"{path} has a model of vocab_size {num_ids} and a tokenizer with the id {max(too_high)}; they do not "
            f"belong together"
        )
    stop_ids = frozenset(token_id for token_id in ends if 0 <= token_id < num_ids)
    return Pretrained(path, model, tokenizer, stop_ids, bos, eos, template)


def _vocabulary(vocabulary: str | PathLike) -> Tokenizer:
    return GPT2Tokenizer.load() if vocabulary == "gpt2" else load_tokenizer(vocabulary)


def _tokenizer_of_folder(path: Path) -> Tokenizer:
    """The tokenizer in a model folder; the error for a folder without one says which files would do."""
    try:
        return load_tokenizer(path)
    except FileNotFoundError as error:
        raise ValueError(
            f"{path} has no tokenizer: {error}. Put the model's tokenizer.json (or tokenizer.model, vocab.json and "
            f"merges.txt) into it, or name a vocabulary; for OpenAI's GPT-2 that is gpt2"
        ) from None


def _template(path: Path) -> str | None:
    """The chat template of a folder: its own file, or the field of tokenizer_config.json."""
    if (path / TEMPLATE).is_file():
        try:
            return (path / TEMPLATE).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path / TEMPLATE} is not UTF-8: {error}") from None
    for file in (path / TOKENIZER, path / OLDER_TEMPLATE):
        template = _read_if_there(file).get("chat_template")
        if isinstance(template, list):  # several templates by name
            try:
                template = {item["name"]: item["template"] for item in template}
            except (TypeError, KeyError):
                raise _invalid(file, "chat_template", template, 'a text, or a list of {"name", "template"}') from None
        if isinstance(template, dict):
            template = template.get("default")
        if isinstance(template, str):
            return template
        if template is not None:
            raise _invalid(file, "chat_template", template, "a text")
    return None


def _token(file: Path, name: str) -> str | None:
    """A token of tokenizer_config.json or special_tokens_map.json: a text, or an object with its "content"."""
    value = _read_if_there(file).get(name)
    text = value.get("content") if isinstance(value, dict) else value
    if text is not None and not isinstance(text, str):
        raise _invalid(file, name, value, 'a text, or an object with "content"')
    return text


def _ids(file: Path, fields: dict[str, Any], name: str) -> set[int]:
    """The ids of a field that is an id, a list of ids, or null."""
    value = fields.get(name)
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if any(type(token_id) is not int for token_id in ids):
        raise _invalid(file, name, value, "an id or a list of ids")
    return set(ids)


def _read_if_there(file: Path) -> dict[str, Any]:
    return read_json_object(file) if file.is_file() else {}


def _invalid(file: Path, name: str, value: Any, must: str) -> ValueError:
    return ValueError(f"{file} has {name} {as_json(value)}; it must be {must}")
