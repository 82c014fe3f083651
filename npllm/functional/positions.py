"""Sinusoidal positions: a clock with many hands, from fast to slow, tells each position from every other.

    ids → embedding + [positions] → attention → logits → loss

No two positions look alike, and a step of k positions turns every hand by the same angle wherever one starts, so
"k back" is one rotation for all positions.

Vaswani et al. 2017, Attention Is All You Need, section 3.5.
"""

import numpy as np


def sinusoidal_positions(num_positions, d_model, base=10000.0, dtype=np.float32):
    """P[t, 2i] = sin(t / base^(2i/C)),  P[t, 2i+1] = cos(t / base^(2i/C))      an array (T, C)

    Computed in float64 and rounded once: the angle t is exact up to large positions. An odd C ends with a sine.
    Raises ValueError for negative sizes.
    """
    if num_positions < 0 or d_model < 1:
        raise ValueError(f"num_positions is {num_positions} and d_model {d_model}; they must be at least 0 and 1")
    channel = np.arange(d_model)
    pair = channel // 2 * 2  # 2i, the same for the sine and the cosine of a pair
    angles = np.arange(num_positions)[:, None] / base ** (pair / d_model)
    return np.where(channel % 2 == 0, np.sin(angles), np.cos(angles)).astype(dtype)
