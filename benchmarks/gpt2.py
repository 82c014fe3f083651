"""The forward pass of GPT-2 124M with random weights, beside the PyTorch reference and transformers' GPT2LMHeadModel.

All contenders have equal weights. The training step is in training_steps.py, generation in decoding.py.
"""

import tempfile

import numpy as np
import torch
from transformers import GPT2LMHeadModel
from transformers.utils import logging

import torch_ref.models
from benchmarks.limits import Work
from benchmarks.measure import Job
from benchmarks.steps import products_of_forward, shape_of
from npllm.models import GPT, GPTConfig


def jobs(config=None, forward_length=512):
    """The forward pass; the 124M shape unless another `config` is given."""
    config = config or GPTConfig.gpt2("124M")
    rng = np.random.default_rng(0)
    model, reference, theirs = _contenders(config, rng)
    ids = rng.integers(0, config.vocab_size, (1, forward_length))
    ids_t = torch.from_numpy(ids)
    yield Job(
        "GPT forward",
        f"{shape_of(config)}, 1 × {forward_length}",
        lambda: model(ids),
        {"PyTorch": lambda: _inference(reference, ids_t), "transformers": lambda: _inference(theirs, ids_t).logits},
        work=Work(products_of_forward(config, 1, forward_length)),
    )


def _contenders(config, rng):
    """npllm's model, the PyTorch reference and transformers' model, with the same weights."""
    model = GPT(config, rng=rng)
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return model, torch_ref.models.GPT.from_pretrained(folder), GPT2LMHeadModel.from_pretrained(folder).eval()


def _inference(module, ids):
    with torch.inference_mode():
        return module(ids)
