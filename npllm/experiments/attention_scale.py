"""Experiment 9: why attention divides its scores by √D."""

from dataclasses import dataclass

import numpy as np

from npllm.experiments.experiment import Experiment, Plot, Results, Row, Verdict
from npllm.layers.softmax import softmax_backward, softmax_forward


@dataclass(frozen=True)
class Scale:
    """The sizes of one run."""

    num_seeds: int
    num_queries: int
    dims: tuple[int, ...] = (4, 16, 64, 256, 1024)
    num_keys: int = 64


def rows(scale: Scale, seed: int) -> list[Row]:
    """For each D, with and without the division: variance of scores, entropy of weights, size of the gradient."""
    result = []
    for dim in scale.dims:
        rng = np.random.default_rng((seed, dim))
        q, k = rng.standard_normal((scale.num_queries, dim)), rng.standard_normal((scale.num_keys, dim))
        dweights = rng.standard_normal((scale.num_queries, scale.num_keys))
        for form, divisor in (("divided by √D", np.sqrt(dim)), ("not divided", 1.0)):
            scores = q @ k.T / divisor
            weights, cache = softmax_forward(scores)
            dscores = softmax_backward(dweights, cache)
            logs = np.log(np.where(weights > 0, weights, 1.0))
            result.append(
                {
                    "form": form,
                    "D": dim,
                    "variance": float(scores.var()),
                    "entropy": float(-(weights * logs).sum(axis=-1).mean() / np.log(scale.num_keys)),
                    "gradient": float(np.sqrt((dscores * dscores).sum(axis=-1).mean())),
                }
            )
    return result


def judge(results: Results) -> Verdict:
    """The rule of the experiment."""
    divided, plain = {"form": "divided by √D"}, {"form": "not divided"}
    first, last = results.distinct("D")[0], results.distinct("D")[-1]
    growth, flat = results.slope("variance", "D", **plain), results.slope("variance", "D", **divided)
    entropy = results.interval("entropy", D=last, **plain)
    kept = results.interval("entropy", D=last, **divided)
    ratio = results.interval("gradient", D=last, **plain).mean / results.interval("gradient", D=first, **plain).mean
    because = (
        f"The variance of the scores grows as D to the power {growth}; divided by √D, {flat}. At D = {last:,} the "
        f"entropy of the weights is {entropy} of its maximum without the division and {kept} with it, and the gradient "
        f"of the scores is {ratio:.2f} times that at D = {first}."
    )
    grows = growth.is_above(0.9) and growth.is_below(1.1) and abs(flat.mean) < 0.1
    if grows and entropy.is_below(0.5 * kept.mean) and ratio < 1:
        return Verdict("supported", because)
    return Verdict("depends" if grows else "not supported", because)


EXPERIMENT = Experiment(
    name="attention-scale",
    claim="Scores are divided by √D because their variance grows with D, and softmax then saturates.",
    question="How do variance, entropy of the weights and size of the gradient depend on D, with and without √D?",
    setting="Independent standard normal queries and keys, 64 keys, a standard normal gradient of the weights.",
    measure="Variance of scores; entropy of weights relative to ln 64; root mean square of the scores' gradient.",
    rule=(
        "Supported if the slope of the variance over D is between 0.9 and 1.1 without the division and within 0.1 of 0 "
        "with it, and at the largest D the entropy without it is below half of that with it and the gradient smaller "
        "than at the smallest D. Depends if only the variance behaves so."
    ),
    keys=("form", "D"),
    scales={"miniature": Scale(3, 50, (4, 64, 1024)), "default": Scale(5, 500), "full": Scale(20, 2000)},
    rows=rows,
    judge=judge,
    plots=(
        Plot("D", "variance", "form", log_x=True, log_y=True),
        Plot("D", "entropy", "form", log_x=True),
        Plot("D", "gradient", "form", log_x=True, log_y=True),
    ),
)
