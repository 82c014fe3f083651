"""A mixture of experts: all experts are computed, and those that are not selected have weight 0."""

import torch
from torch import nn

from torch_ref.layers.gated_feed_forward import GatedFeedForward


class MixtureOfExperts(nn.Module):
    """The weighted sum of the top k experts of each position."""

    def __init__(self, d_model, num_experts, top_k=2, d_hidden=None, norm_topk_prob=True, activation="silu"):
        super().__init__()
        self.top_k, self.norm_topk_prob = top_k, norm_topk_prob
        self.gate = nn.Linear(d_model, num_experts, bias=False)
        self.experts = nn.ModuleList(GatedFeedForward(d_model, d_hidden, activation) for _ in range(num_experts))

    def forward(self, x):
        """Σ weight · expert(x); the probabilities and the selection are kept for `aux_loss`."""
        self.probabilities = torch.softmax(self.gate(x), dim=-1)
        weights, selected = self.probabilities.topk(self.top_k, dim=-1)
        if self.norm_topk_prob:
            weights = weights / weights.sum(-1, keepdim=True)
        weights = torch.zeros_like(self.probabilities).scatter(-1, selected, weights)
        self.is_selected = torch.zeros_like(self.probabilities).scatter(-1, selected, 1.0)
        return sum(weights[..., e, None] * expert(x) for e, expert in enumerate(self.experts))

    def aux_loss(self):
        """E Σ f P of the last forward."""
        fraction = self.is_selected.flatten(0, -2).mean(0)
        mean_probability = self.probabilities.flatten(0, -2).mean(0)
        return len(self.experts) * (fraction * mean_probability).sum()
