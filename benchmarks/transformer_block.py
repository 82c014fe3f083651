"""One transformer block: one small enough for plain loops, and one of GPT-2's size."""

import numpy as np

from benchmarks import plain
from benchmarks.layer_pair import layer_jobs
from npllm.models import TransformerBlock

SIZES = (((32, 32), 4), ((2, 256, 768), 12))  # shapes and numbers of heads


def jobs(sizes=SIZES):
    """Forward, and forward with backward, at both sizes."""
    rng = np.random.default_rng(0)
    for shape, num_heads in sizes:
        x = rng.standard_normal(shape, dtype=np.float32)
        config = {"d_model": shape[-1], "context_length": shape[-2], "dropout": 0.0, "num_heads": num_heads}
        loops = _loops(num_heads) if x.ndim == 2 else None
        yield from layer_jobs(TransformerBlock, config, x, loops)


def _loops(num_heads):
    return lambda x, state: plain.transformer_block(x, state, num_heads)
