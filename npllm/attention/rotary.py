"""Rotary positions as a part of attention: queries and keys are turned by an angle that grows with their place.

    x → q, k → [turn] → scores → softmax → …

Over plain attention: nothing is added to the vectors at the bottom of the model, and nothing to the scores; every layer
tells distances by itself, at any place. What is remembered of a text are the turned keys.

Su et al. 2021, RoFormer; see functional/rotary.py for the formula and for the stretched forms.
"""

from npllm import functional as F
from npllm.attention.part import Part
from npllm.functional.cache import Cache

STRETCHES = {  # kind: frequencies(width, base, **options)
    "linear": F.interpolated_frequencies,
    "ntk": F.ntk_aware_frequencies,
    "yarn": F.yarn_frequencies,
    "llama3": F.llama3_frequencies,
}


class Rotary(Part):
    """q_t ← R(t) q_t,  k_s ← R(s) k_s, so that  q_t · k_s  depends on t − s      (..., T, D) → (..., T, D)

    base      the slowest pair turns by about 1/base radians a place
    share     how much of each head is turned, from its first channel on (partial rotary: less than 1)
    layout    "halves" or "pairs", see functional.rotary
    stretch   None, or {"kind": "linear" | "ntk" | "yarn" | "llama3", "factor": …, …} for longer texts than trained on
    """

    def __init__(self, widths, base=10000.0, share=1.0, layout="halves", stretch=None):
        if not 0.0 < share <= 1.0:
            raise ValueError(f"share is {share}; it must be greater than 0 and at most 1")
        self.layout, self.amplitude = layout, 1.0
        self.frequencies = F.rotary_frequencies(int(widths.head_width * share), base)
        if stretch is not None:
            options = dict(stretch)
            kind = options.pop("kind", None)
            if kind not in STRETCHES:
                raise ValueError(f"stretch has kind {kind!r}; it must be one of {', '.join(STRETCHES)}")
            try:
                self.frequencies = STRETCHES[kind](2 * len(self.frequencies), base, **options)
            except TypeError as error:  # an option that this kind lacks, or does not have
                raise ValueError(f"stretch is {stretch}; {error}") from None
            self.amplitude = F.yarn_amplitude(options["factor"]) if kind == "yarn" else 1.0

    def turn_forward(self, q, k, places):
        """Both turned, and both caches."""
        q, q_cache = F.rotary_forward(q, places, self.frequencies, self.layout, self.amplitude)
        k, k_cache = F.rotary_forward(k, places, self.frequencies, self.layout, self.amplitude)
        return q, k, Cache(q=q_cache, k=k_cache)

    def turn_backward(self, dq, dk, cache):
        """Both turned back."""
        return F.rotary_backward(dq, cache.q), F.rotary_backward(dk, cache.k)
