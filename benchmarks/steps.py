"""The training step of a GPT as a contender: forward, backward, clipping, AdamW; and the matrix products that it has.

The import of PyTorch stands in the functions that need it, so that a process that measures npllm's memory has none.
"""

import tempfile

import numpy as np

from benchmarks.limits import as_squares, with_backward
from npllm.models import GPT, GPTConfig
from npllm.training import AdamW, decays_weight, training_step

RATE, DECAY, LIMIT = 1e-9, 0.1, 1.0  # the rate is so small that every step starts from the same weights


def optimizer_step(model, inputs, targets):
    """A training step of npllm: returns loss and gradient norm."""
    optimizer = AdamW(model.named_parameters(), RATE, weight_decay=DECAY, weight_decay_filter=decays_weight)

    def run():
        return np.array(training_step(model, optimizer, inputs, targets, max_grad_norm=LIMIT), np.float32)

    return run


def torch_optimizer_step(module, logits_of, inputs, targets, optimizer=None):
    """The same of PyTorch; forms of one module can share an optimizer."""
    import torch

    inputs, targets = torch.from_numpy(inputs), torch.from_numpy(targets)
    optimizer = optimizer or torch_optimizer(module)

    def run():
        loss = torch.nn.functional.cross_entropy(logits_of(inputs).flatten(0, -2), targets.flatten())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), LIMIT)
        optimizer.step()
        optimizer.zero_grad()
        return np.array([loss.item(), norm.item()], np.float32)

    return run


def torch_optimizer(module):
    """AdamW with weight decay for matrices and embeddings alone."""
    import torch

    groups = [
        {"params": [p for p in module.parameters() if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in module.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=RATE)


def example(fields, batch_size, length):
    """A GPT with random weights, and a batch of inputs and targets: the same ones for the same arguments."""
    config, rng = GPTConfig(**fields), np.random.default_rng(0)
    inputs, targets = rng.integers(0, config.vocab_size, (2, batch_size, length))
    return GPT(config, rng=rng), inputs, targets


def reference_of(model):
    """The PyTorch reference with the model's weights."""
    import torch_ref.models

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return torch_ref.models.GPT.from_pretrained(folder)


def transformers_model(model):
    """transformers' GPT2LMHeadModel with the model's weights."""
    from transformers import GPT2LMHeadModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return GPT2LMHeadModel.from_pretrained(folder).eval()


def products_of_forward(config, batch_size, length):
    """The matrix products of a forward pass, at their shapes; those of attention at the best rate, causal halves."""
    rows, C, hidden = batch_size * length, config.d_model, config.d_hidden or 4 * config.d_model
    shapes = ((C, 3 * C), (C, C), (C, hidden), (hidden, C))
    layers = tuple((float(config.num_layers), rows, k, n) for k, n in shapes)
    attention = 2 * (2 * batch_size * length * length * C) / 2  # scores and context, of which the mask leaves a half
    return (*layers, (1.0, rows, C, config.vocab_size), *as_squares(config.num_layers * attention))


def products_of_step(config, batch_size, length):
    """Those of forward and backward."""
    return with_backward(products_of_forward(config, batch_size, length))


def shape_of(config):
    """The size of a model for the report."""
    return f"{config.num_layers} layers of {config.d_model}"
