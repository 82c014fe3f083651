"""What every attention layer offers besides its value: the weights, on request."""

from npllm.layers.module import Module


class Attention(Module):
    """An attention layer; its cache holds the core's under the name `attention`."""

    def attention_weights(self, x):
        """The weights A behind `self(x)`: row t says how much position t takes from each position s."""
        return self.forward(x)[1].attention.weights
