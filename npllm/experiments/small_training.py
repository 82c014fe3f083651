"""Train a small model on ids within seconds, and measure its loss on ids that it was not trained on.

ids → training part | validation part → random windows → training steps → loss of either part
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from npllm.batching import sliding_windows
from npllm.experiments.texts import shipped_ids
from npllm.training import AdamW, training_step
from npllm.training.schedules import warmup_cosine

Batch = tuple[np.ndarray, np.ndarray]
VALIDATION_FRACTION = 0.1


def shipped_split() -> tuple[np.ndarray, np.ndarray, int]:
    """The ids of the first nine tenths of the shipped text, those of the last tenth, and the vocabulary size."""
    ids, vocab_size = shipped_ids()
    end = len(ids) - int(VALIDATION_FRACTION * len(ids))
    return ids[:end], ids[end:], vocab_size


def random_batches(
    ids: np.ndarray, length: int, batch_size: int, num_steps: int, rng: np.random.Generator
) -> Iterator[Batch]:
    """Inputs and targets of windows that start anywhere      (N) → (B, T), (B, T), num_steps times"""
    inputs, targets = sliding_windows(ids, length, 1)
    for _ in range(num_steps):
        chosen = rng.integers(len(inputs), size=batch_size)
        yield inputs[chosen], targets[chosen]


def train(
    model: Any,
    batches: Iterator[Batch],
    num_steps: int,
    learning_rate: float,
    *,
    warmup_steps: int = 0,
    max_grad_norm: float | None = 1.0,
    weight_decay: float = 0.0,
    rng: np.random.Generator | None = None,
) -> list[float]:
    """The loss of every step; AdamW, linear warm-up and half a cosine down to 0. With an `rng`, dropout is active."""
    optimizer = AdamW(model.named_parameters(), learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay)
    losses = []
    for step, (inputs, targets) in zip(range(num_steps), batches):
        optimizer.learning_rate = warmup_cosine(step, num_steps, learning_rate, warmup_steps=warmup_steps)
        losses.append(training_step(model, optimizer, inputs, targets, max_grad_norm=max_grad_norm, rng=rng).loss)
    return losses


def mean_loss(model: Any, ids: np.ndarray, length: int) -> float:
    """The mean loss over consecutive windows of the ids, without dropout."""
    inputs, targets = sliding_windows(ids, length, length)
    return float(model.loss(inputs, targets))
