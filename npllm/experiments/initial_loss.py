"""Experiment 12: the loss of an untrained model, and what the initialization does to it."""

import math
from dataclasses import dataclass

import numpy as np

from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.models import GPT, GPTConfig


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    batch_size: int
    vocab_sizes: tuple[int, ...] = (64, 256, 1024, 4096)
    factors: tuple[float, ...] = (0.1, 1.0, 3.0, 10.0, 30.0)  # of all weight matrices and embeddings
    length: int = 64


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each vocabulary and factor: the loss of random targets minus ln V."""
    result = []
    for vocab_size in scale.vocab_sizes:
        rng = np.random.default_rng((seed, vocab_size))
        model = GPT(GPTConfig(vocab_size, scale.length, d_model=64, num_layers=4, num_heads=4), rng=rng)
        inputs, targets = rng.integers(0, vocab_size, (2, scale.batch_size, scale.length))
        initial = {name: parameter.data.copy() for name, parameter in model.named_parameters()}
        for factor in scale.factors:
            for name, parameter in model.named_parameters():
                parameter.data[...] = initial[name] * (factor if parameter.data.ndim > 1 else 1.0)
            excess = float(model.loss(inputs, targets)) - math.log(vocab_size)
            result.append({"V": vocab_size, "factor": factor, "excess": excess})
    return result


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    usual = [results.interval("excess", V=v, factor=1.0) for v in results.distinct("V")]
    largest = results.distinct("factor")[-1]
    scaled = [results.interval("excess", V=v, factor=largest) for v in results.distinct("V")]
    because = (
        f"With the usual initialization the loss exceeds ln V by {min(x.mean for x in usual):.3f} to "
        f"{max(x.mean for x in usual):.3f} nats for V from {results.distinct('V')[0]:,} to "
        f"{results.distinct('V')[-1]:,}; with weights {largest:g} times as large by "
        f"{min(x.mean for x in scaled):.2f} to {max(x.mean for x in scaled):.2f} nats."
    )
    near = all(abs(interval.mean) < 0.1 for interval in usual)
    worse = all(interval.is_above(0.5) for interval in scaled)
    return Verdict(("supported" if worse else "depends") if near else "not supported", because)


EXPERIMENT = Experiment(
    name="initial-loss",
    claim="The loss of an untrained model is ln V; bad initialization makes it larger.",
    question="How far from ln V is the loss before training, and how does it depend on the size of the weights?",
    setting="A GPT (4 layers of 64, 4 heads), random inputs and targets; all matrices multiplied by a factor.",
    measure="Cross-entropy minus ln V, in nats.",
    rule=(
        "Not supported if with the usual weights the mean differs from ln V by 0.1 nats or more for any V. Supported "
        "if in addition the intervals for the largest factor are above 0.5 nats for every V, otherwise it depends."
    ),
    keys=("V", "factor"),
    scales={
        "miniature": Scale(2, 2, (16, 64), (1.0, 30.0)),
        "default": Scale(5, 4),
        "full": Scale(10, 16),
    },
    rows=rows,
    judge=judge,
    plots=(Plot("factor", "excess", "V", log_x=True),),
)
