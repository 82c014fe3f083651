"""A mixture of experts: several feed-forward networks, and a router that selects a few of them for each position.

    x → router → softmax → top k → Σ weight · expert(x) → + → …

Compared with one large network, the number of weights grows with the number of experts, and the computation for one
position does not. The selection has no derivative; the router is trained through the weights of the selected experts.
Without an additional loss a router tends to use only the experts that are better at first. The auxiliary loss is
smallest where all experts are used equally.

Shazeer et al. 2017, Outrageously Large Neural Networks, section 2.1; Fedus, Zoph, Shazeer 2021, Switch Transformers,
section 2.2 (the auxiliary loss); Jiang et al. 2024, Mixtral of Experts, section 2.1.
"""

import numpy as np
from numpy.typing import DTypeLike

from npllm.core.cache import Cache
from npllm.core.checks import as_array, check_gradient, check_integer, check_shape
from npllm.core.ieee_arithmetic import ieee_arithmetic
from npllm.core.module import Module, as_generator
from npllm.layers.gated_feed_forward import GatedFeedForward
from npllm.layers.linear import Linear
from npllm.layers.softmax import softmax_backward, softmax_forward


class MixtureOfExperts(Module):
    """y = Σ w_e expert_e(x) over the k experts of largest p,  p = softmax(x W_gateᵀ)      (..., C) → (..., C)

    w_e is p_e, divided by the sum of the k selected p if `norm_topk_prob`. `gate` is the router, `experts` are gated
    networks with `d_hidden` hidden values, SwiGLU unless another `activation` is given; the names are those of Qwen's
    published weights. Raises ValueError unless 1 ≤ top_k ≤ num_experts.

    The auxiliary loss is E Σ_e f_e P_e: f_e is the fraction of positions that selected expert e, P_e the mean of p_e.
    It is k where all E experts are used equally, and at most E.
    """

    def __init__(
        self,
        d_model: int,
        num_experts: int,
        top_k: int = 2,
        d_hidden: int | None = None,
        norm_topk_prob: bool = True,
        activation: str = "silu",
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> None:
        if not 1 <= check_integer("top_k", top_k) <= check_integer("num_experts", num_experts):
            raise ValueError(f"top_k is {top_k}; it must be at least 1 and at most num_experts, {num_experts}")
        self.top_k, self.norm_topk_prob = top_k, norm_topk_prob
        self.gate = Linear(d_model, num_experts, bias=False, dtype=dtype, init=False)
        self.experts = [
            GatedFeedForward(d_model, d_hidden, activation, dtype=dtype, init=False) for _ in range(num_experts)
        ]
        if init:
            self.init_weights(as_generator(rng))

    @ieee_arithmetic
    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Cache]:
        """y = Σ w_e expert_e(x) over the selected experts.

        The cache holds the selected experts (`chosen`) and their `weights`, the caches of the router and of the
        experts, the `fraction` f of each expert, and `aux_loss`.
        """
        x = as_array("x", x)
        check_shape("x", x, "(..., C)", C=self.gate.weight.shape[1])
        rows = x.reshape(-1, x.shape[-1])  # (N, C): the experts differ from position to position
        logits, gate = self.gate.forward(rows)
        probabilities, softmax = softmax_forward(logits)
        chosen = np.argsort(-probabilities, axis=-1, kind="stable")[:, : self.top_k]
        weights = np.take_along_axis(probabilities, chosen, axis=-1)
        total = weights.sum(axis=-1, keepdims=True)
        weights = weights / total if self.norm_topk_prob else weights
        y, experts = np.zeros_like(rows), []
        for index, expert in enumerate(self.experts):
            row, rank = np.nonzero(chosen == index)
            expert_y, expert_cache = expert.forward(rows[row])
            y[row] += weights[row, rank][:, None] * expert_y
            experts.append(Cache(row=row, rank=rank, y=expert_y, expert=expert_cache))
        fraction = np.bincount(chosen.ravel(), minlength=len(self.experts)) / max(len(rows), 1)
        mean_probability = probabilities.sum(axis=0) / max(len(rows), 1)
        aux_loss = float(len(self.experts) * (fraction * mean_probability).sum())
        return y.reshape(x.shape), Cache(
            gate=gate, softmax=softmax, chosen=chosen, weights=weights, total=total, experts=experts,
            fraction=fraction, aux_loss=aux_loss, shape=x.shape,
        )  # fmt: skip

    @ieee_arithmetic
    def backward(self, dy: np.ndarray, cache: Cache, daux_loss: float = 0.0) -> np.ndarray:
        """dx = dx through the selected experts + dx through the router.

        `daux_loss` is the gradient of `cache.aux_loss`. With y = Σ w_e y_e:  dy_e = w_e dy  and  dw_e = dy · y_e.
        With w_i = p_i / s and s = Σ p over the selected experts:  dp_i = (dw_i − Σ_j dw_j w_j) / s.
        The fraction f has no derivative, so the auxiliary loss adds E f_e / N to dp_e.
        """
        dy = check_gradient(dy, cache.shape, cache.weights.dtype).reshape(-1, cache.shape[-1])
        dx, dweights = np.zeros_like(dy), np.zeros_like(cache.weights)
        for expert, used in zip(self.experts, cache.experts):
            weight = cache.weights[used.row, used.rank][:, None]
            dweights[used.row, used.rank] = (dy[used.row] * used.y).sum(axis=-1)
            dx[used.row] += expert.backward(weight * dy[used.row], used.expert)
        if self.norm_topk_prob:
            dweights = (dweights - (dweights * cache.weights).sum(axis=-1, keepdims=True)) / cache.total
        dprobabilities = np.zeros_like(cache.softmax.y)
        np.put_along_axis(dprobabilities, cache.chosen, dweights, axis=-1)
        if daux_loss != 0.0:
            dmean = float(daux_loss) * len(self.experts) * cache.fraction
            dprobabilities += (dmean / max(len(dy), 1)).astype(dprobabilities.dtype)
        dx += self.gate.backward(softmax_backward(dprobabilities, cache.softmax), cache.gate)
        return dx.reshape(cache.shape)
