"""Growth of a training step with the batch and with the size of the model, and of linear attention with the length.

Growth of softmax attention over T is in causal_attention.py.
"""

from dataclasses import asdict, replace

import numpy as np

from benchmarks.layer_pair import forward_and_backward
from benchmarks.measure import OURS, Job
from benchmarks.memory import peak_of_numpy
from benchmarks.steps import example, optimizer_step, reference_of, shape_of, torch_optimizer_step
from benchmarks.training_steps import SMALL
from npllm.attention import Delta, LinearAttn
from npllm.attention.paths import attention_path

BATCHES = (1, 2, 4, 8, 16, 32, 64)
WIDTHS = (32, 64, 128, 256, 512)
LENGTH = 64
LENGTHS = (256, 512, 1024, 2048, 4096)
LONGEST_PLAIN = 1024
D_MODEL, NUM_HEADS = 768, 12


def jobs(batches=BATCHES, widths=WIDTHS, length=LENGTH, lengths=LENGTHS):
    """The small model of training_steps.py with growing batches; then with growing d_model, 8 sequences each.

    Then linear attention and DeltaNet over growing lengths, in chunks and in the plain form.
    """
    for batch_size in batches:
        yield _step(SMALL, batch_size, length, ("training step over the batch", "B", batch_size))
    for width in widths:
        config = replace(SMALL, d_model=width, num_heads=width // 32)
        parameters = 12 * config.num_layers * width * width  # the matrices of the blocks
        yield _step(config, 8, length, ("training step over the model's size", "parameters", parameters))
    for name, config in (("linear attention", LinearAttn(NUM_HEADS)), ("DeltaNet", Delta(NUM_HEADS))):
        for size in lengths:
            yield _layer(name, config, size)


def _layer(name, config, length):
    rng = np.random.default_rng(0)
    layer = config.build(D_MODEL, length, rng=rng)
    x, dy = rng.standard_normal((2, 1, length, D_MODEL), dtype=np.float32)

    def plain():
        with attention_path("plain"):
            return forward_and_backward(layer, x, dy)

    return Job(
        f"{name} forward + backward",
        f"1 × {length} × {D_MODEL}, {NUM_HEADS} heads",
        lambda: forward_and_backward(layer, x, dy),
        {"npllm plain": plain} if length <= LONGEST_PLAIN else {},
        memory={OURS: peak_of_numpy, "npllm plain": peak_of_numpy}
        if length <= LONGEST_PLAIN
        else {OURS: peak_of_numpy},
        growth=(f"{name} over the length", "T", length),
    )


def _step(config, batch_size, length, growth):
    model, inputs, targets = example(asdict(config), batch_size, length)
    module = reference_of(model)
    return Job(
        growth[0],
        f"{shape_of(config)}, {batch_size} × {length}",
        optimizer_step(model, inputs, targets),
        {"PyTorch": torch_optimizer_step(module, module, inputs, targets)},
        tokens=inputs.size,
        growth=growth,
    )
