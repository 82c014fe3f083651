"""A mixture of experts in PyTorch: all experts run, and those not chosen count nothing."""

import torch
from torch import nn

from torch_ref.layers.swiglu import SwiGLU


class MixtureOfExperts(nn.Module):
    """The k likeliest experts of each position, weighed by the router."""

    def __init__(self, d_model, num_experts, top_k=2, d_hidden=None, norm_topk_prob=True):
        super().__init__()
        self.top_k, self.norm_topk_prob = top_k, norm_topk_prob
        self.gate = nn.Linear(d_model, num_experts, bias=False)
        self.experts = nn.ModuleList(SwiGLU(d_model, d_hidden) for _ in range(num_experts))

    def forward(self, x):
        """The weighted sum; what the router thought is kept for `balance`."""
        self.probabilities = torch.softmax(self.gate(x), dim=-1)
        largest, chosen = self.probabilities.topk(self.top_k, dim=-1)
        self.is_chosen = torch.zeros_like(self.probabilities, dtype=torch.bool).scatter(-1, chosen, True)
        weights = self.probabilities * self.is_chosen
        if self.norm_topk_prob:
            weights = weights / largest.sum(-1, keepdim=True)
        return sum(weights[..., e, None] * expert(x) for e, expert in enumerate(self.experts))

    def aux_loss(self):
        """E Σ f P of the last forward."""
        axes = tuple(range(self.probabilities.ndim - 1))
        share = self.is_chosen.to(self.probabilities.dtype).mean(axes)
        return len(self.experts) * (share * self.probabilities.mean(axes)).sum()
