"""Soft-capped logits: no score can leave ±cap, and none is cut off.

    scores → [cap · tanh(scores / cap)] → mask → softmax → …

Over plain attention: near 0 the cap does nothing; far out tanh bends the score to ±cap, smoothly, so that a gradient
remains. Few very large scores can no longer hold all the weight.

Bello et al. 2016, Neural Combinatorial Optimization, appendix A.1; Gemma Team 2024, Gemma 2, section 2.
"""

import math

from npllm.attention.part import Part


class SoftCap(Part):
    """S_ts ← cap · tanh(S_ts / cap)      (T, S) → (T, S)

    The core does it, and has its derivative, 1 − tanh².
    """

    def __init__(self, widths, cap):
        if not 0 < cap < math.inf:
            raise ValueError(f"cap is {cap}; it must be greater than 0 and finite")
        self.cap = cap

    def limits(self):
        """For the core."""
        return {"softcap": self.cap}
