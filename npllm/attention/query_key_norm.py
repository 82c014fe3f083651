"""Query/key normalisation: every query and every key is brought to one length before they meet.

    x → q, k → [norm over each head] → scores → softmax → …

Over plain attention: a score is the length of the query times that of the key times the cosine of their angle. When
lengths grow in training, softmax saturates and learning stops; with a norm only the angle and a learned scale remain.

Henry et al. 2020, Query-Key Normalization for Transformers; as here, RMS norm over each head: Qwen3 2025, section 2.
"""

from npllm.attention.part import Part
from npllm.functional.cache import Cache
from npllm.layers.normalization import RMSNorm


class QueryKeyNorm(Part):
    """q ← q / rms(q) · w_q,  k ← k / rms(k) · w_k      (..., T, D) → (..., T, D)

    `q_norm.weight` and `k_norm.weight` (D) are shared by all heads, as in Qwen3.
    """

    def __init__(self, widths, eps=1e-6, *, dtype="float32"):
        self.q_norm = RMSNorm(widths.head_width, eps, dtype=dtype)
        self.k_norm = RMSNorm(widths.head_width, eps, dtype=dtype)

    def turn_forward(self, q, k, places):
        """Both normalised, and both caches."""
        q, q_norm = self.q_norm.forward(q)
        k, k_norm = self.k_norm.forward(k)
        return q, k, Cache(q_norm=q_norm, k_norm=k_norm)

    def turn_backward(self, dq, dk, cache):
        """Back through both norms."""
        return self.q_norm.backward(dq, cache.q_norm), self.k_norm.backward(dk, cache.k_norm)
