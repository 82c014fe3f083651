"""Every variant of attention at two lengths: time and peak memory, forward and backward, beside its reference.

One layer of GPT-2's size. The references are written in PyTorch from the formula, without fused kernels; plain
multi-head attention is also compared with PyTorch's own operator.
"""

import numpy as np
import torch

from benchmarks.layer_pair import layer_jobs
from benchmarks.measure import OURS
from benchmarks.memory import peak_of_numpy, peak_of_torch
from npllm.attention import Delta, LinearAttn, Shaw
from npllm.experiments.attention_variants import D_MODEL, VARIANTS
from torch_ref.attention.variants.grouped_query import GroupedQueryAttention

LENGTHS = (256, 1024)
LONGEST_SHAW = 256  # the reference of Shaw's attention has a vector for every pair: 10 GiB at 1,024 positions
MEMORY = {OURS: peak_of_numpy, "PyTorch": peak_of_torch, "PyTorch fused": peak_of_torch}


class FusedAttention(GroupedQueryAttention):
    """Grouped-query attention by PyTorch's own operator."""

    def forward(self, x):
        """The projected context vectors."""
        q = self.q_proj(x).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
        k, v = (proj(x).unflatten(-1, (self.num_kv_heads, -1)).transpose(-3, -2) for proj in (self.k_proj, self.v_proj))
        context = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o_proj(context.transpose(-3, -2).flatten(-2))


def jobs(lengths=LENGTHS):
    """All variants, each at all lengths."""
    rng = np.random.default_rng(0)
    for variant in VARIANTS:
        fused = FusedAttention if variant.name == "multi-head" else None
        for length in lengths:
            if isinstance(variant.config, Shaw) and length > LONGEST_SHAW:
                continue
            x = rng.standard_normal((1, length, D_MODEL), dtype=np.float32)
            config = {"d_model": D_MODEL, "context_length": length, **vars(variant.config)}
            if not isinstance(variant.config, (LinearAttn, Delta)):
                config["dropout"] = 0.0
            *_, both = layer_jobs(type(variant.build(1)), config, x, fused=fused, title=variant.name, memory=MEMORY)
            yield both
