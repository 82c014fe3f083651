"""Damaged safetensors files and chat templates; `model_files.py` has the other files of models.

safetensors is also held against the official library: what npllm accepts, it must accept with equal arrays.
"""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import safetensors
import safetensors.numpy

from npllm.generation.chat_template import render_chat
from npllm.models import architecture, build, from_pretrained
from npllm.utils.file_errors import FileError
from npllm.weights.safetensors import load, save
from tests.fuzz.mutations import mutate_bytes, mutate_json
from tests.fuzz.readers import Reader, rounds

IDS = np.arange(12).reshape(2, 6)


def _state() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "a.weight": rng.standard_normal((3, 4)).astype(np.float32),
        "b": np.arange(5),
        "scalar": np.array(1.5),
        "empty": np.zeros((0, 2), np.float16),
        "flag": np.array([True, False]),
    }


def _plain() -> dict[str, bytes]:
    """A file without npllm's checksum, as other programs write them."""
    return {"model.safetensors": safetensors.numpy.save(_state(), {"format": "np"})}


def _with_checksum() -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        save(Path(folder) / "model.safetensors", _state())
        return {"model.safetensors": (Path(folder) / "model.safetensors").read_bytes()}


def damage_safetensors(rng: np.random.Generator, content: bytes) -> bytes:
    """Damage of the header as JSON, with the right length before it, or of the bytes."""
    size = int.from_bytes(content[:8], "little")
    if rng.random() < 0.5:
        return mutate_bytes(rng, content, header=size + 8)
    header = mutate_json(rng, json.loads(content[8 : 8 + size]))
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def _as_list(state: dict[str, np.ndarray]) -> list:
    rows = [(name, str(a.dtype), a.shape, np.ascontiguousarray(a).tobytes()) for name, a in state.items()]
    return sorted(rows)


def _read(folder: Path) -> list:
    return _as_list(load(folder / "model.safetensors")[0])


def _read_both(folder: Path) -> list:
    """What npllm reads. Raises unless the official library reads the same."""
    ours = _read(folder)
    theirs = _as_list(safetensors.numpy.load((folder / "model.safetensors").read_bytes()))
    assert ours == theirs, "the official library reads other arrays"
    return ours


def _model(name: str) -> Callable[[], dict[str, bytes]]:
    """The files of a small saved model."""

    def files() -> dict[str, bytes]:
        with TemporaryDirectory() as folder:
            config = architecture(name, 20, 16, 16, 2, 2)
            build(config, rng=np.random.default_rng(0)).save_pretrained(folder)
            return {path.name: path.read_bytes() for path in Path(folder).iterdir()}

    return files


TEMPLATE = """{%- if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% set m = messages[1:] %}{% else %}
{%- set m = messages %}{% endif %}{% for x in m %}{{ '<|im_start|>' + x['role'] + '\n' + x['content'] | trim }}
{%- if not loop.last %}{{ '<|im_end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ eos_token }}{% endif %}
{%- macro f(a, b=2) %}{{ a * b }}{% endmacro %}{{ f(3) }}{{ [1, 2] | tojson }}{{ 'a' is string }}"""


def _render(folder: Path) -> int:
    """The length of a conversation. The template is an argument here: its errors are ValueErrors without a file."""
    template = (folder / "template").read_bytes().decode("utf-8", "replace")
    try:
        return len(render_chat(template, [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]))
    except ValueError as error:
        raise FileError("template", str(error)) from None


def _logits(folder: Path) -> tuple:
    model = from_pretrained(folder)
    with np.errstate(all="ignore"):
        return model(IDS).shape


READERS = {
    "safetensors": Reader(_plain, "model.safetensors", _read_both, damage_safetensors),
    "safetensors, checksum": Reader(_with_checksum, "model.safetensors", _read, damage_safetensors),
    "weights of a model": Reader(_model("llama"), "model.safetensors", _logits, damage_safetensors),
    "chat template": Reader(lambda: {"template": TEMPLATE.encode()}, "template", _render),
}
ROUNDS = rounds(READERS)
