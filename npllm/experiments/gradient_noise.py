"""Experiment 5, first part: the noise of the gradient against the batch size."""

from dataclasses import dataclass

import numpy as np

from npllm.batching import sliding_windows
from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.experiments.texts import shipped_ids
from npllm.models import GPT, GPTConfig
from npllm.training import AdamW, training_step


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    num_batches: int  # from which the variance is estimated
    num_steps: int  # of training before it is measured
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    length: int = 32


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each batch size and stage: the variance of the gradient, summed over parameters, and its ratio to |mean|²."""
    ids, vocab_size = shipped_ids()
    inputs, targets = sliding_windows(ids, scale.length, 1)
    rng = np.random.default_rng(seed)
    model = GPT(GPTConfig(vocab_size, scale.length, d_model=32, num_layers=2, num_heads=2), rng=rng)
    optimizer = AdamW(model.named_parameters(), 3e-3)
    result = []
    for stage, num_steps in (("untrained", 0), ("trained", scale.num_steps)):
        for _ in range(num_steps):
            chosen = rng.integers(len(inputs), size=16)
            training_step(model, optimizer, inputs[chosen], targets[chosen])
        for batch_size in scale.batch_sizes:
            gradients = np.array([_gradient(model, inputs, targets, batch_size, rng) for _ in range(scale.num_batches)])
            variance = float(gradients.var(axis=0, ddof=1).sum())
            result.append({"stage": stage, "batch size": batch_size, "variance": variance})
    return result


def _gradient(
    model: GPT, inputs: np.ndarray, targets: np.ndarray, batch_size: int, rng: np.random.Generator
) -> np.ndarray:
    """The gradient of the mean loss over a random batch, as one vector."""
    chosen = rng.integers(len(inputs), size=batch_size)
    model.zero_grad()
    model.add_loss_gradients(inputs[chosen], targets[chosen])
    gradient = np.concatenate([p.grad.reshape(-1) for _, p in model.named_parameters() if p.grad is not None])
    model.zero_grad()
    return gradient.astype(np.float64)


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    slopes = {stage: results.slope("variance", "batch size", stage=stage) for stage in results.distinct("stage")}
    text = ", ".join(f"{slope} for the {stage} model" for stage, slope in slopes.items())
    because = f"The variance of the gradient falls as the batch size to the power {text}."
    if all(slope.is_below(-0.8) and slope.is_above(-1.2) for slope in slopes.values()):
        return Verdict("supported", because)
    return Verdict("not supported" if any(slope.is_above(-0.5) for slope in slopes.values()) else "depends", because)


EXPERIMENT = Experiment(
    name="gradient-noise",
    claim="Smaller batches give noisier gradients.",
    question="How does the variance of the gradient depend on the batch size?",
    setting=(
        "A character GPT (2 layers of 32) on the shipped text; batches of random windows of 32, before and after "
        "training."
    ),
    measure="The variance of the gradient over batches, summed over all parameters.",
    rule=(
        "Independent examples give a variance proportional to 1/B. Supported if the interval of the slope of ln "
        "variance over ln B is within −1.2 and −0.8 for both models; not supported if one is above −0.5; otherwise it "
        "depends."
    ),
    keys=("stage", "batch size"),
    scales={
        "miniature": Scale(2, 10, 5, (1, 8)),
        "default": Scale(5, 64, 300),
        "full": Scale(10, 256, 1000),
    },
    rows=rows,
    judge=judge,
    plots=(Plot("batch size", "variance", "stage", log_x=True, log_y=True),),
)
