"""`python -m benchmarks --quick`: every job at a small size, once each. The keyword arguments of `jobs` by file."""

from benchmarks.decoding import SMOLLM2
from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.rope import RoPE
from npllm.models import DecoderConfig, GatedMLP, GPTConfig

GPT = GPTConfig(vocab_size=5000, context_length=256, d_model=192, num_layers=2, num_heads=3)
DECODER = DecoderConfig(
    2000, 256, 96, 2, GQA(num_heads=3, num_kv_heads=1, rope=RoPE()), GatedMLP(d_hidden=SMOLLM2.d_model // 2)
)
QUICK = {
    "tokenizing": {"names": ("story",), "sizes": (3000,), "hard": 4000, "sources": 40_000, "strings": 2},
    "bpe_training": {"names": (), "sizes": (300, 2000), "sources": 40_000},
    "embedding": {"num_ids": 1024, "num_rows": 5000},
    "softmax": {},
    "attention": {"sizes": (((32, 32), True), ((2, 64, 64), False))},
    "attention_variants": {"lengths": (16,)},
    "transformer_block": {"sizes": (((32, 32), 4), ((1, 128, 192), 3))},
    "kernels": {
        "side": 512, "hidden": (256, 3072), "scores": (512, 1024), "states": (256, 768), "logits": (64, 50257),
        "quick": True,
    },
    "causal_attention": {"lengths": (64, 128, 256), "heads": 2},
    "optimizers": {"config": GPT},
    "gpt2": {"config": GPT, "forward_length": 128},
    "training_steps": {"config": GPT, "batch": (2, 128), "quick": True},
    "decoding": {"config": GPT, "decoder_config": DECODER, "prompt_length": 16, "new_tokens": 32, "batches": (2,)},
    "weight_forms": {"count": 2, "shape": (256, 512)},
    "growth": {"batches": (1, 2, 4), "widths": (32, 64), "length": 16},
    "ideas": {
        "hidden": (256, 3072), "scores": (512, 1024), "length": 256, "heads": 4, "rows": 5000, "num_ids": 512,
        "weights": 500_000,
    },
    "smollm2": {"prefill_length": 32, "new_tokens": 8, "step_length": 32},
}  # fmt: skip
