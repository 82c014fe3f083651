"""Experiment 14: what weight tying, dropout, warm-up, clipping and weight decay are worth, one at a time."""

from dataclasses import dataclass

import numpy as np

from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.experiments.small_training import mean_loss, random_batches, shipped_split, train
from npllm.models import GPT, GPTConfig

NOTHING = "nothing"
OPTIONS = ("weight tying", "dropout", "warm-up", "clipping", "weight decay")


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    num_steps: int
    learning_rates: tuple[float, ...] = (3e-3, 2e-2)  # a usual one, and one that is rather large
    length: int = 32
    batch_size: int = 16
    d_model: int = 32


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each learning rate and each option that is left out: the losses after training."""
    train_ids, validation_ids, vocab_size = shipped_split()
    return [
        {"learning rate": learning_rate, "without": without}
        | losses(scale, seed, without, learning_rate, train_ids, validation_ids, vocab_size)
        for learning_rate in scale.learning_rates
        for without in (NOTHING, *OPTIONS)
    ]


def losses(
    scale: Scale,
    seed: int,
    without: str,
    learning_rate: float,
    train_ids: np.ndarray,
    validation_ids: np.ndarray,
    vocab_size: int,
) -> Row:
    """Train with all options but one, and return the loss on both parts of the text.

    The weights, the batches and the dropout masks are drawn by three generators: leaving out an option does not change
    what the others draw.
    """
    dropout = 0.0 if without == "dropout" else 0.1
    config = GPTConfig(
        vocab_size,
        scale.length,
        scale.d_model,
        num_layers=2,
        num_heads=4,
        tied=without != "weight tying",
        embedding_dropout=dropout,
        attention_dropout=dropout,
        residual_dropout=dropout,
    )
    weights, order, masks = np.random.default_rng(seed).spawn(3)
    model = GPT(config, rng=weights)
    train(
        model,
        random_batches(train_ids, scale.length, scale.batch_size, scale.num_steps, order),
        scale.num_steps,
        learning_rate,
        warmup_steps=0 if without == "warm-up" else scale.num_steps // 10,
        max_grad_norm=None if without == "clipping" else 1.0,
        weight_decay=0.0 if without == "weight decay" else 0.1,
        rng=masks,
    )
    return {
        "parameters": model.num_parameters(),
        "train loss": mean_loss(model, train_ids, scale.length),
        "validation loss": mean_loss(model, validation_ids, scale.length),
    }


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    worth = {
        rate: {
            option: results.difference(
                "validation loss",
                {"learning rate": rate, "without": option},
                {"learning rate": rate, "without": NOTHING},
            )
            for option in OPTIONS
        }
        for rate in results.distinct("learning rate")
    }
    because = "Leaving one out changes the validation loss by " + "; ".join(
        f"{', '.join(f'{change} ({option})' for option, change in changes.items())} at learning rate {rate:g}"
        for rate, changes in worth.items()
    )
    helps = {rate: [change.is_above(0) for change in changes.values()] for rate, changes in worth.items()}
    if all(all(of_rate) for of_rate in helps.values()):
        return Verdict("supported", because + ".")
    return Verdict("depends" if any(any(of_rate) for of_rate in helps.values()) else "not supported", because + ".")


EXPERIMENT = Experiment(
    name="training-options",
    claim="Weight tying, dropout, warm-up, clipping and weight decay each lower the validation loss.",
    question="How much does the validation loss change if one of them is left out?",
    setting=(
        "A character GPT (2 layers of 32, windows of 32) on the shipped text with weight tying, dropout 0.1, warm-up "
        "over a tenth of the steps, clipping at norm 1 and weight decay 0.1 (of all parameters); AdamW, cosine to 0. "
        "All runs of a seed and learning rate have the same batches; without tying there are more parameters."
    ),
    measure="Validation loss without an option minus that with all of them, paired by seed: above 0 it is worth that.",
    rule=(
        "Supported if the intervals of all five differences are above 0 at every learning rate; not supported if none "
        "is at any; otherwise it depends on the option or the learning rate."
    ),
    keys=("learning rate", "without"),
    scales={
        "miniature": Scale(2, 4, (3e-3,), 16, 4, 16),
        "default": Scale(4, 250),
        "full": Scale(8, 1000, (3e-3, 2e-2)),
    },
    rows=rows,
    judge=judge,
    plots=(
        Plot("learning rate", "validation loss", "without", log_x=True),
        Plot("learning rate", "train loss", "without", log_x=True),
    ),
)
