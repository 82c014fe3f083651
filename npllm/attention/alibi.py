"""ALiBi, attention with linear biases: the further back a key stands, the lower its score, by a slope for each head.

    scores → [− slope · distance] → softmax → …

Over plain attention: positions without anything learned. Because the penalty is the same rule at any distance, a model
trained on short texts can read longer ones.

Press, Smith, Lewis 2021, Train Short, Test Long: Attention with Linear Biases, section 3.
"""

import numpy as np

from npllm import functional as F
from npllm.attention.part import Part


class ALiBi(Part):
    """S_hts ← S_hts − slope_h (t − s)      (H, T, S) → (H, T, S)

    The slopes are those of the paper unless given, one for each head. Slope 0 is plain attention without positions.
    """

    def __init__(self, widths, slopes=None):
        self.slopes = F.alibi_slopes(widths.num_heads) if slopes is None else np.asarray(slopes, np.float64)
        if self.slopes.shape != (widths.num_heads,):
            raise ValueError(f"slopes has shape {self.slopes.shape}; it must be ({widths.num_heads},), one for a head")
        if not (np.isfinite(self.slopes) & (self.slopes >= 0)).all():
            raise ValueError(f"slopes is {self.slopes}; they must be finite and at least 0: what is far counts less")

    def bias_forward(self, places, key_places, dtype):
        """The bias; nothing to learn, so nothing to keep."""
        return F.alibi_bias(self.slopes, places, key_places, dtype), None
