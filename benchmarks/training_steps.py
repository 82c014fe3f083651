"""A training step (forward, backward, clipping, AdamW) of GPT-2 124M and of a small GPT, and its peak memory.

PyTorch in all forms that can run here: eager, compiled, with bfloat16, with MKL's fast path. All contenders have equal
weights; the learning rate is so small that the weights stay equal.
"""

from dataclasses import asdict

import torch

from benchmarks.limits import Work
from benchmarks.measure import OURS, Job, Rough
from benchmarks.peak_memory import peak_of_step
from benchmarks.steps import (
    example,
    optimizer_step,
    products_of_step,
    reference_of,
    shape_of,
    torch_optimizer,
    torch_optimizer_step,
    transformers_model,
)
from benchmarks.torch_variants import BF16, COMPILED, EAGER, close_workers, variants
from npllm.models import GPTConfig

SMALL = GPTConfig(vocab_size=65, context_length=64, d_model=128, num_layers=4, num_heads=4)


def jobs(config=None, batch=(2, 256), small=SMALL, small_batch=(12, 64), quick=False):
    """The small model, then GPT-2 124M unless another `config` is given."""
    yield from _step(small, small_batch, quick, transformers=False)
    yield from _step(config or GPTConfig.gpt2("124M"), batch, quick, transformers=True)


def torch_step(fields, batch_size, length, compiled=False):
    """PyTorch's step, as a contender of a Worker."""
    model, inputs, targets = example(fields, batch_size, length)
    module = reference_of(model)
    return torch_optimizer_step(module, torch.compile(module) if compiled else module, inputs, targets)


def _step(config, batch, quick, transformers):
    fields = asdict(config)
    model, inputs, targets = example(fields, *batch)
    arguments = {"fields": fields, "batch_size": batch[0], "length": batch[1]}
    contenders, skipped = variants(
        torch_forms(reference_of(model), inputs, targets), ("benchmarks.training_steps:torch_step", arguments), quick
    )
    if transformers:
        theirs = transformers_model(model)
        contenders["transformers"] = torch_optimizer_step(theirs, lambda x: theirs(x).logits, inputs, targets)
    measured = [OURS, EAGER] if quick else [OURS, *(name for name in contenders if "MKL" not in name)]
    yield Job(
        "GPT training step",
        f"{shape_of(config)}, {batch[0]} × {batch[1]}",
        optimizer_step(model, inputs, targets),
        contenders,
        memory={name: lambda run, name=name: peak_of_step(name, arguments) for name in measured},
        skipped=skipped,
        work=Work(products_of_step(config, *batch)),
        tokens=inputs.size,
    )
    close_workers(contenders)


def torch_forms(module, inputs, targets):
    """By name, functions that return PyTorch's step in one form; all have one module and one optimizer."""
    optimizer = torch_optimizer(module)

    def step(logits_of):
        return torch_optimizer_step(module, logits_of, inputs, targets, optimizer)

    def in_bf16(x):
        with torch.autocast("cpu", torch.bfloat16):
            logits = module(x)
        return logits.float()

    def bf16_step():
        run = step(in_bf16)
        return lambda: Rough(run())

    return {EAGER: lambda: step(module), COMPILED: lambda: step(torch.compile(module)), BF16: bf16_step}
