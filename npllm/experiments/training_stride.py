"""Experiment 6: whether windows that overlap make a model overfit."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from npllm.batching import sliding_windows
from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.experiments.small_training import Batch, mean_loss, shipped_split
from npllm.models import GPT, GPTConfig
from npllm.training import AdamW, training_step

EQUAL_TOKENS, EQUAL_EPOCHS = "equal tokens", "equal epochs"


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    num_epochs: int  # with the smallest stride
    num_train: int = 6145  # characters to train on: few, so that a model can overfit
    strides: tuple[int, ...] = (32, 16, 8, 4)
    length: int = 32
    batch_size: int = 16
    d_model: int = 48
    learning_rate: float = 3e-3


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each stride: the losses after the same number of epochs, and after the same number of tokens."""
    train_ids, validation_ids, vocab_size = shipped_split()
    return compare(scale, seed, train_ids[: scale.num_train], validation_ids, vocab_size)


def compare(scale: Scale, seed: int, train_ids: np.ndarray, validation_ids: np.ndarray, vocab_size: int) -> list[Row]:
    """The rows of a text. The training of the smallest stride ends with its last epoch; the others go on as long."""
    smallest = min(scale.strides)
    num_steps = scale.num_epochs * steps_of_epoch(train_ids, scale, smallest)
    result = []
    for stride in scale.strides:
        rng = np.random.default_rng(seed)  # the same initial weights for each stride
        model = GPT(GPTConfig(vocab_size, scale.length, scale.d_model, num_layers=2, num_heads=4), rng=rng)
        optimizer = AdamW(model.named_parameters(), scale.learning_rate)
        moments = {
            scale.num_epochs * steps_of_epoch(train_ids, scale, stride): EQUAL_EPOCHS,
            num_steps: EQUAL_TOKENS,
        }
        losses = {}
        for step, (inputs, targets) in enumerate(epochs(train_ids, scale, stride, num_steps, rng), 1):
            training_step(model, optimizer, inputs, targets, max_grad_norm=1.0)
            if step in moments:
                losses[moments[step]] = (
                    step * targets.size,
                    mean_loss(model, train_ids, scale.length),
                    mean_loss(model, validation_ids, scale.length),
                )
        losses.setdefault(EQUAL_EPOCHS, losses[EQUAL_TOKENS])  # of the smallest stride
        for budget in (EQUAL_TOKENS, EQUAL_EPOCHS):
            tokens, train, validation = losses[budget]
            result.append(
                {
                    "budget": budget,
                    "stride": stride,
                    "tokens": tokens,
                    "train loss": train,
                    "validation loss": validation,
                    "gap": validation - train,
                }
            )
    return result


def steps_of_epoch(ids: np.ndarray, scale: Scale, stride: int) -> int:
    """The number of full batches of windows."""
    return len(sliding_windows(ids, scale.length, stride)[0]) // scale.batch_size


def epochs(ids: np.ndarray, scale: Scale, stride: int, num_steps: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Batches of windows that start at multiples of the stride; each epoch has each window once, in random order."""
    inputs, targets = sliding_windows(ids, scale.length, stride)
    per_epoch = steps_of_epoch(ids, scale, stride)
    for step in range(num_steps):
        if step % per_epoch == 0:
            order = rng.permutation(len(inputs))
        chosen = order[step % per_epoch * scale.batch_size :][: scale.batch_size]
        yield inputs[chosen], targets[chosen]


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    whole, smallest = max(results.distinct("stride")), min(results.distinct("stride"))
    costs, gaps = (
        {
            budget: results.difference(
                quantity, {"budget": budget, "stride": smallest}, {"budget": budget, "stride": whole}
            )
            for budget in (EQUAL_TOKENS, EQUAL_EPOCHS)
        }
        for quantity in ("validation loss", "gap")
    )
    because = (
        f"With stride {smallest} instead of {whole} (the window) the validation loss changes by "
        f"{costs[EQUAL_TOKENS]} nats and its gap to the training loss by {gaps[EQUAL_TOKENS]} at equal tokens; by "
        f"{costs[EQUAL_EPOCHS]} and {gaps[EQUAL_EPOCHS]} at equal epochs, where stride {smallest} trains on "
        f"{whole // smallest} times as many tokens."
    )
    overfits = {budget: costs[budget].is_above(0) and gaps[budget].is_above(0) for budget in costs}
    if overfits[EQUAL_TOKENS]:
        return Verdict("supported", because)
    return Verdict("depends" if gaps[EQUAL_EPOCHS].is_above(0) else "not supported", because)


EXPERIMENT = Experiment(
    name="training-stride",
    claim="A stride smaller than the window makes a model overfit.",
    question="How do training and validation loss depend on the stride, at equal tokens and at equal epochs?",
    setting=(
        "A character GPT (2 layers of 48, windows of 32) on a part of the shipped text that is small enough to "
        "overfit; AdamW with a constant learning rate; every stride starts from the same weights."
    ),
    measure=(
        "Loss on the training text and on the last tenth of the shipped text, both in windows that do not overlap, and "
        "the gap between them."
    ),
    rule=(
        "Overlap overfits where the intervals of the paired differences, smallest stride minus stride = window, are "
        "above 0 for both the validation loss and the gap. Supported if so at equal tokens. Otherwise it depends if at "
        "equal epochs the interval of the gap's difference is above 0, and is not supported if it is not."
    ),
    keys=("budget", "stride"),
    scales={
        "miniature": Scale(2, 1, 1025, (32, 8), d_model=16),
        "default": Scale(4, 8),
        "full": Scale(6, 8, 12289, (32, 16, 8, 4, 2)),
    },
    rows=rows,
    judge=judge,
    plots=(
        Plot("stride", "validation loss", "budget", log_x=True),
        Plot("stride", "train loss", "budget", log_x=True),
    ),
)
