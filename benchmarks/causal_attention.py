"""Causal attention of 12 heads of 64 channels over sequences of growing length, forward and with backward.

“PyTorch fused” is its own operator; “PyTorch formula” is softmax(q kᵀ / √D) v written out, up to 2,048 positions. The
lengths end where a row would take too long, or npllm's arrays too much memory.
"""

import math
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.limits import Work, as_squares
from benchmarks.measure import OURS, Job
from benchmarks.memory import peak_of_numpy, peak_of_torch
from benchmarks.torch_variants import bf16, close_workers, variants
from npllm import functional as F

LENGTHS = tuple(2**n for n in range(7, 15))
ROWS = (256, 1024, 4096)  # the lengths of the table, with all contenders
HEADS, HEAD_DIM = 12, 64
LONGEST_FORMULA = 2048
FUSED, FORMULA = "PyTorch fused", "PyTorch formula"


def jobs(lengths=LENGTHS, heads=HEADS, seconds_of_row=30.0):
    """All lengths forward, then all with backward; the next length is left out if it would take `seconds_of_row`."""
    for both in (False, True):
        peaks = []
        for length in lengths:
            if peaks and 4 * peaks[-1] > 0.7 * available_memory():
                break
            started = time.perf_counter()
            yield from _job(length, heads, both, peaks)
            if length not in ROWS and 4 * (time.perf_counter() - started) > seconds_of_row:  # others start a process
                break


def torch_attention(heads, length, both):
    """PyTorch's fused operator, as a contender of a Worker."""
    return _torch_contender(fused, *_inputs(heads, length), both)


def fused(q, k, v):
    """PyTorch's operator."""
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def formula(q, k, v):
    """The same, written out."""
    visible = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~visible, -math.inf)
    return torch.softmax(scores, -1) @ v


def available_memory():
    """Bytes that are free or can be freed, in Linux; elsewhere 8 GiB are assumed."""
    path = Path("/proc/meminfo")
    if not path.is_file():
        return 2**33
    line = next(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024


def _inputs(heads, length):
    rng = np.random.default_rng(0)
    return rng.standard_normal((3, heads, length, HEAD_DIM), dtype=np.float32), rng.standard_normal(
        (heads, length, HEAD_DIM), dtype=np.float32
    )


def _job(length, heads, both, peaks):
    (q, k, v), dy = inputs = _inputs(heads, length)

    def forward():
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def forward_and_backward():
        y, cache = F.scaled_dot_product_attention_forward(q, k, v, is_causal=True)
        return y, *F.scaled_dot_product_attention_backward(dy, cache)

    def our_peak(run):
        peaks.append(peak_of_numpy(run))
        return peaks[-1]

    all_of_them = length in ROWS
    contenders = {FUSED: _torch_contender(fused, *inputs, both)}
    skipped = {}
    if all_of_them:
        contenders[f"{FUSED} bf16"] = bf16(_torch_contender(fused, *inputs, both))
        arguments = {"heads": heads, "length": length, "both": both}
        unlocked, skipped = variants({}, ("benchmarks.causal_attention:torch_attention", arguments))
        contenders |= unlocked
    if length <= LONGEST_FORMULA:
        contenders[FORMULA] = _torch_contender(formula, *inputs, both)
    name = f"causal attention forward{' + backward' if both else ''}"
    operations = (2 + 5 * both) * heads * length * length * HEAD_DIM  # a causal half of 2 products, and of 5 more
    yield Job(
        name,
        f"{heads} heads × {length:,} × {HEAD_DIM}",
        forward_and_backward if both else forward,
        contenders,
        memory={OURS: our_peak, FUSED: peak_of_torch},
        skipped=skipped,
        work=Work(as_squares(operations)),
        growth=(name, "T", length),
    )
    close_workers(contenders)


def _torch_contender(function, qkv, dy, both):
    inputs, dy = [torch.from_numpy(x)[None].requires_grad_(both) for x in qkv], torch.from_numpy(dy)[None]

    def run():
        y = function(*inputs)
        if not both:
            return y[0].float().numpy()
        gradients = torch.autograd.grad(y, inputs, dy.to(y.dtype))
        return tuple(x.detach()[0].float().numpy() for x in (y, *gradients))

    return run
