"""Experiment 16, third part: the loss of a published model against the position in the text."""

from dataclasses import dataclass

import numpy as np

from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.experiments.published_model import passages, subject
from npllm.layers.cross_entropy import cross_entropy

WRITTEN, SHUFFLED = "as written", "shuffled"


@dataclass(frozen=True)
class Scale:
    """The sizes of one run; `model` is a name of `npllm models`, or None for a tiny model with random weights."""

    num_seeds: int
    model: str | None
    num_passages: int
    bounds: tuple[int, ...]  # of the ranges of positions


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each order and range of positions: the mean loss over the passages."""
    name, model, text = subject(scale.model)
    rng = np.random.default_rng(seed)
    inputs, targets = passages(text, scale.num_passages, scale.bounds[-1], rng)
    whole = np.concatenate([inputs, targets[:, -1:]], axis=1)
    shuffled = rng.permuted(whole, axis=1)
    result = []
    for order, ids in ((WRITTEN, whole), (SHUFFLED, shuffled)):
        logits = model(ids[:, :-1])
        for low, high in zip((0, *scale.bounds), scale.bounds):
            loss = float(cross_entropy(logits[:, low:high], ids[:, low + 1 : high + 1]))
            result.append({"model": name, "order": order, "position": high, "loss": loss})
    return result


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    name, positions = results.distinct("model")[0], results.distinct("position")
    first, middle, last = positions[0], positions[len(positions) // 2], positions[-1]
    falls = {
        order: results.difference("loss", {"order": order, "position": last}, {"order": order, "position": first})
        for order in (WRITTEN, SHUFFLED)
    }
    late = results.difference("loss", {"order": WRITTEN, "position": last}, {"order": WRITTEN, "position": middle})
    because = (
        f"With {name} the loss is {results.interval('loss', order=WRITTEN, position=first)} nats at the positions up "
        f"to {first}, {results.interval('loss', order=WRITTEN, position=middle)} at those up to {middle} and "
        f"{results.interval('loss', order=WRITTEN, position=last)} at those up to {last}: from the first to the last "
        f"it changes by {falls[WRITTEN]}, and by {falls[SHUFFLED]} if the tokens are shuffled."
    )
    if not falls[WRITTEN].is_below(0):
        return Verdict("not supported", because)
    return Verdict("supported" if late.is_below(0) else "depends", because)


EXPERIMENT = Experiment(
    name="published-positions",
    claim="The loss of an LLM falls with the position: a longer context makes the next token easier to predict.",
    question="How does the loss, the logarithm of the perplexity, depend on the position in the passage?",
    setting=(
        "SmolLM2-135M-Instruct (`npllm models fetch smollm2`) on random passages of the shipped text, within its "
        "context length. Control: the tokens of the same passages in random order."
    ),
    measure="The mean loss in nats a token over ranges of positions, each named by its upper bound.",
    rule=(
        "Not supported if the 95% interval of the difference between the last and the first range is not below 0. "
        "Supported if the loss of the last range is also below that of the middle one, otherwise it depends on the "
        "range."
    ),
    keys=("model", "order", "position"),
    scales={
        "miniature": Scale(2, None, 2, (4, 8, 16)),
        "default": Scale(5, "smollm2", 3, (4, 16, 64, 256)),
        "full": Scale(10, "smollm2", 4, (4, 16, 64, 256, 1024)),
    },
    rows=rows,
    judge=judge,
    plots=(Plot("position", "loss", "order", log_x=True),),
)
