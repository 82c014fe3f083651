"""The learning rate over a training: a short rise from near 0, then half a cosine down.

    rate │   ╭──╮                 At first the averages of Adam know nothing and large steps would go anywhere;
         │  ╱    ╲                at the end small steps settle what the large ones have found.
         │ ╱       ╲____
         └──────────────── step

Loshchilov, Hutter 2017, SGDR, equation 5; warm-up: Goyal et al. 2017, section 2.2.
"""

import math


def warmup_cosine(step, num_steps, peak, floor=0.0, warmup_steps=0):
    """The learning rate of a step, 0 … num_steps − 1.

    step < warmup_steps:  peak · (step + 1) / (warmup_steps + 1)
    then:                 floor + (peak − floor) · (1 + cos(π · share)) / 2,  share of the way from warm-up to the end

    From num_steps on it is the floor. Raises ValueError for numbers that make no schedule.
    """
    if not 0 <= warmup_steps <= num_steps:
        raise ValueError(f"warmup_steps is {warmup_steps}; it must be at least 0 and at most num_steps, {num_steps}")
    if not 0 <= floor <= peak:
        raise ValueError(f"floor is {floor} and peak {peak}; they must be 0 ≤ floor ≤ peak")
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    if step >= num_steps:
        return floor
    share = (step - warmup_steps) / (num_steps - warmup_steps)
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * share))
