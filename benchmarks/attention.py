"""Every attention layer, on a sequence short enough for plain loops and on batches of a training size.

"PyTorch" is the reference in torch_ref, written as in the book; "fused" calls PyTorch's own operator.
"""

import numpy as np
import torch.nn.functional

import torch_ref.attention
from benchmarks import plain
from benchmarks.layer_pair import layer_jobs
from npllm import attention

HEADS = 4
SIZES = (((32, 32), True), ((8, 256, 256), False))  # shapes, and whether plain loops are timed


class FusedCausalAttention(torch_ref.attention.CausalAttention):
    """CausalAttention with PyTorch's fused operator."""

    def forward(self, x):
        """The context vectors."""
        q, k, v = self.W_query(x), self.W_key(x), self.W_value(x)
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class FusedMultiHeadAttention(torch_ref.attention.MultiHeadAttention):
    """MultiHeadAttention with PyTorch's fused operator."""

    def forward(self, x):
        """The projected context vectors."""
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
            for layer in (self.W_query, self.W_key, self.W_value)
        )
        context = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(context.transpose(-3, -2).flatten(-2))


def jobs(sizes=SIZES):
    """All classes in the order of the chapter, at both sizes."""
    rng = np.random.default_rng(0)
    for shape, with_loops in sizes:
        # small numbers: SelfAttentionV1's weights start large, and scores of hundreds leave float32 no digits
        x = 0.1 * rng.standard_normal(shape, dtype=np.float32)
        for layer_class, config, loops, fused in _classes(*shape[-2:]):
            yield from layer_jobs(layer_class, config, x, loops if with_loops else None, fused)


def _classes(length, width):
    one = {"d_in": width, "d_out": width}
    causal = one | {"context_length": length, "dropout": 0.0}
    several = causal | {"num_heads": HEADS}
    return [
        (attention.SimplifiedSelfAttention, {}, lambda x, state: plain.attention(x, x, x, scale=1.0), None),
        (attention.SelfAttentionV1, one, _v1, None),
        (attention.SelfAttentionV2, one, plain.projected_attention, None),
        (
            attention.CausalAttention,
            causal,
            lambda x, state: plain.projected_attention(x, state, causal=True),
            FusedCausalAttention,
        ),
        (attention.MultiHeadAttentionWrapper, several | {"d_out": width // HEADS}, _wrapper, None),
        (
            attention.MultiHeadAttention,
            several,
            lambda x, state: plain.multi_head_attention(x, state, HEADS),
            FusedMultiHeadAttention,
        ),
    ]


def _v1(x, state):
    transposed = {f"{name}.weight": list(zip(*matrix)) for name, matrix in state.items()}
    return plain.projected_attention(x, transposed)


def _wrapper(x, state):
    return plain.join([plain.projected_attention(x, state, True, f"heads.{head}.") for head in range(HEADS)])
