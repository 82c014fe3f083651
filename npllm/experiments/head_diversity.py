"""Experiment 10: whether several heads attend to different positions, and what each is worth."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from npllm.attention.paths import attention_path
from npllm.batching import sliding_windows
from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.experiments.lookup_task import LookupTask
from npllm.experiments.small_training import random_batches, shipped_split, train
from npllm.models import GPT, GPTConfig

Batch = tuple[np.ndarray, np.ndarray]
TASKS = ("two lookups", "text")
COMPARED = 4  # heads, with 1


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    num_steps: int
    head_counts: tuple[int, ...] = (1, 2, 4, 8)
    d_model: int = 32
    batch_size: int = 16
    learning_rate: float = 5e-3


def map_distance(weights: np.ndarray) -> float:
    """The Jensen-Shannon divergence of two heads' distributions over keys, in bits      (..., H, T, T) → ()

    The mean over pairs of heads and over queries. 0 for equal maps, 1 for maps that share no key; 0 for one head.
    """
    num_heads = weights.shape[-3]
    entropies = _entropy(weights)
    pairs = [
        _entropy(0.5 * (weights[..., i, :, :] + weights[..., j, :, :]))
        - 0.5 * (entropies[..., i, :] + entropies[..., j, :])
        for i in range(num_heads)
        for j in range(i)
    ]
    return float(np.mean(pairs)) if pairs else 0.0


def _entropy(p: np.ndarray) -> np.ndarray:
    p = p.astype(np.float64)
    return -(p * np.log2(np.where(p > 0, p, 1.0))).sum(axis=-1)


def mean_map_distance(model: GPT, inputs: np.ndarray) -> float:
    """The mean of `map_distance` over the layers."""
    with attention_path("plain"):  # it keeps the weights of all heads
        _, cache = model.forward(inputs)
    return float(np.mean([map_distance(block.attn.attention.weights) for block in cache.h]))


def removal_costs(model: GPT, batch: Batch) -> np.ndarray:
    """The loss without each head minus that of the whole model      (L, H)

    A head is removed by zeros in those columns of the output projection that its context is multiplied with.
    """
    whole, num_heads = float(model.loss(*batch)), model.config.num_heads
    head_dim = model.config.d_model // num_heads
    costs = np.zeros((len(model.h), num_heads))
    for layer, head in np.ndindex(*costs.shape):
        columns = model.h[layer].attn.c_proj.weight.data[:, head * head_dim : (head + 1) * head_dim]
        kept = columns.copy()
        columns[...] = 0
        costs[layer, head] = float(model.loss(*batch)) - whole
        columns[...] = kept
    return costs


def task_data(task: str, scale: Scale, rng: np.random.Generator) -> tuple[GPTConfig, Iterator[Batch], Batch]:
    """The configuration with one head, the batches to train on, and a batch for validation."""
    if task == "text":
        train_ids, validation_ids, vocab_size = shipped_split()
        config = GPTConfig(vocab_size, 32, scale.d_model, num_layers=2, num_heads=1)
        batches = random_batches(train_ids, 32, scale.batch_size // 2, scale.num_steps, rng)
        return config, batches, sliding_windows(validation_ids, 32, 32)
    lookups = LookupTask()
    config = GPTConfig(lookups.num_tokens, lookups.length, scale.d_model, num_layers=1, num_heads=1)
    batches = (lookups.batch(scale.batch_size, rng) for _ in range(scale.num_steps))
    return config, batches, lookups.batch(200, np.random.default_rng(12345))


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each task and number of heads: the validation loss, the distance of maps, what removing a head costs."""
    result = []
    for task in TASKS:
        for num_heads in scale.head_counts:
            rng = np.random.default_rng(seed)
            config, batches, validation = task_data(task, scale, rng)
            model = GPT(replace(config, num_heads=num_heads), rng=np.random.default_rng(seed))
            untrained = mean_map_distance(model, validation[0][:16])
            train(model, batches, scale.num_steps, scale.learning_rate, warmup_steps=scale.num_steps // 10)
            costs = removal_costs(model, validation)
            result.append(
                {
                    "task": task,
                    "heads": num_heads,
                    "loss": float(model.loss(*validation)),
                    "distance": mean_map_distance(model, validation[0][:16]),
                    "untrained distance": untrained,
                    "mean cost": float(costs.mean()),
                    "least cost": float(costs.min()),
                    "greatest cost": float(costs.max()),
                }
            )
    return result


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    texts, different, better, needed = [], [], [], []
    for task in TASKS:
        several, one = {"task": task, "heads": COMPARED}, {"task": task, "heads": 1}
        distance, least = results.interval("distance", **several), results.interval("least cost", **several)
        gain = results.difference("loss", several, one)
        different.append(distance.is_above(0.1))
        better.append(gain.is_below(0.0))
        needed.append(least.is_above(0.0))
        texts.append(
            f"{task}: distance {distance} bits ({results.interval('untrained distance', **several).mean:.1g} "
            f"untrained); loss {results.interval('loss', **several)}, minus that of 1 head {gain}; removing a head "
            f"costs {results.interval('mean cost', **several).mean:.3f} on average, at most "
            f"{results.interval('greatest cost', **several).mean:.3f} and at least {least}"
        )
    because = f"With {COMPARED} heads, {'. With '.join(texts)} nats."
    if all(different + better + needed):
        return Verdict("supported", because)
    return Verdict("depends" if any(different) else "not supported", because)


EXPERIMENT = Experiment(
    name="head-diversity",
    claim="Several heads see different things, and together they do better than one head of the same width.",
    question="How far apart are the heads' attention maps, what do more heads gain, and what does removing one cost?",
    setting=(
        "GPTs of width 32 with the same parameters, draws, batches and steps for every number of heads. Two lookups: 1 "
        "layer, random tokens, the target is a random table's entry for the tokens 1 and 3 positions before. Text: 2 "
        "layers on the characters of the shipped text."
    ),
    measure=(
        "The Jensen-Shannon divergence of two heads' attention weights in bits (0 equal, 1 disjoint), mean over pairs, "
        "queries and layers; validation loss in nats; the loss without a head's output minus that with it."
    ),
    rule=(
        "Compares 4 heads with 1. Supported if on both tasks the interval of the distance is above 0.1 bits, that of "
        "the loss minus the loss of 1 head below 0, and that of the cost of the least important head above 0. Not "
        "supported if the distance is above 0.1 on neither task; otherwise it depends."
    ),
    keys=("task", "heads"),
    scales={
        "miniature": Scale(2, 5, (1, 4), d_model=16, batch_size=4),
        "default": Scale(4, 500),
        "full": Scale(8, 2000),
    },
    rows=rows,
    judge=judge,
    plots=(Plot("heads", "loss", "task", log_x=True), Plot("heads", "distance", "task", log_x=True)),
)
