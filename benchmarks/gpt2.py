"""GPT-2 124M with random weights, beside the PyTorch reference and transformers' GPT2LMHeadModel.

Forward, a training step (forward, backward, clipping, AdamW), and greedy generation with a key-value cache. The
reference has no cache, so it is not timed in generation. All contenders have equal weights at the start.
"""

import tempfile

import numpy as np
import torch
from transformers import GPT2LMHeadModel
from transformers.utils import logging

import torch_ref.models
from benchmarks.measure import Job
from npllm.generation import complete
from npllm.models import GPT, GPTConfig
from npllm.training import AdamW, decays_weight, training_step

RATE, DECAY, LIMIT = 1e-4, 0.1, 1.0


def jobs(config=None, forward_length=512, step_shape=(2, 256), prompt_length=64, new_tokens=32):
    """The three jobs; the 124M shape unless another `config` is given."""
    config = config or GPTConfig.gpt2("124M")
    rng = np.random.default_rng(0)
    model, reference, theirs = _contenders(config, rng)

    ids = rng.integers(0, config.vocab_size, (1, forward_length))
    ids_t = torch.from_numpy(ids)
    yield Job(
        "GPT forward",
        f"{_shape(config)}, 1 × {forward_length}",
        lambda: model(ids),
        {"PyTorch": lambda: _inference(reference, ids_t), "transformers": lambda: _inference(theirs, ids_t).logits},
    )
    prompt = ids[0, :prompt_length].tolist()
    prompt_t = torch.tensor([prompt])

    def transformers_generates():
        with torch.inference_mode():
            whole = theirs.generate(
                prompt_t, max_new_tokens=new_tokens, do_sample=False, pad_token_id=0, eos_token_id=None
            )
        return whole[0, prompt_length:].tolist()

    yield Job(
        "GPT generation",
        f"{_shape(config)}, {prompt_length} ids + {new_tokens}",
        lambda: complete(model, prompt, new_tokens, temperature=0),
        {"transformers": transformers_generates},
    )
    inputs, targets = (rng.integers(0, config.vocab_size, step_shape) for _ in range(2))
    yield Job(
        "GPT training step",
        f"{_shape(config)}, {step_shape[0]} × {step_shape[1]}",
        optimizer_step(model, inputs, targets),
        {
            "PyTorch": torch_optimizer_step(reference, reference, inputs, targets),
            "transformers": torch_optimizer_step(theirs, lambda x: theirs(x).logits, inputs, targets),
        },
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


def optimizer_step(model, inputs, targets):
    """A training step of npllm, as a contender: returns loss and gradient norm."""
    optimizer = AdamW(model.named_parameters(), RATE, weight_decay=DECAY, weight_decay_filter=decays_weight)

    def run():
        return np.array(training_step(model, optimizer, inputs, targets, max_grad_norm=LIMIT), np.float32)

    return run


def torch_optimizer_step(module, logits_of, inputs, targets):
    """The same of PyTorch."""
    inputs, targets = torch.from_numpy(inputs), torch.from_numpy(targets)
    groups = [
        {"params": [p for p in module.parameters() if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in module.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE)

    def run():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits_of(inputs).flatten(0, -2), targets.flatten())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), LIMIT)
        optimizer.step()
        return np.array([loss.item(), norm.item()], np.float32)

    return run


def _shape(config):
    return f"{config.num_layers} layers of {config.d_model}"
