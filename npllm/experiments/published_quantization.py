"""Experiment 16, second part: what rounding the weights of a published model to few bits costs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.experiments.published_model import passages, subject
from npllm.models import Decoder

BLOCKS, WHOLE_ROWS = "blocks of 32", "whole rows"


@dataclass(frozen=True)
class Scale:
    """The sizes of one run; `model` is a name of `npllm models`, or None for a tiny model with random weights."""

    num_seeds: int
    model: str | None
    length: int  # tokens of a passage
    num_passages: int = 1
    bits: tuple[int, ...] = (8, 4, 3)


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each grid and number of bits: the loss of the rounded weights minus that of the published ones."""
    name, model, text = subject(scale.model)
    inputs, targets = passages(text, scale.num_passages, scale.length, np.random.default_rng(seed))
    before = float(model.loss(inputs, targets))
    result = []
    for grid, group in ((BLOCKS, 32), (WHOLE_ROWS, None)):
        for bits in scale.bits:
            with quantized(model, bits, group):
                cost = float(model.loss(inputs, targets)) - before
            result.append({"model": name, "grid": grid, "bits": bits, "cost": cost, "loss before": before})
    return result


@contextmanager
def quantized(model: Decoder, bits: int, group: int | None) -> Iterator[None]:
    """A context in which all matrices of the model are rounded."""
    originals = {id(parameter): (parameter, parameter.data) for _, parameter in model.named_parameters()}
    try:
        for parameter, data in originals.values():
            if data.ndim == 2:
                parameter.data = quantize(data, bits, group)
        yield
    finally:
        for parameter, data in originals.values():
            parameter.data = data


def quantize(weight: np.ndarray, bits: int, group: int | None) -> np.ndarray:
    """w ← s · round(w / s),  s = max |w| / (2^(bits − 1) − 1) over each group of the row      (out, in) → (out, in)

    `group` is the number of weights with one scale s; a row is one group if it is None or does not divide the row.
    """
    size = group if group is not None and weight.shape[1] % group == 0 else weight.shape[1]
    groups = weight.reshape(-1, size)
    scale = np.abs(groups).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    scale = np.where(scale > 0, scale, np.ones_like(scale))
    return (np.rint(groups / scale) * scale).reshape(weight.shape)


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    name = results.distinct("model")[0]
    costs = {
        (grid, bits): results.interval("cost", grid=grid, bits=bits)
        for grid in (BLOCKS, WHOLE_ROWS)
        for bits in results.distinct("bits")
    }
    larger = results.difference("cost", {"grid": WHOLE_ROWS, "bits": 4}, {"grid": BLOCKS, "bits": 4})
    text = "; ".join(
        f"{grid}: " + ", ".join(f"{costs[grid, bits]} at {bits} bits" for bits in results.distinct("bits"))
        for grid in (BLOCKS, WHOLE_ROWS)
    )
    loss = results.interval("loss before", grid=BLOCKS, bits=4)
    because = f"With {name}, whose loss is {loss} nats, rounding adds, in nats, with {text}."
    is_small = costs[BLOCKS, 4].is_below(0.3)
    if is_small and larger.is_above(0):
        return Verdict("supported", because)
    return Verdict("depends" if is_small or larger.is_above(0) else "not supported", because)


EXPERIMENT = Experiment(
    name="published-quantization",
    claim="Weights can be rounded to 4 bits at little cost if each small block of them has its own scale.",
    question="How much does the loss grow if all matrices are rounded, in blocks of 32 and in whole rows?",
    setting=(
        "SmolLM2-135M-Instruct (`npllm models fetch smollm2`) on passages of the shipped text. The file has 4 bits "
        "with a scale and an offset for each block of 32 (Q4_1) and 8 bits in the embedding; the cost is that of a "
        "second rounding, on a symmetric grid, of all matrices and of the embedding."
    ),
    measure="The loss with rounded weights minus the loss with those of the file, in nats a token.",
    rule=(
        "Supported if the 95% interval of the cost of 4 bits in blocks of 32 is below 0.3 nats and the paired "
        "difference to whole rows is above 0. Depends if one of the two holds, otherwise not supported."
    ),
    keys=("model", "grid", "bits"),
    scales={
        "miniature": Scale(2, None, 16),
        "default": Scale(6, "smollm2", 128),
        "full": Scale(10, "smollm2", 256, 2, (8, 6, 5, 4, 3)),
    },
    rows=rows,
    judge=judge,
    plots=(Plot("bits", "cost", "grid"),),
)
