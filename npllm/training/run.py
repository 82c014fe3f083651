"""A training run in a folder: its configuration, its data as token ids, and its checkpoints.

    run.json                  the configuration, see run_config
    vocabulary.json           the tokenizer (tokenizer.json if it is a published one, see run_tokenizer)
    train.tokens              token ids of the training text
    validation.tokens         token ids of the validation text, the end of the given text
    checkpoint.safetensors    the state of the training, replaced at every checkpoint
    best.safetensors          the weights with the lowest validation loss so far
    config.json, model.safetensors, tokenizer.json, …    written at the end: the model, as transformers opens it

run.json is written last, so a folder with a run.json is complete. The original text is not needed any more.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from npllm.batching.dataset import END_OF_TEXT, WindowDataset, encode_for_training
from npllm.batching.token_file import open_token_file, write_token_file
from npllm.core.state import copy_into
from npllm.models.presets import build, from_pretrained
from npllm.models.pretrained import Pretrained
from npllm.models.saving import save_pretrained
from npllm.training.checkpoint import load_checkpoint, save_checkpoint
from npllm.training.run_config import RUN, RunConfig, TokenRoles, read_run, write_run
from npllm.training.run_tokenizer import load_run_tokenizer, save_run_tokenizer
from npllm.training.trainer import Trainer, TrainingConfig, model_arrays
from npllm.training.validation_split import check_parts, split_position

CHECKPOINT, BEST, WEIGHTS = "checkpoint.safetensors", "best.safetensors", "model.safetensors"
CHUNK = 1 << 20  # ids that are copied at once


class Run:
    """A trainer with its folder, its tokenizer and its RunConfig; see `create_run` and `open_run`.

    best  (step, validation loss) of the weights in best.safetensors; None before the first evaluation
    """

    def __init__(self, folder: Path, tokenizer: Any, trainer: Trainer, config: RunConfig):
        self.folder, self.tokenizer, self.trainer, self.config = Path(folder), tokenizer, trainer, config
        self.best = _read_best(self.folder)

    @property
    def model(self) -> Any:
        """The model in training."""
        return self.trainer.model

    @property
    def num_threads(self) -> int | None:
        """The recorded number of BLAS threads."""
        return self.config.num_threads

    def save(self) -> None:
        """Replace the checkpoint by the current state, atomically."""
        save_checkpoint(self.folder / CHECKPOINT, *self.trainer.state())

    def save_best(self, validation_loss: float) -> None:
        """Save the current weights as the best ones if this loss is lower than that of every earlier evaluation."""
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
        if num_steps < self.trainer.steps_done:
            raise ValueError(
                f"num_steps is {num_steps}; it must be at least {self.trainer.steps_done}, the number of steps done"
            )
        self.trainer.config = replace(self.trainer.config, num_steps=num_steps)
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

    Raises ValueError if the training or validation text is too short for one window or one batch. A call that raises
    leaves no file behind.
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
    with _new_files(folder):
        for name, part in parts.items():
            chunks = (part[start : start + CHUNK] for start in range(0, len(part), CHUNK))
            write_token_file(folder / f"{name}.tokens", chunks, min(tokenizer.vocab_size, model_config.vocab_size))
        save_run_tokenizer(folder, tokenizer, tokenizer_path)
        if pretrained is not None:
            save_checkpoint(folder / CHECKPOINT, *trainer.state())
        write_run(folder, config)
    return Run(folder, tokenizer, trainer, config)


def open_run(folder: str | Path, dtype: str = "float32") -> Run:
    """Open a run at its last checkpoint, or at step 0 if it has none.

    Raises FileNotFoundError if the folder has no run, ValueError naming the file that is damaged.
    """
    folder = Path(folder)
    config = read_run(folder)
    tokenizer = load_run_tokenizer(folder)
    has_checkpoint = (folder / CHECKPOINT).exists()
    rng = np.random.default_rng(config.training.seed)
    model = build(config.model, rng=rng, dtype=dtype, init=not has_checkpoint)
    parts = {name: open_token_file(folder / f"{name}.tokens") for name in ("train", "validation")}
    trainer = _trainer(config, parts, model)
    if has_checkpoint:
        arrays, values = load_checkpoint(folder / CHECKPOINT)
        try:
            trainer.load_state(arrays, values)
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{folder / CHECKPOINT} does not belong to this run: {error}") from error
    return Run(folder, tokenizer, trainer, config)


def open_trained(folder: str | Path, *, best: bool = False, dtype: str = "float32") -> Pretrained:
    """The model of a run for generation: that of the last checkpoint, or the one with the lowest validation loss.

    Raises FileNotFoundError if the folder has no run, or no best.safetensors; ValueError as `open_run`.
    """
    folder = Path(folder)
    config = read_run(folder)
    path = folder / (BEST if best else CHECKPOINT)
    if best and not path.is_file():
        raise FileNotFoundError(f"there is no {BEST} in {folder}; a run has one after its first evaluation")
    if path.is_file():
        model = build(config.model, dtype=dtype, init=False)
        arrays = {name: array for name, array in load_checkpoint(path)[0].items() if name.startswith("model.")}
        try:
            copy_into(model_arrays(model), arrays, "the model of this run")
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{path} does not belong to this run: {error}") from error
    elif (folder / WEIGHTS).is_file():
        model = from_pretrained(folder, dtype)
    else:
        model = build(config.model, rng=np.random.default_rng(config.training.seed), dtype=dtype)
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


def _read_best(folder: Path) -> tuple[int, float] | None:
    path = folder / BEST
    if not path.is_file():
        return None
    values = load_checkpoint(path)[1]
    try:
        return int(values["steps_done"]), float(values["validation_loss"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: its values cannot be read ({error})") from None


@contextmanager
def _new_files(folder: Path) -> Iterator[None]:
    """A folder for new files; if the body fails, the files and folders that were created are removed."""
    created = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    before = set() if created else set(folder.iterdir())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for path in set(folder.iterdir()) - before:
            path.unlink()
        for path in created:
            path.rmdir()
        raise
