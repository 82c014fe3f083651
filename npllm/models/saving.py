"""Save a model with its tokenizer as a folder that transformers opens.

    Pretrained → [folder] → AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)

    config.json, model.safetensors    the model; bos_token_id and eos_token_id
    generation_config.json            all end tokens
    tokenizer.json                    the tokenizer
    tokenizer_config.json             bos_token, eos_token, chat_template

A token id that is not known is null. An id that only happens to be the last one would end every text at that token.
"""

import json
import shutil
from os import PathLike
from pathlib import Path
from typing import Any

from npllm.models.pretrained import Pretrained
from npllm.utils.files import atomic_write
from npllm.weights.folder_files import CONFIG, as_path, replacing
from npllm.weights.model_folder import read_config

TOKENIZER, TOKENIZER_CONFIG, GENERATION_CONFIG = "tokenizer.json", "tokenizer_config.json", "generation_config.json"
BESIDE_TOKENIZER = (TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")


def save_pretrained(pretrained: Pretrained, folder: str | PathLike) -> None:
    """Write the model, its end tokens and its tokenizer into a folder, which is created if it does not exist.

    A tokenizer.json in `pretrained.path`, which a published model has, is copied with the files that belong to it.
    Files of another model in the folder are replaced or removed: its chat template would count before that of this one.
    Raises ValueError if tokenizer.json cannot hold the tokenizer; all other files are written before.
    """
    p, folder = pretrained, as_path("folder", folder)
    ids = {f"{name}_token_id": _id(p, text) for name, text in (("bos", p.bos_token), ("eos", p.eos_token))}
    stop_ids = sorted(p.stop_ids)
    eos = None if not stop_ids else stop_ids[0] if len(stop_ids) == 1 else stop_ids
    source = tokenizer_folder(p.path)
    with replacing(folder, others=(TOKENIZER, *BESIDE_TOKENIZER)) as temporary:
        p.model.save_pretrained(temporary)
        _write_json(temporary / CONFIG, read_config(temporary)[0] | ids)
        _write_json(temporary / GENERATION_CONFIG, ids | {"eos_token_id": eos})
        if source is not None:
            copy_tokenizer(source, temporary)
        if not (temporary / TOKENIZER_CONFIG).is_file():
            _write_json(temporary / TOKENIZER_CONFIG, _tokenizer_config(p))
    if source is None:
        p.tokenizer.save(folder / TOKENIZER)


def tokenizer_folder(path: str | PathLike | None) -> Path | None:
    """The folder of the tokenizer.json that a tokenizer was read from, a folder or this file; None for any other."""
    if path is None:
        return None
    folder = Path(path) if Path(path).name != TOKENIZER else Path(path).parent
    return folder if (folder / TOKENIZER).is_file() else None


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy a tokenizer.json, and the files beside it that say how transformers uses it, into a folder."""
    for name in (TOKENIZER, *BESIDE_TOKENIZER):
        if (source / name).is_file() and source.resolve() != folder.resolve():
            shutil.copyfile(source / name, folder / name)


def _tokenizer_config(pretrained: Pretrained) -> dict[str, Any]:
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": pretrained.model.context_length,
        "clean_up_tokenization_spaces": False,
    }
    for name in ("bos_token", "eos_token", "chat_template"):
        if (text := getattr(pretrained, name)) is not None:
            config[name] = text
    return config


def _id(pretrained: Pretrained, token: str | None) -> int | None:
    """The id of a special token; None if there is no such token."""
    return None if token is None else pretrained.tokenizer.special_tokens.get(token)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=2).encode())
