"""Experiment 13, first part: what generation computes with and without a key-value cache."""

import time
from dataclasses import dataclass

import numpy as np

from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.experiments.statistics import Interval, mean_interval
from npllm.generation.next_logits import NextLogits
from npllm.models import GPT, GPTConfig

FORMS = {"with cache": True, "without cache": False}


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    lengths: tuple[int, ...]
    widths: tuple[int, ...] = (16, 128)
    num_layers: int = 2
    vocab_size: int = 32


def step_operations(config: GPTConfig, num_new: int, num_keys: int) -> int:
    """The operations of one step, which computes `num_new` positions and attends to `num_keys`, as in inspect/cost.py.

    Attention computes 2 products of `num_new` · `num_keys` pairs in each layer; the head is applied to one position.
    """
    width = config.d_model
    weights = 4 * width * width + 2 * width * (config.d_hidden or 4 * width)
    layer = 2 * num_new * weights + 2 * (2 * num_new * num_keys * width)
    return config.num_layers * layer + 2 * width * config.vocab_size


def generate(model: GPT, lengths: tuple[int, ...], first_id: int, use_kv_cache: bool) -> tuple[list[int], list[Row]]:
    """The most probable ids after one id, and for each length what had been computed when it was reached."""
    next_logits, ids, measured = NextLogits(model, use_kv_cache), [first_id], []
    positions, operations, started = 0, 0, time.perf_counter()
    while len(ids) < lengths[-1]:
        logits = next_logits([ids])
        positions += next_logits.num_computed
        operations += step_operations(model.config, next_logits.num_computed, len(ids))
        ids.append(int(logits[0].argmax()))
        if len(ids) in lengths:
            kept = next_logits.kv_cache.nbytes if use_kv_cache and next_logits.kv_cache is not None else 0
            measured.append(
                {
                    "T": len(ids),
                    "positions": positions,
                    "operations": operations,
                    "cache bytes": kept,
                    "seconds": time.perf_counter() - started,
                }
            )
    return ids, measured


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each width, form and length: the positions and operations computed, the bytes kept, and the time."""
    result = []
    for width in scale.widths:
        rng = np.random.default_rng((seed, width))
        num_heads = max(1, width // 32)
        config = GPTConfig(scale.vocab_size, scale.lengths[-1], width, scale.num_layers, num_heads)
        model, first_id = GPT(config, rng=rng), int(rng.integers(scale.vocab_size))
        for form, use_kv_cache in FORMS.items():
            _, measured = generate(model, scale.lengths, first_id, use_kv_cache)
            result += [{"form": form, "C": width} | row for row in measured]
    return result


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    widths, longest = results.distinct("C"), results.distinct("T")[-1]
    slopes = {
        (quantity, form, width): results.slope(quantity, "T", form=form, C=width)
        for quantity in ("positions", "operations", "seconds")
        for form in FORMS
        for width in widths
    }
    texts = []
    for width in widths:
        with_cache, without = ({"form": form, "C": width, "T": longest} for form in FORMS)
        ratio = mean_interval(results.values("operations", **without) / results.values("operations", **with_cache))
        exponents = "; ".join(
            f"{quantity} {slopes[quantity, 'with cache', width].mean:.2f} and "
            f"{slopes[quantity, 'without cache', width].mean:.2f}"
            for quantity in ("positions", "operations", "seconds")
        )
        texts.append(f"C = {width}: {exponents}; at T = {longest} {ratio.mean:.0f} times fewer operations")
    because = f"Exponents of T with and without the cache. {'. '.join(texts)}."
    counts = [(quantity, width) for quantity in ("positions", "operations") for width in widths]
    linear = all(_is_within(slopes[quantity, "with cache", width], 0.9, 1.1) for quantity, width in counts)
    quadratic = all(_is_within(slopes[quantity, "without cache", width], 1.9, 2.1) for quantity, width in counts)
    if linear and quadratic:
        return Verdict("supported", because)
    saves = all(
        slopes[quantity, "without cache", width].mean - slopes[quantity, "with cache", width].mean > 0.5
        for quantity, width in counts
    )
    return Verdict("depends" if saves else "not supported", because)


def _is_within(slope: Interval, low: float, high: float) -> bool:
    return slope.is_above(low) and slope.is_below(high)


EXPERIMENT = Experiment(
    name="kv-cache",
    claim="A key-value cache turns generation from quadratic into linear in the number of tokens.",
    question="How do the positions, the operations and the time of generation grow with the number of tokens T?",
    setting=(
        "GPTs of 2 layers and two widths C generate the most probable token, T times, from one id, with and without "
        "the cache. The counts are the same for every seed; seeds differ in weights and time."
    ),
    measure=(
        "Positions that the model computed, as it reports them; floating-point operations of its matrix products; "
        "bytes of the cache; seconds. Exponents are slopes of logarithms over ln T. The time does not decide."
    ),
    rule=(
        "Supported if for each width the exponents of positions and operations are between 0.9 and 1.1 with the cache "
        "and between 1.9 and 2.1 without it. Depends if they are smaller with the cache by more than 0.5 for each "
        "width, otherwise not supported."
    ),
    keys=("form", "C", "T"),
    scales={
        "miniature": Scale(2, (8, 16, 32), (8, 32)),
        "default": Scale(3, (32, 64, 128, 256)),
        "full": Scale(5, (32, 64, 128, 256, 512), (16, 64, 256)),
    },
    rows=rows,
    judge=judge,
    plots=(
        Plot("T", "operations", "form", log_x=True, log_y=True),
        Plot("T", "seconds", "form", log_x=True, log_y=True),
    ),
)
