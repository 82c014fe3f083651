"""Generation, one token at a time with a key-value cache: GPT-2 124M and the shape of SmolLM2-135M, random weights.

Each token needs every weight once, so the limit is the bandwidth: “read the weights” is a matrix-vector product with
as many numbers, once for each step. All contenders choose the most probable token. npllm's weights are in one block of
memory, as `npllm generate` has them.
"""

import tempfile

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from benchmarks.limits import FLOAT32, Work
from benchmarks.measure import Job
from benchmarks.smollm2 import READING, reading, transformers_generation
from benchmarks.steps import shape_of
from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.rope import RoPE
from npllm.generation import complete, generate
from npllm.generation.one_block import move_into_one_block
from npllm.models import DecoderConfig, GatedMLP, GPTConfig, build

SMOLLM2 = DecoderConfig(
    vocab_size=49152,
    context_length=2048,
    d_model=576,
    num_layers=30,
    attention=GQA(num_heads=9, num_kv_heads=3, rope=RoPE(theta=1e5)),
    feed_forward=GatedMLP(d_hidden=1536),
)
SAME = 16  # first ids that must agree: with random weights two logits may be so close that rounding decides


def jobs(config=None, decoder_config=SMOLLM2, prompt_length=64, new_tokens=128, batches=(2, 4, 8)):
    """Both models, one prompt and several; other configurations can be given."""
    yield from _generation("GPT generation", config or GPTConfig.gpt2("124M"), prompt_length, new_tokens, batches)
    yield from _generation("decoder generation", decoder_config, prompt_length, new_tokens, batches)


def _generation(name, config, prompt_length, new_tokens, batches):
    rng = np.random.default_rng(0)
    model = build(config, rng=rng)
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    move_into_one_block(model)
    prompt = rng.integers(0, config.vocab_size, prompt_length).tolist()
    num_parameters = model.num_parameters()
    size = f"{shape_of(config)}, {num_parameters:,} parameters, {prompt_length} ids + {new_tokens}"
    work = Work(traffic=float(FLOAT32 * num_parameters * new_tokens))
    yield Job(
        name,
        size,
        lambda: complete(model, prompt, new_tokens, temperature=0),
        {
            "transformers": transformers_generation(theirs, prompt, new_tokens),
            READING: reading(num_parameters, new_tokens),
        },
        agree=_agree,
        tokens=new_tokens,
        work=work,
    )
    for batch in batches:
        prompts = [prompt] * batch
        yield Job(
            f"{name}, batch",
            f"{batch} prompts, {size}",
            lambda prompts=prompts: list(generate(model, prompts, new_tokens, temperature=0)),
            {READING: reading(num_parameters, new_tokens)},
            agree=_agree,
            tokens=batch * new_tokens,
            work=work,
        )


def _agree(result, ours):
    if not isinstance(result, tuple):
        assert result[:SAME] == ours[:SAME], f"the first {SAME} ids differ"
