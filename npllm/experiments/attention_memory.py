"""Experiment 13, second part: the memory and the time of attention against T, plain and in tiles."""

import time
import tracemalloc
from dataclasses import dataclass

import numpy as np

from npllm.attention.mask_rule import MaskRule
from npllm.attention.paths import attention_path, masked_attention_backward, masked_attention_forward
from npllm.core.cache import Cache
from npllm.core.threads import limit_threads
from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict

PATHS = ("plain", "tiled")


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    lengths: tuple[int, ...]
    num_repeats: int = 3  # of which the fastest counts
    num_heads: int = 2
    head_dim: int = 32


def forward_and_backward(q: np.ndarray, k: np.ndarray, v: np.ndarray, dy: np.ndarray) -> Cache:
    """Causal attention and its gradients; returns what the forward kept for the backward."""
    positions = np.arange(q.shape[-2])
    _, cache = masked_attention_forward(q, k, v, MaskRule(positions, positions))
    masked_attention_backward(dy, cache)
    return cache


def peak_bytes(arrays: np.ndarray) -> int:
    """The most memory that was allocated at once during a forward and backward, without the arguments."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        forward_and_backward(*arrays)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each path and length: the peak of memory, what is kept between forward and backward, and the time."""
    result = []
    for path in PATHS:
        for length in scale.lengths:
            rng = np.random.default_rng((seed, length))
            arrays = rng.standard_normal((4, 1, scale.num_heads, length, scale.head_dim), dtype=np.float32)
            times = []
            with attention_path(path), limit_threads(1):
                for _ in range(scale.num_repeats):
                    started = time.perf_counter()
                    cache = forward_and_backward(*arrays)
                    times.append(time.perf_counter() - started)
                kept, peak = cache.nbytes - arrays[:3].nbytes, peak_bytes(arrays)
            result.append({"path": path, "T": length, "peak bytes": peak, "kept bytes": kept, "seconds": min(times)})
    return result


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    slopes = {
        (quantity, path): results.slope(quantity, "T", path=path)
        for quantity in ("peak bytes", "seconds")
        for path in PATHS
    }
    longest = results.distinct("T")[-1]
    at_end = {
        path: {
            quantity: results.interval(quantity, path=path, T=longest).mean for quantity in ("peak bytes", "seconds")
        }
        for path in PATHS
    }
    plain, tiled = (slopes["peak bytes", path] for path in PATHS)
    because = (
        f"The peak of memory grows as T to the power {plain.mean:.2f} in the plain form and {tiled.mean:.2f} in tiles, "
        f"to {at_end['plain']['peak bytes'] / 2**20:.1f} and {at_end['tiled']['peak bytes'] / 2**20:.1f} MiB at "
        f"T = {longest:,}. The time grows as T to the power {slopes['seconds', 'plain'].mean:.2f} and "
        f"{slopes['seconds', 'tiled'].mean:.2f}, to {1000 * at_end['plain']['seconds']:.0f} and "
        f"{1000 * at_end['tiled']['seconds']:.0f} ms."
    )
    if plain.is_above(1.8) and plain.is_below(2.2) and tiled.is_below(1.2):
        return Verdict("supported", because)
    return Verdict("depends" if plain.mean - tiled.mean > 0.5 else "not supported", because)


EXPERIMENT = Experiment(
    name="attention-memory",
    claim="The memory of attention grows with T² in the plain form, and with T in tiles.",
    question="How do the memory and the time of attention's forward and backward grow with the number of positions T?",
    setting="Causal attention of 2 heads of 32 channels in float32 on random arrays, one thread, plain and in tiles.",
    measure=(
        "The peak of allocated memory (tracemalloc) without the arguments; bytes kept for the backward besides q, k "
        "and v; the fastest of some repeats in seconds. Exponents are slopes of logarithms over ln T. The time does "
        "not decide."
    ),
    rule=(
        "Supported if the interval of the exponent of the peak is between 1.8 and 2.2 in the plain form and below 1.2 "
        "in tiles. Depends if the exponents differ by more than 0.5, otherwise not supported."
    ),
    keys=("path", "T"),
    scales={
        "miniature": Scale(2, (256, 512), 1),
        "default": Scale(3, (256, 512, 1024, 2048)),
        "full": Scale(5, (256, 512, 1024, 2048, 4096), 5),
    },
    rows=rows,
    judge=judge,
    plots=(
        Plot("T", "peak bytes", "path", log_x=True, log_y=True),
        Plot("T", "seconds", "path", log_x=True, log_y=True),
    ),
)
