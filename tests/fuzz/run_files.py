"""Damaged files of a training run: bytes of every file; fields of run.json and of checkpoints with a new checksum.

A file that is accepted must lead to the same weights after one more step, unless its checksum was computed anew.
"""

import json
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from npllm.models import GPTConfig
from npllm.tokenizers import CharacterTokenizer
from npllm.training import TrainingConfig, create_run, open_run, open_trained
from npllm.training.checkpoint import FORMAT, VERSION, load_checkpoint
from npllm.training.log import StepLog
from npllm.utils.checked_json import checksum
from npllm.weights import safetensors
from tests.fuzz.mutations import mutate_bytes, mutate_json, pick
from tests.fuzz.readers import Reader, rounds

TEXT = "the quick brown fox jumps over the lazy dog. " * 30
DTYPES = ("float16", "float64", "int32", "bool", "uint8", "float32")


def _files() -> dict[str, bytes]:
    """A run of 9 steps after its third step, with a log and the best weights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = CharacterTokenizer.from_text(TEXT)
        config = GPTConfig(tokenizer.vocab_size, 8, 8, 1, 2)
        training = TrainingConfig(num_steps=9, batch_size=2, eval_interval=2, eval_batches=1, warmup_steps=2)
        run = create_run(folder, TEXT, tokenizer, config, training)
        log = StepLog(folder / "log.jsonl", 0)
        for step in range(3):
            metrics = run.trainer.step(run.save_best)
            log.add({"step": step, "loss": metrics.loss, "tokens_per_second": 9})
            run.save()
        run.close()
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def _continue(folder: Path) -> bytes:
    """The weights after one more step."""
    run = open_run(folder)
    log = StepLog(folder / "log.jsonl", run.trainer.steps_done)
    try:
        log.add({"step": run.trainer.steps_done, "loss": run.trainer.step().loss})
    except FloatingPointError:  # weights that are nan are legal in a checkpoint, but nothing is learned from them
        return b"diverged"
    assert np.isfinite(log.recent_loss())
    return b"".join(parameter.data.tobytes() for _, parameter in run.model.named_parameters())


def _open_best(folder: Path) -> bytes:
    model = open_trained(folder, best=True).model
    return b"".join(parameter.data.tobytes() for _, parameter in model.named_parameters())


def _run_fields(rng: np.random.Generator, content: bytes) -> bytes:
    """run.json with other fields and their checksum."""
    fields = json.loads(content)
    del fields["sha256"]
    damaged = mutate_json(rng, fields)
    try:
        fields = dict(json.loads(damaged))
        text = json.dumps(fields | {"sha256": checksum(fields)})
    except (ValueError, TypeError, RecursionError):
        return damaged
    return text.encode("utf-8", "surrogatepass")


def _checkpoint_contents(rng: np.random.Generator, content: bytes) -> bytes:
    """A checkpoint with other values or arrays, and their checksum."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        path.write_bytes(content)
        arrays, values = load_checkpoint(path)
        text = json.dumps(values)
        if rng.random() < 0.6:
            text = mutate_json(rng, values).decode("utf-8", "replace")
        else:
            arrays = _other_arrays(rng, dict(arrays))
        safetensors.save(path, arrays, {"format": FORMAT, "version": VERSION, "values": text})
        return path.read_bytes()


def _other_arrays(rng, arrays):
    name = pick(rng, sorted(arrays))
    array, form = arrays[name], rng.integers(6)
    if form == 0:
        del arrays[name]
    elif form == 1:
        arrays[f"{name}.more"] = array
    elif form == 2:
        arrays[name] = array.astype(pick(rng, DTYPES))
    elif form == 3:
        arrays[name] = array[..., :-1]
    elif form == 4:
        arrays[name] = np.full_like(array, pick(rng, (np.nan, np.inf, 1e38)))
    else:
        arrays[name] = array.reshape(-1)
    return arrays


def _log_lines(rng: np.random.Generator, content: bytes) -> bytes:
    """log.jsonl with one line of other fields."""
    lines = content.splitlines()
    index = rng.integers(len(lines))
    lines[index] = mutate_json(rng, json.loads(lines[index]))
    return b"\n".join(lines) + b"\n"


_any = partial(Reader, _files, read=_continue)
READERS = {
    "run.json of a run": _any("run.json", verified=True),
    "run.json with its checksum": _any(
        "run.json", damage=_run_fields, names=("run.json", "does not belong to this run")
    ),
    "checkpoint": _any("checkpoint.safetensors", verified=True),
    "checkpoint with its checksum": _any("checkpoint.safetensors", damage=_checkpoint_contents),
    "best.safetensors": _any("best.safetensors", verified=True),
    "best.safetensors to generate": Reader(_files, "best.safetensors", _open_best, verified=True),
    "log.jsonl": _any("log.jsonl", verified=True),
    "lines of log.jsonl": _any("log.jsonl", damage=_log_lines, verified=True),
    "vocabulary.json of a run": _any("vocabulary.json", verified=True),
    "train.tokens of a run": _any("train.tokens", verified=True),
    "validation.tokens of a run": _any("validation.tokens", verified=True, damage=mutate_bytes),
}
ROUNDS = rounds(READERS)
