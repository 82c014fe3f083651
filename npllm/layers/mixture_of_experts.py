"""A mixture of experts: many feed-forward networks, of which each position uses the few that a router picks.

    x → router → softmax → the k largest → Σ weight · expert(x) → + → …

Over one wide network: the model can know more without computing more. The choice of experts has no derivative; what
learns is how much each chosen one counts. Left alone, a router sends everything to the experts that happen to be better
first, so training adds a small loss that is least when all are used alike.

Shazeer et al. 2017, Outrageously Large Neural Networks, section 2.1; Fedus, Zoph, Shazeer 2021, Switch Transformers,
section 2.2 (the balance); Jiang et al. 2024, Mixtral of Experts, section 2.1.
"""

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import check_gradient
from npllm.core.module import Module, as_generator
from npllm.layers.linear import Linear
from npllm.layers.softmax import softmax_backward, softmax_forward
from npllm.layers.swiglu import SwiGLU


class MixtureOfExperts(Module):
    """y = Σ_{e among the k largest p} w_e expert_e(x),  p = softmax(x W_gateᵀ)      (..., C) → (..., C)

    The weights w are the chosen p, divided by their sum if `normalize`. `gate` is the router, `experts` are gated
    feed-forward networks; the names are those of Qwen's published weights. The cache has `balance`, the router's loss
    E Σ_e f_e P_e, with f_e the share of positions that chose expert e and P_e its mean probability: it is k where all
    experts are used alike, and at most E.
    """

    def __init__(
        self, d_model, num_experts, experts_per_token=2, d_hidden=None, normalize=True, *, rng=None, dtype="float32"
    ):
        if not 1 <= experts_per_token <= num_experts:
            raise ValueError(
                f"experts_per_token is {experts_per_token} and num_experts {num_experts}; the first must be at least 1 "
                "and at most the second"
            )
        rng = as_generator(rng)
        self.experts_per_token, self.normalize = experts_per_token, normalize
        self.gate = Linear(d_model, num_experts, bias=False, rng=rng, dtype=dtype)
        self.experts = [SwiGLU(d_model, d_hidden, rng=rng, dtype=dtype) for _ in range(num_experts)]

    def __call__(self, x):
        """The value alone."""
        return self.forward(x)[0]

    def forward(self, x):
        """The value, and who was chosen, how much each counts, and the caches of router and experts."""
        x = np.asarray(x)
        rows = x.reshape(-1, x.shape[-1])
        logits, gate = self.gate.forward(rows)
        probabilities, softmax = softmax_forward(logits)
        chosen = np.argsort(-probabilities, axis=-1, kind="stable")[:, : self.experts_per_token]
        weights = np.take_along_axis(probabilities, chosen, axis=-1)
        total = weights.sum(axis=-1, keepdims=True) if self.normalize else None
        weights = weights / total if self.normalize else weights
        y, experts = np.zeros_like(rows), []
        for number, expert in enumerate(self.experts):
            row, rank = np.nonzero(chosen == number)
            found, cache = expert.forward(rows[row])
            y[row] += weights[row, rank][:, None] * found
            experts.append(Cache(row=row, rank=rank, found=found, expert=cache))
        share = np.bincount(chosen.ravel(), minlength=len(self.experts)) / max(len(rows), 1)
        balance = float(len(self.experts) * (share * probabilities.mean(axis=0)).sum()) if len(rows) else 0.0
        return y.reshape(x.shape), Cache(
            gate=gate, softmax=softmax, chosen=chosen, weights=weights, total=total, experts=experts, share=share,
            balance=balance, shape=x.shape,
        )  # fmt: skip

    def backward(self, dy, cache, dbalance=0.0):
        """dx through the experts, by how much each counted, and through the router.

        y = Σ w_e found_e, so dfound_e = w_e dy and dw_e = dy · found_e. With w_i = p_i / s, s = Σ p:
        dp_i = (dw_i − Σ_j dw_j w_j) / s. `dbalance` is the gradient of the loss by `cache.balance`, whose share f has
        no derivative: dP_e = E f_e.
        """
        dy = check_gradient(dy, cache.shape, cache.weights.dtype).reshape(-1, cache.shape[-1])
        drows, dweights = np.zeros_like(dy), np.zeros_like(cache.weights)
        for expert, used in zip(self.experts, cache.experts):
            weight = cache.weights[used.row, used.rank][:, None]
            dweights[used.row, used.rank] = (dy[used.row] * used.found).sum(axis=-1)
            drows[used.row] += expert.backward(weight * dy[used.row], used.expert)
        if self.normalize:
            dweights = (dweights - (dweights * cache.weights).sum(axis=-1, keepdims=True)) / cache.total
        dprobabilities = np.zeros_like(cache.softmax.y)
        np.put_along_axis(dprobabilities, cache.chosen, dweights, axis=-1)
        if dbalance != 0.0:
            slope = dbalance * len(self.experts) / max(len(dy), 1) * cache.share
            dprobabilities += slope.astype(dprobabilities.dtype)
        drows += self.gate.backward(softmax_backward(dprobabilities, cache.softmax), cache.gate)
        return drows.reshape(cache.shape)
