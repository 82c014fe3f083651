"""A mixture of experts in PyTorch: all experts run, and those not chosen count nothing."""

import torch
from torch import nn

from torch_ref.layers.swiglu import SwiGLU


class MixtureOfExperts(nn.Module):
    """The k likeliest experts of each position, weighed by the router."""

    def __init__(self, d_model, num_experts, experts_per_token=2, d_hidden=None, normalize=True):
        super().__init__()
        self.experts_per_token, self.normalize = experts_per_token, normalize
        self.gate = nn.Linear(d_model, num_experts, bias=False)
        self.experts = nn.ModuleList(SwiGLU(d_model, d_hidden) for _ in range(num_experts))

    def forward(self, x):
        """The weighted sum; what the router thought is kept for `balance`."""
        self.probabilities = torch.softmax(self.gate(x), dim=-1)
        largest, chosen = self.probabilities.topk(self.experts_per_token, dim=-1)
        self.is_chosen = torch.zeros_like(self.probabilities, dtype=torch.bool).scatter(-1, chosen, True)
        weights = self.probabilities * self.is_chosen
        if self.normalize:
            weights = weights / largest.sum(-1, keepdim=True)
        return sum(weights[..., e, None] * expert(x) for e, expert in enumerate(self.experts))

    def balance(self):
        """E Σ f P of the last forward."""
        axes = tuple(range(self.probabilities.ndim - 1))
        share = self.is_chosen.to(self.probabilities.dtype).mean(axes)
        return len(self.experts) * (share * self.probabilities.mean(axes)).sum()
