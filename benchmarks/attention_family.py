"""Every form of attention over growing lengths: time and peak memory, forward and backward, beside its twin.

One layer of GPT-2's size. The twins are what one writes in PyTorch from the formula, not fused kernels; for plain
multi-head attention PyTorch's own operator stands beside them.
"""

import numpy as np
import torch

from benchmarks.layer_pair import layer_jobs
from benchmarks.measure import OURS
from benchmarks.memory import peak_of_numpy, peak_of_torch
from npllm.attention import ShawAttention
from npllm.experiments.attention_variants import FORMS
from torch_ref.attention.variants.grouped_query import GroupedQueryAttention

LENGTHS = (256, 1024)
MOST_PAIRS = 256  # Shaw's twin lays a vector out for every pair: at 1,024 positions more than 10 GiB
MEMORY = {OURS: peak_of_numpy, "PyTorch": peak_of_torch, "PyTorch fused": peak_of_torch}


class FusedAttention(GroupedQueryAttention):
    """Grouped-query attention by PyTorch's own operator."""

    def forward(self, x):
        """The projected context vectors."""
        q = self.q_proj(x).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
        k, v = (proj(x).unflatten(-1, (self.num_kv_heads, -1)).transpose(-3, -2) for proj in (self.k_proj, self.v_proj))
        context = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o_proj(context.transpose(-3, -2).flatten(-2))


def jobs(lengths=LENGTHS, d_model=768, num_heads=12):
    """All forms, each at all lengths."""
    rng = np.random.default_rng(0)
    for form in FORMS:
        fused = FusedAttention if form.name == "multi-head" else None
        for length in lengths:
            if form.layer is ShawAttention and length > MOST_PAIRS:
                continue
            x = rng.standard_normal((1, length, d_model), dtype=np.float32)
            config = form.config(length, d_model, num_heads)
            *_, both = layer_jobs(form.layer, config, x, fused=fused, title=form.name, memory=MEMORY)
            yield both
