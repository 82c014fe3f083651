"""Growth of a training step with the batch and with the size of the model. Growth over T is in causal_attention.py."""

from dataclasses import asdict, replace

from benchmarks.measure import Job
from benchmarks.steps import example, optimizer_step, reference_of, shape_of, torch_optimizer_step
from benchmarks.training_steps import SMALL

BATCHES = (1, 2, 4, 8, 16, 32, 64)
WIDTHS = (32, 64, 128, 256, 512)
LENGTH = 64


def jobs(batches=BATCHES, widths=WIDTHS, length=LENGTH):
    """The small model of training_steps.py with growing batches; then with growing d_model, 8 sequences each."""
    for batch_size in batches:
        yield _step(SMALL, batch_size, length, ("training step over the batch", "B", batch_size))
    for width in widths:
        config = replace(SMALL, d_model=width, num_heads=width // 32)
        parameters = 12 * config.num_layers * width * width  # the matrices of the blocks
        yield _step(config, 8, length, ("training step over the model's size", "parameters", parameters))


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
