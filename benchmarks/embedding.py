"""Embedding lookup and its gradient: many ids, a vocabulary of GPT-2's size."""

import numpy as np
import torch

from benchmarks.limits import Work
from benchmarks.measure import Job
from npllm import functional as F

NUM_IDS, V, C = 4096, 50257, 768


def jobs(num_ids=NUM_IDS, num_rows=V):
    """Forward, and backward against autograd and against index_add_."""
    rng = np.random.default_rng(0)
    ids = rng.zipf(1.2, num_ids) % num_rows  # a few ids come often and most seldom, as in a text
    weight = rng.standard_normal((num_rows, C), dtype=np.float32)
    dy = rng.standard_normal((num_ids, C), dtype=np.float32)
    ids_t, weight_t, dy_t = torch.from_numpy(ids), torch.from_numpy(weight).requires_grad_(), torch.from_numpy(dy)
    _, cache = F.embedding_forward(ids, weight)
    graph = torch.nn.functional.embedding(ids_t, weight_t)

    def look_up_by_loop():
        y = np.empty_like(dy)
        for i, token_id in enumerate(ids):
            y[i] = weight[token_id]
        return y

    def add_by_loop():
        dweight = np.zeros_like(weight)
        for i, token_id in enumerate(ids):
            dweight[token_id] += dy[i]
        return dweight

    size = f"{num_ids:,} ids, V = {num_rows:,}, C = {C}"
    yield Job(
        "embedding forward",
        size,
        lambda: F.embedding(ids, weight),
        {"PyTorch": lambda: torch.nn.functional.embedding(ids_t, weight_t.detach()).numpy()},
        look_up_by_loop,
    )
    yield Job(
        "embedding backward",
        size,
        lambda: F.embedding_backward(dy, cache),
        {
            "PyTorch": lambda: torch.autograd.grad(graph, weight_t, dy_t, retain_graph=True)[0].numpy(),
            "index_add_": lambda: torch.zeros(num_rows, C).index_add_(0, ids_t, dy_t).numpy(),
        },
        add_by_loop,
        work=Work(traffic=4.0 * C * (num_rows + 3 * num_ids)),  # writes V rows, reads dy, updates its rows
    )
