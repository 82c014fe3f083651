"""The forms of causal attention, each at the size of one layer of GPT-2: for tables and benchmarks to go through.

All read (B, T, 768) and have 12 heads; whatever else they need stands here once.
"""

import inspect
from dataclasses import dataclass, field

from npllm import attention

D_MODEL, NUM_HEADS = 768, 12


@dataclass(frozen=True)
class Form:
    """One form: its class, its options besides sizes, and the module whose first sentence states the idea."""

    name: str
    layer: type
    options: dict = field(default_factory=dict)
    part: str | None = None

    @property
    def idea(self):
        """The first sentence of the file, without its title."""
        source = self.layer if self.part is None else attention.PARTS[self.part]
        first = inspect.getmodule(source).__doc__.split("\n")[0].rstrip(".")
        return first.split(": ", 1)[-1]

    @property
    def file(self):
        """The file to read."""
        source = self.layer if self.part is None else attention.PARTS[self.part]
        return f"{inspect.getmodule(source).__name__.rsplit('.', 1)[-1]}.py"

    def config(self, context_length, d_model=D_MODEL, num_heads=NUM_HEADS):
        """Constructor arguments."""
        sizes = {"d_model": d_model, "context_length": context_length, "dropout": 0.0, "num_heads": num_heads}
        accepted = inspect.signature(self.layer).parameters
        return {name: value for name, value in sizes.items() if name in accepted} | self.options


def _grouped(name, part=None, num_kv_heads=NUM_HEADS, **options):
    parts = {} if part is None else {part: options}
    layer_options = {"num_kv_heads": num_kv_heads, "parts": parts}
    return Form(name, attention.GroupedQueryAttention, layer_options, part)


FORMS = [
    _grouped("multi-head"),
    _grouped("grouped-query, 4 key heads", num_kv_heads=4),
    _grouped("multi-query", num_kv_heads=1),
    _grouped("rotary positions", "rotary"),
    _grouped("ALiBi", "alibi"),
    _grouped("T5's bias", "t5_bias"),
    Form("Shaw's relative positions", attention.ShawAttention),
    _grouped("query/key norm", "query_key_norm"),
    _grouped("soft cap", "soft_cap", cap=50.0),
    _grouped("window of 256, 4 sinks", "window", size=256, sinks=4),
    _grouped("strided, every 32nd", "strided", stride=32),
    _grouped("gated output", "gate"),
    Form("differential, 6 heads of two maps", attention.DifferentialAttention, {"num_heads": 6}),
    Form(
        "latent of 128",
        attention.MultiHeadLatentAttention,
        {"kv_lora_rank": 128, "head_dim": 64, "qk_rope_head_dim": 32},
    ),
    Form("linear, parallel", attention.LinearAttention),
    Form("linear, recurrent", attention.LinearAttention, {"mode": "recurrent"}),
    Form("delta rule, chunks of 32", attention.DeltaNet),
]
