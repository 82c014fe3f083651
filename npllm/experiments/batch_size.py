"""Experiment 5, second part: what the noise of small batches costs or gains in loss at equal tokens."""

from dataclasses import dataclass

import numpy as np

from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.experiments.small_training import mean_loss, random_batches, shipped_split, train
from npllm.experiments.statistics import Interval
from npllm.models import GPT, GPTConfig


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    num_tokens: int  # of each training; a multiple of every batch
    batch_sizes: tuple[int, ...] = (2, 8, 32, 128)
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2)
    length: int = 32
    d_model: int = 32


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each batch size and learning rate: the loss on both halves of the validation text."""
    train_ids, validation_ids, vocab_size = shipped_split()
    return compare(scale, seed, train_ids, validation_ids, vocab_size)


def compare(scale: Scale, seed: int, train_ids: np.ndarray, validation_ids: np.ndarray, vocab_size: int) -> list[Row]:
    """The rows of a text; all trainings of a seed start from the same weights."""
    half = len(validation_ids) // 2
    result = []
    for batch_size in scale.batch_sizes:
        num_steps = scale.num_tokens // (batch_size * scale.length)
        for learning_rate in scale.learning_rates:
            rng = np.random.default_rng(seed)
            model = GPT(GPTConfig(vocab_size, scale.length, scale.d_model, num_layers=2, num_heads=4), rng=rng)
            batches = random_batches(train_ids, scale.length, batch_size, num_steps, rng)
            train(model, batches, num_steps, learning_rate, warmup_steps=num_steps // 10)
            result.append(
                {
                    "batch size": batch_size,
                    "learning rate": learning_rate,
                    "steps": num_steps,
                    "selection loss": mean_loss(model, validation_ids[:half], scale.length),
                    "loss": mean_loss(model, validation_ids[half:], scale.length),
                }
            )
    return result


def best_learning_rate(results: Results, batch_size: int) -> float:
    """The one with the lowest mean loss on the half of the validation text that is for this choice."""
    rates = results.distinct("learning rate")
    where = {"batch size": batch_size}
    return min(rates, key=lambda r: results.interval("selection loss", **where, **{"learning rate": r}).mean)


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    sizes = sorted(results.distinct("batch size"))
    best = {size: {"batch size": size, "learning rate": best_learning_rate(results, size)} for size in sizes}

    def change(small: int, large: int) -> Interval:
        return results.difference("loss", best[small], best[large])

    losses = ", ".join(
        f"{results.interval('loss', **where)} (batch size {size}, learning rate {where['learning rate']:g})"
        for size, where in best.items()
    )
    whole = change(sizes[0], sizes[-1])
    because = (
        f"At equal tokens and with the best learning rate for each, the loss is {losses}; with batch size {sizes[0]} "
        f"it differs from that with {sizes[-1]} by {whole}."
    )
    if all(change(small, large).is_below(0) for small, large in zip(sizes, sizes[1:])):
        return Verdict("supported", because)
    return Verdict("depends" if whole.is_below(0) else "not supported", because)


EXPERIMENT = Experiment(
    name="batch-size",
    claim="At equal tokens a smaller batch reaches a lower loss, although its gradients are noisier.",
    question="How does the loss depend on the batch size if every training uses the same number of tokens?",
    setting=(
        "A character GPT (2 layers of 32, windows of 32) on the shipped text; AdamW, warm-up over a tenth of the "
        "steps, cosine to 0. For each batch size the learning rate is chosen from one grid, by the mean loss on the "
        "first half of the validation text."
    ),
    measure="Loss on the second half of the validation text, paired by seed.",
    rule=(
        "Supported if each batch size has a lower loss than the next larger one (intervals of the differences below "
        "0). Otherwise it depends if the smallest has a lower loss than the largest, and is not supported if not."
    ),
    keys=("batch size", "learning rate"),
    scales={
        "miniature": Scale(2, 512, (2, 8), (3e-3, 1e-2), 16, 16),
        "default": Scale(3, 81_920, (2, 8, 32, 128)),
        "full": Scale(5, 262_144, (2, 8, 32, 128), (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
    },
    rows=rows,
    judge=judge,
    plots=(Plot("learning rate", "loss", "batch size", log_x=True),),
)
