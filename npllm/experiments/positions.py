"""Experiment 7: what a causal transformer knows about order with and without positions, and beyond its context."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.relative_bias import ALiBi, T5Bias
from npllm.attention.variants.rope import RoPE
from npllm.batching import sliding_windows
from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.experiments.small_training import Batch, random_batches, shipped_split, train
from npllm.layers.cross_entropy import cross_entropy
from npllm.models import Decoder, DecoderConfig
from npllm.models.decoder_config import MLP, Norm

FORMS = ("none, 1 layer", "none", "learned", "sinusoidal", "RoPE", "ALiBi", "T5")
RANGES = {"trained": (0, 1), "1 to 2 times": (1, 2), "2 to 4 times": (2, 4)}  # positions, in training windows
NUM_SYMBOLS = 8  # of the order task
IGNORED = -100
D_MODEL, NUM_HEADS = 32, 4


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    order_steps: int
    text_steps: int
    order_length: int = 16  # of the training windows
    text_length: int = 32
    tokens_per_batch: int = 512
    num_sequences: int = 128  # of the order task's evaluation
    learning_rate: float = 7e-3


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each task, form of positions and range of positions: loss and accuracy."""
    train_ids, validation_ids, vocab_size = shipped_split()
    order, text = scale.order_length, scale.text_length
    text_windows = sliding_windows(validation_ids, 4 * text, text)
    result = []
    for form in FORMS:
        rng = np.random.default_rng(seed)
        batches = order_batches(order, scale.tokens_per_batch // order, scale.order_steps, rng)
        model = build(form, NUM_SYMBOLS, order, rng)
        train(model, batches, scale.order_steps, scale.learning_rate, warmup_steps=scale.order_steps // 10)
        windows = next(order_batches(4 * order, scale.num_sequences, 1, np.random.default_rng((seed, 1))))
        result += [{"task": "previous symbol", "positions": form} | row for row in evaluate(model, *windows)]

        rng = np.random.default_rng(seed)
        batches = random_batches(train_ids, text, scale.tokens_per_batch // text, scale.text_steps, rng)
        model = build(form, vocab_size, text, rng)
        train(model, batches, scale.text_steps, scale.learning_rate, warmup_steps=scale.text_steps // 10)
        result += [{"task": "text", "positions": form} | row for row in evaluate(model, *text_windows)]
    return result


def build(form: str, vocab_size: int, length: int, rng: np.random.Generator) -> Decoder:
    """A decoder for four times as many positions as it is trained on.

    The one with 1 layer has a wider feed-forward network, for the same number of parameters. The token embeddings have
    the variance of Vaswani et al., section 3.4, or the sinusoidal encoding would be much larger than they are.
    """
    options: dict[str, Any] = {
        "RoPE": {"rope": RoPE()},
        "ALiBi": {"relative_bias": ALiBi()},
        "T5": {"relative_bias": T5Bias(num_buckets=length // 2, max_distance=length // 2)},
    }.get(form, {})
    num_layers, d_hidden = (1, 10 * D_MODEL) if form == "none, 1 layer" else (2, 4 * D_MODEL)
    config = DecoderConfig(
        vocab_size,
        4 * length,
        D_MODEL,
        num_layers,
        GQA(NUM_HEADS, **options),
        MLP(d_hidden),
        Norm("layer_norm"),
        positions="learned" if form == "learned" else "sinusoidal" if form == "sinusoidal" else "none",
        embedding_multiplier=math.sqrt(D_MODEL),
    )
    model = Decoder(config, rng=rng)
    model.embed_tokens.weight.data *= 1 / (0.02 * math.sqrt(D_MODEL))
    return model


def order_batches(length: int, batch_size: int, num_steps: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Random symbols; the target of a position is the symbol before it."""
    for _ in range(num_steps):
        ids = rng.integers(0, NUM_SYMBOLS, (batch_size, length))
        targets = np.full_like(ids, IGNORED)
        targets[:, 1:] = ids[:, :-1]
        yield ids, targets


def evaluate(model: Any, inputs: np.ndarray, targets: np.ndarray) -> list[Row]:
    """Loss and accuracy in each range of positions; the windows are four times as long as those of the training."""
    logits, length = model(inputs), inputs.shape[1] // 4
    result = []
    for name, (start, end) in RANGES.items():
        part = slice(start * length, end * length)
        counted = targets[:, part] != IGNORED
        correct = (logits[:, part].argmax(axis=-1) == targets[:, part])[counted]
        loss = float(cross_entropy(logits[:, part], targets[:, part]))
        result.append({"range": name, "loss": loss, "accuracy": float(correct.mean())})
    return result


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    order = {"task": "previous symbol", "range": "trained"}
    none, blind = order | {"positions": "none"}, order | {"positions": "none, 1 layer"}
    accuracy, gain = results.interval("accuracy", **none), results.difference("accuracy", none, blind)
    forms = results.distinct("positions")
    best = max(results.interval("accuracy", **order, positions=form).mean for form in forms)
    text = {"task": "text", "range": "trained"}
    losses = {form: results.interval("loss", **text, positions=form) for form in forms}
    growth = {
        form: results.difference(
            "loss",
            {"task": "text", "range": "2 to 4 times", "positions": form},
            text | {"positions": form},
        )
        for form in forms
    }
    because = (
        f"Without positions, the previous symbol is found with accuracy {accuracy}, {gain} above that of one layer, "
        f"which cannot tell order; the best form has {best:.3f}. On text the loss within the trained context is "
        f"{', '.join(f'{loss} ({form})' for form, loss in losses.items())}; at 2 to 4 times that length it grows by "
        f"{', '.join(f'{change} ({form})' for form, change in growth.items())}."
    )
    if gain.is_below(0.1):
        return Verdict("supported", because)
    return Verdict("not supported" if gain.is_above(0.1) and accuracy.is_above(0.9) else "depends", because)


EXPERIMENT = Experiment(
    name="positions",
    claim="Without positions a causal transformer cannot tell the order of its tokens.",
    question="What does each form of positions give, within the trained context and beyond it?",
    setting=(
        "Decoders with 2 layers of 32 and the same training: learned, sinusoidal, RoPE, ALiBi, T5 or no positions. "
        "Control: one layer without positions and as many parameters; its prediction does not depend on the order of "
        "earlier tokens. Tasks: name the previous one of random symbols (8 symbols, windows of 16); the next character "
        "of the shipped text (windows of 32). The rows of learned positions beyond the trained context stay untrained."
    ),
    measure="Loss and accuracy on new symbols and on the last tenth of the text, in windows 4 times as long.",
    rule=(
        "On the previous symbol, within the trained context: supported if the interval of the accuracy without "
        "positions minus that of the control is below 0.1; not supported if it is above 0.1 and the interval of the "
        "accuracy itself above 0.9. Otherwise it depends: order is used but not exactly, or the seeds do not decide."
    ),
    keys=("task", "positions", "range"),
    scales={
        "miniature": Scale(2, 5, 5, 8, 8, 64, 4),
        "default": Scale(3, 500, 300),
        "full": Scale(6, 2000, 1000),
    },
    rows=rows,
    judge=judge,
    plots=(Plot("range", "loss", "positions"), Plot("range", "accuracy", "positions")),
)
