"""Learning-rate schedules: linear warm-up, then half a cosine down to the minimum.

    learning rate │   ╭──╮           Adam's running averages start at 0 and are unreliable in the first steps, so the
                  │  ╱    ╲          learning rate starts small. Small steps at the end lower the loss further.
                  │ ╱       ╲____
                  └──────────────── step

Loshchilov, Hutter 2017, SGDR, equation 5; warm-up: Goyal et al. 2017, section 2.2.
"""

import math

from npllm.core.checks import check_integer, check_number


def warmup_cosine(
    step: int, num_steps: int, learning_rate: float, min_learning_rate: float = 0.0, warmup_steps: int = 0
) -> float:
    """The learning rate at a step, 0 … num_steps − 1.

    step < warmup_steps:  learning_rate · (step + 1) / (warmup_steps + 1)
    otherwise:            min + (learning_rate − min) · (1 + cos(π · progress)) / 2

    with progress = (step − warmup_steps) / (num_steps − warmup_steps). From num_steps on it is min_learning_rate.
    Raises ValueError unless 0 ≤ warmup_steps ≤ num_steps and 0 ≤ min_learning_rate ≤ learning_rate.
    """
    check_integer("step", step, 0)
    check_integer("num_steps", num_steps, 0)
    check_number("learning_rate", learning_rate)
    check_number("min_learning_rate", min_learning_rate)
    if not 0 <= check_integer("warmup_steps", warmup_steps, 0) <= num_steps:
        raise ValueError(f"warmup_steps is {warmup_steps}; it must be at least 0 and at most num_steps, {num_steps}")
    if not 0 <= min_learning_rate <= learning_rate:
        raise ValueError(
            f"min_learning_rate is {min_learning_rate}; it must be at least 0 and at most learning_rate, "
            f"{learning_rate}"
        )
    if step < warmup_steps:
        return learning_rate * (step + 1) / (warmup_steps + 1)
    if step >= num_steps:
        return min_learning_rate
    progress = (step - warmup_steps) / (num_steps - warmup_steps)
    return min_learning_rate + (learning_rate - min_learning_rate) * 0.5 * (1.0 + math.cos(math.pi * progress))
