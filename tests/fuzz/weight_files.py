"""Damaged safetensors files, also held against the official library."""

import json
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from npllm.weights.safetensors import load
from tests.fuzz.mutations import mutate_bytes, mutate_json
from tests.fuzz.readers import Reader, rounds


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


def _damage(rng: np.random.Generator, content: bytes) -> bytes:
    """Damage of the header as JSON, with the right length before it, or of the bytes."""
    size = int.from_bytes(content[:8], "little")
    if rng.random() < 0.5:
        return mutate_bytes(rng, content, header=size + 8)

    header = mutate_json(rng, json.loads(content[8 : 8 + size]))
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def _read(folder: Path) -> list:
    return _as_list(load(folder / "model.safetensors")[0])


def _as_list(state) -> list:
    return [
        (name, str(array.dtype), array.shape, np.ascontiguousarray(array).tobytes()) for name, array in state.items()
    ]


def _read_both(folder: Path) -> list:
    """What npllm reads. Raises AssertionError if the official library refuses it, or reads other arrays."""
    ours = _read(folder)
    theirs = _as_list(safetensors.numpy.load((folder / "model.safetensors").read_bytes()))
    assert sorted(ours) == sorted(theirs), "the official library reads other arrays"
    return ours


READERS = {"safetensors": Reader(_plain, "model.safetensors", _read_both, _damage)}
ROUNDS = rounds(READERS)
