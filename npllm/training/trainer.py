"""The loop: a batch, its loss, its gradient, a step; again and again; and now and then a look at text never seen.

    batches → [loss → gradients → clip → step] × steps → a model that predicts better

Everything that the next step depends on is in `state()`, so that a training can be interrupted anywhere and go on as
if nothing had happened, to the last bit.
"""

import math
import time
from dataclasses import dataclass

import numpy as np

from npllm.batching.infinite_batches import InfiniteBatches
from npllm.training.clipping import clip_gradient_norm
from npllm.training.optimizers import AdamW, is_matrix
from npllm.training.schedules import warmup_cosine


@dataclass(frozen=True)
class TrainingSettings:
    """How to train: `grad_accum_steps` cuts each batch into as many parts, one after the other, to save memory."""

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

    def __post_init__(self):
        for name in ("num_steps", "batch_size", "grad_accum_steps", "eval_interval", "eval_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.grad_accum_steps > self.batch_size:
            raise ValueError(
                f"grad_accum_steps is {self.grad_accum_steps}; it must be at most batch_size, {self.batch_size}"
            )
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be at least 0")
        self.learning_rate_of(0)

    def learning_rate_of(self, step):
        """The schedule."""
        warmup = min(self.warmup_steps, self.num_steps)
        return warmup_cosine(step, self.num_steps, self.learning_rate, self.min_learning_rate, warmup)


@dataclass(frozen=True)
class Report:
    """One step: its number, and what was found before the weights moved."""

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    seconds: float  # for the step, without the evaluation
    validation_loss: float | None = None

    @property
    def perplexity(self):
        """exp(validation loss): among how many equally likely tokens the model is in doubt."""
        return None if self.validation_loss is None else math.exp(min(self.validation_loss, 700.0))


class Trainer:
    """A model, its optimizer and its data, step by step.

    train        a dataset of windows, such as WindowDataset
    validation   another, of text that is not in the first, or None
    """

    def __init__(self, model, train, validation=None, settings=None):
        self.model, self.validation = model, validation
        self.settings = settings = settings or TrainingSettings()
        batches_rng, self.dropout_rng = np.random.default_rng(settings.seed).spawn(2)
        self.batches = InfiniteBatches(train, settings.batch_size, batches_rng)
        self.optimizer = AdamW(
            model.named_parameters(),
            settings.learning_rate,
            settings.betas,
            weight_decay=settings.weight_decay,
            decays=is_matrix,
        )
        self.steps_done = 0

    def run(self, callbacks=(), should_stop=lambda: False):
        """Train to the end, or until `should_stop()` between two steps; every callback gets (trainer, report)."""
        while self.steps_done < self.settings.num_steps and not should_stop():
            report = self.step()
            for callback in callbacks:
                callback(self, report)

    def step(self):
        """One step; return its Report."""
        settings, step = self.settings, self.steps_done
        validation_loss = self.evaluate() if step % settings.eval_interval == 0 else None
        started = time.perf_counter()
        inputs, targets = next(self.batches)
        loss = self.accumulate_gradient(inputs, targets)
        norm = clip_gradient_norm(self.model.named_parameters(), settings.max_grad_norm)
        self.optimizer.learning_rate = settings.learning_rate_of(step)
        self.optimizer.step()
        self.steps_done += 1
        seconds = time.perf_counter() - started
        return Report(step, loss, self.optimizer.learning_rate, norm, targets.size, seconds, validation_loss)

    def accumulate_gradient(self, inputs, targets):
        """Fill every gradient with that of the mean loss of a batch, part by part; return the loss.

        The mean over a batch is the mean over its parts weighted by how many targets each has.
        """
        self.model.zero_grad()
        counted, loss = (targets != -100).sum(), 0.0
        if counted == 0:
            raise ValueError("targets has nothing but -100; at least one must count")
        parts = (np.array_split(array, self.settings.grad_accum_steps) for array in (inputs, targets))
        for part, part_targets in zip(*parts):
            share = float((part_targets != -100).sum() / counted)
            if share == 0.0:
                continue  # nothing in this part counts
            part_loss, cache = self.model.loss_forward(part, part_targets, self.dropout_rng)
            self.model.loss_backward(share, cache)
            loss += share * float(part_loss)
        return loss

    def evaluate(self):
        """The mean loss over the first `eval_batches` of the validation text; None without one."""
        if self.validation is None:
            return None
        limit = self.settings.eval_batches * self.settings.batch_size
        return evaluate(self.model, self.validation, self.settings.batch_size, limit)

    def state(self):
        """All that the next step depends on: (arrays by name, a dict that JSON can hold)."""
        arrays = {f"model.{name}": parameter.data for name, parameter in self.model.named_parameters()}
        arrays |= {f"optimizer.{name}": array for name, array in self.optimizer.state_dict().items()}
        numbers = {
            "steps_done": self.steps_done,
            "optimizer_steps": self.optimizer.steps,
            "batches": self.batches.state(),
            "dropout_generator": self.dropout_rng.bit_generator.state,
        }
        return arrays, numbers

    def load_state(self, arrays, numbers):
        """Go on from a `state()`; raises KeyError or ValueError, before anything is written, where it does not fit."""
        model = {name.removeprefix("model."): a for name, a in arrays.items() if name.startswith("model.")}
        optimizer = {name.removeprefix("optimizer."): a for name, a in arrays.items() if name.startswith("optimizer.")}
        own = dict(self.model.named_parameters())
        if own.keys() != model.keys():
            raise KeyError(f"state does not fit the model: {sorted(own.keys() ^ model.keys())} are in one of them only")
        for name, parameter in own.items():
            if parameter.shape != model[name].shape:
                raise ValueError(f"{name} has shape {model[name].shape}; it must be {parameter.shape}")
        self.optimizer.load_state_dict(optimizer, numbers["optimizer_steps"])
        for name, parameter in own.items():
            parameter.data[...] = model[name]
        self.steps_done = numbers["steps_done"]
        self.batches.load_state(numbers["batches"])
        self.dropout_rng.bit_generator.state = numbers["dropout_generator"]


def evaluate(model, dataset, batch_size, max_windows=None):
    """The mean loss over a dataset's windows in order, every target counted once; the model does not change."""
    num_windows = len(dataset) if max_windows is None else min(max_windows, len(dataset))
    total = count = 0
    for start in range(0, num_windows, batch_size):
        inputs, targets = dataset[np.arange(start, min(start + batch_size, num_windows))]
        total += float(model.loss(inputs, targets)) * targets.size
        count += targets.size
    return total / count
