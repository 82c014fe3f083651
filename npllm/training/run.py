"""A training run in a folder: its configuration, its data as token ids, and its checkpoints.

    run.json                  the configuration, see run_config
    vocabulary.json           the tokenizer (tokenizer.json if it is a published one, see run_tokenizer)
    train.tokens              token ids of the training text
    validation.tokens         token ids of the validation text, the end of the given text
    checkpoint.safetensors    the state of the training, replaced at every checkpoint
    checkpoint.previous.safetensors    the checkpoint before it
    best.safetensors          the weights with the lowest validation loss so far
    config.json, model.safetensors, tokenizer.json, …    written at the end: the model, as transformers opens it

run.json is written last, so a folder with a run.json is complete. The original text is not needed any more. A process
that trains holds the lock of the folder, see run_lock.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from npllm.batching.dataset import END_OF_TEXT, WindowDataset, encode_for_training
from npllm.batching.token_file import open_token_file, read_header, write_token_file
from npllm.models.presets import build, from_pretrained
from npllm.models.pretrained import Pretrained
from npllm.models.saving import save_pretrained
from npllm.training.checkpoint import save_checkpoint
from npllm.training.run_checkpoints import (
    BEST,
    CHECKPOINT,
    PREVIOUS,
    belonging,
    build_model,
    check_dtypes,
    load_run_checkpoint,
    read_best,
)
from npllm.training.run_config import RUN, RunConfig, TokenRoles, read_run, write_run
from npllm.training.run_files import TOKEN_FILES, check_files, file_hashes
from npllm.training.run_lock import RunLock, hold
from npllm.training.run_tokenizer import load_run_tokenizer, save_run_tokenizer
from npllm.training.trainer import Trainer, TrainingConfig, model_arrays
from npllm.training.validation_split import check_parts, split_position
from npllm.utils.file_errors import FileError, reading

WEIGHTS = "model.safetensors"
CHUNK = 1 << 20  # ids that are copied at once


class Run:
    """A trainer with its folder, its tokenizer and its RunConfig; see `create_run` and `open_run`.

    best  (step, validation loss) of the weights in best.safetensors; None before the first evaluation
    lock  of the folder; None for a run that is only read
    """

    def __init__(self, folder: Path, tokenizer: Any, trainer: Trainer, config: RunConfig, lock: RunLock | None = None):
        self.folder, self.tokenizer, self.trainer, self.config = Path(folder), tokenizer, trainer, config
        self.lock = lock
        self.best = read_best(self.folder)
        self._keeps_replaced = True

    def close(self) -> None:
        """Release the lock of the folder; another process may then train in it."""
        if self.lock is not None:
            self.lock.release()

    @property
    def model(self) -> Any:
        """The model in training."""
        return self.trainer.model

    @property
    def num_threads(self) -> int | None:
        """The recorded number of BLAS threads."""
        return self.config.num_threads

    def save(self) -> None:
        """Replace the checkpoint by the current state, atomically, and keep the replaced one.

        Raises FloatingPointError for weights that are nan or infinite: the checkpoint on disk is then better.
        """
        self._check_unchanged()
        arrays, values = self.trainer.state()
        _check_finite(arrays, self.trainer.steps_done)
        keep_as = self.folder / PREVIOUS if self._keeps_replaced else None
        save_checkpoint(self.folder / CHECKPOINT, arrays, values, keep_as=keep_as)
        self._keeps_replaced = True

    def _check_unchanged(self):
        """Raise FileError if a token file, which is memory-mapped, was shortened or replaced since it was opened."""
        for name in TOKEN_FILES:
            if read_header(self.folder / name).sha256 != self.config.files[name]:
                raise FileError(self.folder / name, "was replaced during the run")

    def save_best(self, validation_loss: float) -> None:
        """Save the current weights as the best ones if this loss is lower than that of every earlier evaluation."""
        self._check_unchanged()
        if self.best is None or validation_loss < self.best[1]:
            self.best = self.trainer.steps_done, validation_loss
            values = {"steps_done": self.best[0], "validation_loss": validation_loss}
            save_checkpoint(self.folder / BEST, model_arrays(self.model), values)

    def save_model(self) -> str | None:
        """Write model and tokenizer for transformers; return a message if the tokenizer could not be written."""
        try:
            save_pretrained(self.pretrained(), self.folder)
        except ValueError as error:
            return str(error)
        return None

    def pretrained(self) -> Pretrained:
        """The model in training with its tokenizer and end tokens, as `open_pretrained` returns a published one."""
        return _pretrained(self.folder, self.model, self.tokenizer, self.config)

    def set_num_steps(self, num_steps: int) -> None:
        """Prolong or shorten the run to `num_steps` in all, and record it in run.json.

        From the next step on, the learning rate is that of a run of `num_steps` from its start: after the end of a
        cosine it rises again. Raises ValueError for fewer steps than are done.
        """
        config = replace(self.trainer.config, num_steps=num_steps)
        if num_steps < self.trainer.steps_done:
            raise ValueError(
                f"num_steps is {num_steps}; it must be at least {self.trainer.steps_done}, the number of steps done"
            )
        self._set_training(config)

    def set_recompute(self, recompute: bool) -> None:
        """Change `recompute` from the next step on, and record it in run.json; it does not change the result."""
        self._set_training(replace(self.trainer.config, recompute=recompute))

    def _set_training(self, config: TrainingConfig) -> None:
        self.trainer.config = config
        self.config = replace(self.config, training=self.trainer.config)
        write_run(self.folder, self.config)


def create_run(
    folder: str | Path,
    data: str | np.ndarray,
    tokenizer: Any,
    model_config: Any,
    training_config: TrainingConfig | None = None,
    validation_fraction: float = 0.1,
    num_threads: int | None | Callable[[Trainer], int | None] = None,
    *,
    context_length: int | None = None,
    pretrained: Pretrained | None = None,
    tokenizer_path: str | Path | None = None,
    eos_token: str | None = None,
) -> Run:
    """Write a new run into a folder and open it.

    Args:
        folder: created if it does not exist; raises FileExistsError if it has a run.
        data: a text, or its ids as an array, such as `open_token_file` returns. The last `validation_fraction` of the
            ids becomes the validation text, see `split_position`.
        model_config: a GPTConfig or DecoderConfig.
        num_threads: the number of BLAS threads to record, see RunConfig, or a function that chooses it for the trainer.
        context_length: positions in a window of the data; by default, those of the model.
        pretrained: a model to start from, whose weights and end tokens are taken; `model_config` must have its shape.
        tokenizer_path: the file or folder that `tokenizer` was read from; a tokenizer.json in it is copied.
            By default the path of `pretrained`.
        eos_token: the token at the end of a document; by default that of `pretrained`, or <|endoftext|>.

    Raises ValueError if the training or validation text is too short for one window or one batch, and BlockingIOError
    if another process trains in the folder. A call that raises leaves no file behind.
    """
    folder, training_config = Path(folder), training_config or TrainingConfig()
    if (folder / RUN).exists():
        raise FileExistsError(f"{folder} already has a run; resume it, or choose another folder")
    if pretrained is None and model_config.vocab_size < tokenizer.vocab_size:  # a published model has been checked
        raise ValueError(
            f"the model has vocab_size {model_config.vocab_size}; it must be at least {tokenizer.vocab_size}, the "
            "tokenizer's"
        )
    tokens = _token_roles(tokenizer, pretrained, eos_token)
    config = RunConfig(model_config, training_config, None, context_length, tokens)
    end_token = END_OF_TEXT if tokens.eos_token is None else tokens.eos_token
    ids = encode_for_training(data, tokenizer, end_token) if isinstance(data, str) else data
    split = split_position(ids, validation_fraction, tokenizer.special_tokens.get(end_token))
    parts = {"train": ids[:split], "validation": ids[split:]}
    check_parts(parts, config.window_length)
    trainer = _trainer(config, parts, _initial_model(config, pretrained))
    config = replace(config, num_threads=num_threads(trainer) if callable(num_threads) else num_threads)
    if tokenizer_path is None and pretrained is not None:
        tokenizer_path = pretrained.path
    with _new_files(folder) as lock:
        for name, part in parts.items():
            chunks = (part[start : start + CHUNK] for start in range(0, len(part), CHUNK))
            write_token_file(folder / f"{name}.tokens", chunks, min(tokenizer.vocab_size, model_config.vocab_size))
        save_run_tokenizer(folder, tokenizer, tokenizer_path)
        save_checkpoint(folder / CHECKPOINT, *trainer.state())
        config = replace(config, files=file_hashes(folder))
        write_run(folder, config)
    return Run(folder, tokenizer, trainer, config, lock)


def open_run(folder: str | PathLike, dtype: str = "float32", *, previous: bool = False, lock: bool = True) -> Run:
    """Open a run at its last checkpoint, to continue it.

    Args:
        previous: open it at the checkpoint before the last one, which may be damaged.
        lock: hold the lock of the folder until the Run is closed or deleted. False is for a process that only reads.

    Raises FileNotFoundError if the folder has no run, FileError for a file that is damaged or belongs to another run,
    BlockingIOError if another process trains in the folder. A checkpoint with weights that are nan or infinite is
    opened; the next training step then raises FloatingPointError.
    """
    folder = Path(folder)
    config = read_run(folder)
    held = hold(folder) if lock else None
    config = read_run(folder)  # it may have been replaced before the lock was held
    tokenizer, parts = _open_data(folder, config)
    name = PREVIOUS if previous else CHECKPOINT
    arrays, values = load_run_checkpoint(folder, name)
    model = build_model(folder, config, arrays, dtype, folder / name)
    trainer = _trainer(config, parts, model)
    with belonging(folder / name):
        check_dtypes(trainer.state()[0], arrays)
        trainer.load_state(arrays, values)
    run = Run(folder, tokenizer, trainer, config, held)
    run._keeps_replaced = not previous  # the good checkpoint must not be replaced by the damaged one
    return run


def _open_data(folder: Path, config: RunConfig) -> tuple[Any, dict[str, np.ndarray]]:
    """The tokenizer and the ids of a run, compared with run.json."""
    check_files(folder, config.files)
    tokenizer = load_run_tokenizer(folder)
    for name in TOKEN_FILES:
        vocab_size = read_header(folder / name).vocab_size
        if vocab_size > config.model.vocab_size:
            raise FileError(
                folder / RUN,
                f"has a model of vocab_size {config.model.vocab_size}; {name} has a vocabulary of {vocab_size} ids",
                field="vocab_size", value=config.model.vocab_size, must_be=f"at least {vocab_size}",
            )  # fmt: skip
    parts = {Path(name).stem: open_token_file(folder / name) for name in TOKEN_FILES}
    with reading(folder / RUN):
        check_parts(parts, config.window_length)
    return tokenizer, parts


def open_trained(folder: str | Path, *, best: bool = False, dtype: str = "float32") -> Pretrained:
    """The model of a run for generation: that of the last checkpoint, or the one with the lowest validation loss.

    Raises FileNotFoundError if the folder has no run, or no best.safetensors; ValueError as `open_run`.
    """
    folder = Path(folder)
    config = read_run(folder)
    path = folder / (BEST if best else CHECKPOINT)
    if best and not path.is_file():
        raise FileNotFoundError(f"there is no {BEST} in {folder}; a run has one after its first evaluation")
    if not best and not path.exists() and (folder / WEIGHTS).is_file():  # the checkpoint was removed to save space
        model = from_pretrained(folder, dtype)
    else:
        model = build_model(folder, config, load_run_checkpoint(folder, path.name)[0], dtype, path)
    return _pretrained(folder, model, load_run_tokenizer(folder), config)


def _pretrained(folder, model, tokenizer, config: RunConfig) -> Pretrained:
    roles = config.tokens
    if not roles.stop_ids:  # a run of an older npllm
        roles = _token_roles(tokenizer, None, None)
    return Pretrained(
        folder, model, tokenizer, frozenset(roles.stop_ids), roles.bos_token, roles.eos_token, roles.chat_template
    )


def _token_roles(tokenizer, pretrained: Pretrained | None, eos_token: str | None) -> TokenRoles:
    """The tokens at the beginning and at the end of a text, by `pretrained` or by the tokenizer's special tokens."""
    if pretrained is not None:
        p = pretrained
        return TokenRoles(tuple(sorted(p.stop_ids)), p.bos_token, p.eos_token, p.chat_template)
    eos_token = END_OF_TEXT if eos_token is None else eos_token
    if eos_token not in tokenizer.special_tokens:
        return TokenRoles()
    return TokenRoles((tokenizer.special_tokens[eos_token],), eos_token=eos_token)


def _initial_model(config: RunConfig, pretrained: Pretrained | None) -> Any:
    if pretrained is None:
        return build(config.model, rng=np.random.default_rng(config.training.seed))
    if pretrained.model.config == config.model:
        return pretrained.model
    model = build(config.model, init=False)
    model.load_state_dict(pretrained.model.state_dict())
    return model


def _trainer(config: RunConfig, parts: dict[str, np.ndarray], model: Any) -> Trainer:
    T = config.window_length
    train = WindowDataset(parts["train"], max_length=T, stride=1)
    validation = WindowDataset(parts["validation"], max_length=T, stride=T)
    return Trainer(model, train, validation, config.training)


def _check_finite(arrays: dict[str, np.ndarray], steps_done: int) -> None:
    for name, array in arrays.items():
        if array.size and not np.isfinite([array.min(), array.max()]).all():  # nan is the minimum of an array with nan
            raise FloatingPointError(
                f"{name} has values that are nan or infinite after {steps_done} steps: the training diverged; no "
                "checkpoint was written"
            )


@contextmanager
def _new_files(folder: Path) -> Iterator[RunLock]:
    """A locked folder for new files; if the body fails, the files and folders that were created are removed."""
    created = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = hold(folder)
        if (folder / RUN).exists():  # another process wrote it before the lock was held
            raise FileExistsError(f"{folder} already has a run; resume it, or choose another folder")
        before = set(folder.iterdir())
        try:
            yield lock
        except BaseException:
            for path in set(folder.iterdir()) - before:
                path.unlink(missing_ok=True)
            lock.release()
            raise
    except BaseException:
        for path in created:
            with suppress(OSError):  # another process uses it
                path.rmdir()
        raise
