"""A sliding window: each position sees the last few alone, and perhaps the very first.

    t sees  0 … sinks − 1   and   t − window + 1 … t

Over plain attention: cost and memory grow with the window, not with the text. A layer sees a window back, the next one
a window further. Softmax must spend its weight somewhere, and models learn to spend what they do not need on the first
tokens; where these slide out of the window the text breaks down. As sinks they stay.

Beltagy et al. 2020, Longformer, section 3.1; Jiang et al. 2023, Mistral 7B, section 2; Xiao et al. 2023, Efficient
Streaming Language Models with Attention Sinks, section 3.2.
"""

from npllm.attention.part import Part
from npllm.functional.masks import visible


class Window(Part):
    """S_ts ← −∞ unless t − s < size or s < sinks      (T, S) → (T, S)

    A window at least as long as the text is plain causal attention.
    """

    def __init__(self, widths, size, sinks=0):
        visible([0], [0], size, sinks)  # raises where these make no sense
        self.size, self.sinks = size, sinks

    def limits(self):
        """For the core."""
        return {"window": self.size, "sinks": self.sinks}
