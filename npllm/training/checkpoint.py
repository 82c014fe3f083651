"""Checkpoints: everything that a training needs to go on, in one file.

    model, optimizer, schedule, random generators, place in the data → one safetensors file → the same, later

One file, because one rename can replace one file: whenever the power fails, the old checkpoint or the new one is there,
whole. The arrays are safetensors' own; the numbers beside them are JSON in its header. Reading one runs nothing.
"""

import json

from npllm.weights import safetensors

FORMAT, VERSION = "npllm checkpoint", "1"


def save_checkpoint(path, arrays, numbers):
    """Write a checkpoint, whole or not at all. The same contents give the same bytes."""
    metadata = {"format": FORMAT, "version": VERSION, "numbers": json.dumps(numbers, sort_keys=True)}
    safetensors.save(path, arrays, metadata)


def load_checkpoint(path):
    """Return (arrays, numbers) as they were saved; the arrays are views of the mapped file.

    Raises FileNotFoundError, or ValueError saying what is wrong: cut off, damaged, or no checkpoint of npllm.
    """
    arrays, metadata = safetensors.load(path)
    if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
        raise ValueError(f"{path} is no checkpoint of npllm: its header does not say {FORMAT!r}, version {VERSION}")
    try:
        numbers = json.loads(metadata["numbers"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged: its numbers cannot be read ({error})") from None
    return arrays, numbers
