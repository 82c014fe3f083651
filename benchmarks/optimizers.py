"""What follows the backward of a training step: clipping the gradients and AdamW, over all parameters of GPT-2 124M."""

import numpy as np
import torch

from benchmarks.limits import FLOAT32, Work
from benchmarks.measure import Job
from npllm.models import GPT, GPTConfig
from npllm.training import AdamW, clip_grad_norm

SETTINGS = {"lr": 1e-4, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
LIMIT = 1.0
SAMPLE = 1000  # numbers of each parameter that are compared


def jobs(config=None):
    """AdamW and clipping; 124M parameters unless another `config` is given."""
    model = GPT(config or GPTConfig.gpt2("124M"))
    rng = np.random.default_rng(0)
    parameters = dict(model.named_parameters())
    for parameter in parameters.values():
        parameter.grad = rng.standard_normal(parameter.shape, dtype=np.float32)
    total = sum(parameter.size for parameter in parameters.values())
    size = f"{total:,} parameters"
    yield _adamw(parameters, size, total)
    yield _clipping(parameters, size, total)


def _adamw(parameters, size, total):
    ours = AdamW(parameters, SETTINGS["lr"], SETTINGS["betas"], SETTINGS["eps"], SETTINGS["weight_decay"])

    def run():
        ours.step()
        return tuple(parameter.data.ravel()[:SAMPLE].copy() for parameter in parameters.values())

    contenders = {"PyTorch": _torch_adamw(parameters), "PyTorch fused": _torch_adamw(parameters, fused=True)}
    traffic = 7 * total * FLOAT32  # reads weight, gradient and both averages; writes all but the gradient
    return Job("AdamW step", size, run, contenders, work=Work(traffic=traffic))


def _torch_adamw(parameters, **options):
    tensors = [torch.nn.Parameter(torch.tensor(parameter.data)) for parameter in parameters.values()]
    for tensor, parameter in zip(tensors, parameters.values()):
        tensor.grad = torch.from_numpy(parameter.grad)
    optimizer = torch.optim.AdamW(tensors, **SETTINGS, **options)

    def run():
        optimizer.step()
        return tuple(tensor.detach().flatten()[:SAMPLE].numpy().copy() for tensor in tensors)

    return run


def _clipping(parameters, size, total):
    tensors = [torch.nn.Parameter(torch.from_numpy(parameter.data)) for parameter in parameters.values()]
    for tensor, parameter in zip(tensors, parameters.values()):
        tensor.grad = torch.from_numpy(parameter.grad).clone()

    def enlarge():
        """Undo the clipping: then the norm is above the limit in every run."""
        for tensor, parameter in zip(tensors, parameters.values()):
            tensor.grad *= 2.0
            parameter.grad *= 2.0

    def run():
        return np.array(clip_grad_norm(parameters.items(), LIMIT))

    def run_torch():
        return torch.nn.utils.clip_grad_norm_(tensors, LIMIT).numpy()

    return Job(
        "gradient clipping",
        size,
        run,
        {"PyTorch": run_torch},
        before=enlarge,
        agree=lambda result, ours: None,  # the norms of successive runs differ: tests compare the functions
        work=Work(traffic=3 * total * FLOAT32),  # reads every gradient for the norm, then scales it
    )
