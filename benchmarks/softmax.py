"""Softmax of many rows."""

import numpy as np
import torch

from benchmarks import plain
from benchmarks.measure import Job
from npllm import functional as F

ROWS, N = 512, 1024


def jobs():
    """Forward, and forward with backward."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, ROWS, N), dtype=np.float32)
    x_t, dy_t = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)
    x_rows, dy_rows = x.tolist(), dy.tolist()

    def forward_and_backward():
        y, cache = F.softmax_forward(x)
        return y, F.softmax_backward(dy, cache)

    def torch_forward_and_backward():
        y = torch.softmax(x_t, dim=-1)
        return y.detach().numpy(), torch.autograd.grad(y, x_t, dy_t)[0].numpy()

    def loop_forward_and_backward():
        y = [plain.softmax(row) for row in x_rows]
        return y, [plain.softmax_backward(d, row) for d, row in zip(dy_rows, y)]

    size = f"{ROWS} × {N:,}"
    yield Job(
        "softmax forward",
        size,
        lambda: F.softmax(x),
        {"PyTorch": lambda: torch.softmax(x_t.detach(), dim=-1).numpy()},
        lambda: [plain.softmax(row) for row in x_rows],
    )
    yield Job(
        "softmax forward + backward",
        size,
        forward_and_backward,
        {"PyTorch": torch_forward_and_backward},
        loop_forward_and_backward,
    )
