"""The training loop: batch, loss, gradients, optimizer step, repeated; the validation loss at regular intervals.

    batches → [training_step] × num_steps → trained model

`state()` holds everything that the next step depends on. A run that is interrupted and resumed ends with exactly the
weights of an uninterrupted one.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from npllm.batching.infinite_batches import InfiniteBatches
from npllm.core.state import copy_into
from npllm.training.optimizers import AdamW, decays_weight
from npllm.training.schedules import warmup_cosine
from npllm.training.step import accumulated_training_step
from npllm.utils.fields import REQUIRED, read_fields, size, table

STATE = {"optimizer_steps": table(REQUIRED), "batches": table(REQUIRED), "dropout_rng": table(REQUIRED)}
BATCHES = {
    "epoch_rng": table(REQUIRED),
    "batch_size": size(REQUIRED),
    "num_windows": size(REQUIRED),
    "crc32": size(REQUIRED, low=0, high=2**32 - 1),
}
COUNTS = ("num_steps", "batch_size", "grad_accum_steps", "eval_interval", "eval_batches")  # of a TrainingConfig
IGNORE_INDEX = -100  # a target that does not count, as in cross-entropy


def _as_float(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {value!r}; it must be a number")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}; it must be finite")
    return float(value)


@dataclass(frozen=True)
class TrainingConfig:
    """Hyperparameters of a training run; raises ValueError for values that cannot be used.

    grad_accum_steps  number of micro-batches that each batch is split into: less memory, the same gradient
    eval_interval     steps between two evaluations of the validation loss, on eval_batches batches each
    recompute         keep only the input of each block for the backward and repeat its forward: less memory, more
                      time, the same result to the last bit; see models/recompute.py
    """

    num_steps: int = 2000
    batch_size: int = 12
    grad_accum_steps: int = 1
    learning_rate: float = 1e-3
    min_learning_rate: float = 1e-4
    warmup_steps: int = 100
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    eval_interval: int = 250
    eval_batches: int = 50
    seed: int = 0
    recompute: bool = False

    def __post_init__(self):
        self._check_types()
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.grad_accum_steps > self.batch_size:
            raise ValueError(
                f"grad_accum_steps is {self.grad_accum_steps}; it must be at most batch_size, {self.batch_size}"
            )
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be at least 0")
        self.learning_rate_at(0)

    def _check_types(self) -> None:
        for name in (*COUNTS, "warmup_steps", "seed"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise TypeError(f"{name} is {value!r}; it must be an integer")
            object.__setattr__(self, name, int(value))  # an integer of NumPy cannot be written as JSON
        if not isinstance(self.recompute, bool):
            raise TypeError(f"recompute is {self.recompute!r}; it must be True or False")
        if not isinstance(self.betas, (tuple, list)) or len(self.betas) != 2:
            raise TypeError(f"betas is {self.betas!r}; it must be two numbers")
        object.__setattr__(self, "betas", tuple(_as_float("betas", beta) for beta in self.betas))
        for name in ("learning_rate", "min_learning_rate", "weight_decay", "max_grad_norm"):
            object.__setattr__(self, name, _as_float(name, getattr(self, name)))
        for index, beta in enumerate(self.betas):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"betas[{index}] is {beta}; it must be at least 0 and less than 1")
        for name in ("weight_decay", "warmup_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm is {self.max_grad_norm}; it must be greater than 0")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate at a step, see `warmup_cosine`."""
        warmup_steps = min(self.warmup_steps, self.num_steps)
        return warmup_cosine(step, self.num_steps, self.learning_rate, self.min_learning_rate, warmup_steps)


@dataclass(frozen=True)
class StepMetrics:
    """Measurements of one training step; both losses are those before the update."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: float | None  # before clipping
    tokens: int  # targets in the batch that count
    seconds: float  # duration of the step, without the evaluation
    validation_loss: float | None = None  # only every eval_interval steps

    @property
    def perplexity(self) -> float | None:
        """exp(validation loss)."""
        return None if self.validation_loss is None else math.exp(min(self.validation_loss, 700.0))


class Trainer:
    """Train a language model on a dataset with AdamW.

    Args:
        model: a Module with `loss`, `loss_forward` and `loss_backward`, such as GPT.
        train: a dataset of windows, such as WindowDataset.
        validation: a dataset of another part of the text, or None.
        config: a TrainingConfig.
    """

    def __init__(self, model: Any, train: Any, validation: Any = None, config: TrainingConfig | None = None):
        self.model, self.validation = model, validation
        self.config = config = TrainingConfig() if config is None else config
        batches_rng, self.dropout_rng = np.random.default_rng(config.seed).spawn(2)
        self.batches = InfiniteBatches(train, config.batch_size, batches_rng)
        self.optimizer = AdamW(
            model.named_parameters(),
            config.learning_rate,
            config.betas,
            weight_decay=config.weight_decay,
            weight_decay_filter=decays_weight,
        )
        self.steps_done = 0

    def run(
        self,
        callbacks: Iterable[Callable[["Trainer", StepMetrics], None]] = (),
        should_stop: Callable[[], bool] = lambda: False,
        on_evaluation: Callable[[float], None] | None = None,
    ) -> None:
        """Train to the last step, or until `should_stop()` is true between two steps.

        After each step every callback is called with (trainer, metrics). After each evaluation `on_evaluation` is
        called with the validation loss; the weights are then those that were evaluated. Raises FloatingPointError if a
        loss or a gradient is nan or infinite: the training has diverged, and the weights must not be saved.
        """
        while self.steps_done < self.config.num_steps and not should_stop():
            metrics = self.step(on_evaluation)
            for callback in callbacks:
                callback(self, metrics)

    def step(self, on_evaluation: Callable[[float], None] | None = None) -> StepMetrics:
        """Evaluate if it is time to, then train on one batch. `on_evaluation`: see `run`."""
        config, step = self.config, self.steps_done
        validation_loss = self.evaluate() if step % config.eval_interval == 0 else None
        if validation_loss is not None and on_evaluation is not None:
            on_evaluation(validation_loss)
        started = time.perf_counter()
        inputs, targets = next(self.batches)
        self.optimizer.learning_rate = config.learning_rate_at(step)
        micro_batches = split_batch(inputs, targets, config.grad_accum_steps)
        try:
            loss, grad_norm = accumulated_training_step(
                self.model, self.optimizer, micro_batches, config.max_grad_norm, **self.loss_options()
            )
        except FloatingPointError as error:
            raise FloatingPointError(f"step {step} diverged: {error}") from None
        for what, value in (("loss", loss), ("gradient norm", grad_norm)):
            if value is not None and not math.isfinite(value):
                raise FloatingPointError(_diverged(f"the {what} of step {step}", value))
        self.steps_done += 1
        seconds = max(time.perf_counter() - started, 1e-9)  # a clock may stand still
        tokens, learning_rate = int((targets != IGNORE_INDEX).sum()), self.optimizer.learning_rate
        return StepMetrics(step, loss, learning_rate, grad_norm, tokens, seconds, validation_loss)

    def loss_options(self) -> dict[str, Any]:
        """The keyword arguments of the model's loss in training; a model without `recompute` need not know it."""
        return {"rng": self.dropout_rng} | ({"recompute": True} if self.config.recompute else {})

    def evaluate(self) -> float | None:
        """The mean loss over the first `eval_batches` batches of the validation text; None without one."""
        if self.validation is None:
            return None
        max_windows = self.config.eval_batches * self.config.batch_size
        loss = evaluate(self.model, self.validation, self.config.batch_size, max_windows)
        if not math.isfinite(loss):
            raise FloatingPointError(_diverged(f"the validation loss after {self.steps_done} steps", loss))
        return loss

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Everything that the next step depends on: (arrays by name, a dict of values that JSON can hold)."""
        arrays = model_arrays(self.model) | {
            f"optimizer.{name}": array for name, array in self.optimizer.state_dict().items()
        }
        values = {
            "steps_done": self.steps_done,
            "optimizer_steps": self.optimizer.steps,
            "batches": self.batches.state(),
            "dropout_rng": self.dropout_rng.bit_generator.state,
        }
        return arrays, values

    def load_state(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        """Continue from a `state()`; raises KeyError, ValueError or TypeError, before any array is written.

        The dataset and the batch size must be those of the state, see `InfiniteBatches.check_state`.
        """
        self._check_values(values)
        copy_into(self.state()[0], arrays, "the trainer's model and optimizer")
        self.optimizer.steps = dict(values["optimizer_steps"])
        self.steps_done = values["steps_done"]
        self.batches.load_state(values["batches"])
        self.dropout_rng.bit_generator.state = values["dropout_rng"]

    def _check_values(self, values):
        read_fields("the state", values, {**STATE, "steps_done": size(REQUIRED, low=0, high=self.config.num_steps)})
        batches_per_epoch = len(self.batches.dataset) // self.config.batch_size
        batches = {**BATCHES, "batches_done": size(REQUIRED, low=0, high=batches_per_epoch)}
        read_fields("the state: batches", values["batches"], batches)
        self.batches.check_state(values["batches"])
        steps_done, steps = values["steps_done"], values["optimizer_steps"]
        self.optimizer.check_steps(steps)
        step_count = dict.fromkeys(steps, size(REQUIRED, low=0, high=steps_done))
        read_fields("the state: optimizer_steps", steps, step_count)
        if max(steps.values()) != steps_done:
            raise ValueError(
                f"optimizer_steps is at most {max(steps.values())}; it must reach steps_done, {steps_done}"
            )
        for name, rng in (("epoch_rng", values["batches"]["epoch_rng"]), ("dropout_rng", values["dropout_rng"])):
            _check_rng_state(name, rng)


def _check_rng_state(name: str, state: dict[str, Any]) -> None:
    """Raise ValueError unless NumPy's default generator takes the state and gives it back."""
    generator = np.random.default_rng(0).bit_generator
    try:
        generator.state = state
        is_valid = generator.state == state
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        is_valid = False
    if not is_valid:
        raise ValueError(f"{name} is not a state of NumPy's generator PCG64")


def _diverged(what: str, value: float) -> str:
    return f"{what} is {value}: the training diverged; try a lower learning rate or a lower weight decay"


def model_arrays(model: Any) -> dict[str, np.ndarray]:
    """The parameters by the names that they have in a checkpoint; the arrays themselves, not copies."""
    return {f"model.{name}": parameter.data for name, parameter in model.named_parameters()}


def split_batch(inputs: np.ndarray, targets: np.ndarray, grad_accum_steps: int):
    """A batch as a list of micro-batches (weight, (inputs, targets)), for `accumulated_training_step`.

    The mean loss of the batch is the sum of the micro-batches' mean losses, each weighted by its fraction of the
    targets. Targets of −100 do not count; micro-batches in which none count are left out. Raises ValueError if no
    target of the batch counts.
    """
    num_targets = (targets != IGNORE_INDEX).sum()
    if num_targets == 0:
        raise ValueError("every target is -100; at least one must count")
    micro_batches = []
    for x, y in zip(np.array_split(inputs, grad_accum_steps), np.array_split(targets, grad_accum_steps)):
        weight = float((y != IGNORE_INDEX).sum() / num_targets)
        if weight > 0.0:
            micro_batches.append((weight, (x, y)))
    return micro_batches


def evaluate(model: Any, dataset: Any, batch_size: int, max_windows: int | None = None) -> float:
    """The mean loss over a dataset's windows in order, at most `max_windows` of them.

    Every target counts once, and targets of −100 not at all, whatever the batch size. Raises ValueError if none counts.
    """
    num_windows = len(dataset) if max_windows is None else min(max_windows, len(dataset))
    total = count = 0
    for start in range(0, num_windows, batch_size):
        inputs, targets = dataset[np.arange(start, min(start + batch_size, num_windows))]
        num_targets = int((targets != IGNORE_INDEX).sum())
        if num_targets:
            total += float(model.loss(inputs, targets)) * num_targets
            count += num_targets
    if not count:
        raise ValueError("every target of the dataset is -100; at least one must count")
    return total / count
