"""T5's relative positions: a learned number for each head and each range of distances is added to the scores.

    scores → [+ table[bucket(distance), head]] → softmax → …

Over ALiBi: the penalty is learned, and need not be a straight line. Near distances have a bucket each, far ones share.
(T5 itself leaves out the factor 1/√D; here it stays, since its initial weights are not T5's.)

Raffel et al. 2019, Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer, section 2.1.
"""

import numpy as np

from npllm import functional as F
from npllm.attention.part import Part
from npllm.functional.attention import sum_to_shape
from npllm.layers.embedding import Embedding


class T5Bias(Part):
    """S_hts ← S_hts + weight[bucket(t − s), h]      (H, T, S) → (H, T, S)

    `relative_attention_bias.weight` is (num_buckets, H), as in T5's published weights.
    """

    def __init__(self, widths, num_buckets=32, max_distance=128, *, rng=None, dtype="float32"):
        F.t5_buckets([0], [0], num_buckets, max_distance)  # raises where these make no sense
        self.num_buckets, self.max_distance = num_buckets, max_distance
        self.relative_attention_bias = Embedding(num_buckets, widths.num_heads, rng=rng, dtype=dtype)

    def bias_forward(self, places, key_places, dtype):
        """The numbers of all pairs, and the cache of the table's lookup."""
        places, key_places = (p if p.ndim == 1 else p[..., 0, :] for p in (places, key_places))  # a row for all heads
        buckets = F.t5_buckets(places, key_places, self.num_buckets, self.max_distance)
        bias, cache = self.relative_attention_bias.forward(buckets)
        return np.moveaxis(bias, -1, -3), cache  # (..., T, S, H) → (..., H, T, S)

    def bias_backward(self, dbias, cache):
        """Every pair's gradient goes to the number that it used."""
        dbias = np.moveaxis(dbias, -3, -1)
        self.relative_attention_bias.backward(sum_to_shape(dbias, (*cache.ids.shape, dbias.shape[-1])), cache)
