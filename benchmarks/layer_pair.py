"""The jobs of a layer: forward, and forward with backward, against its PyTorch reference with the same weights."""

import numpy as np
import torch

from benchmarks.measure import Job
from tests.equivalence.layers import build
from tests.equivalence.lookup import torch_reference


def layer_jobs(layer_class, config, x, loops=None, fused=None, title=None, memory=None):
    """Yield the jobs.

    loops(x, state)  the same forward on lists, with the layer's state_dict as lists
    fused            a torch module class that uses PyTorch's fused attention, besides the reference
    title            the name of the layer in the report; its class unless given
    memory           {contender: how to measure the peak memory of its call}, for forward + backward
    """
    name = layer_class.__name__
    rng = np.random.default_rng(0)
    layer = build(layer_class, config, rng, np.dtype(np.float32))
    state = {key: torch.from_numpy(array) for key, array in layer.state_dict().items()}
    modules = {"PyTorch": torch_reference(name)(**config)}
    if fused is not None:
        modules["PyTorch fused"] = fused(**config)
    for module in modules.values():
        module.load_state_dict(state)
    dy = rng.standard_normal(layer(x).shape, dtype=np.float32)
    x_list, state_lists = x.tolist(), {key: array.tolist() for key, array in layer.state_dict().items()}
    title = title or name
    size = f"{' × '.join(map(str, x.shape))}" + (f", {config['num_heads']} heads" if "num_heads" in config else "")
    yield Job(
        f"{title} forward",
        size,
        lambda: layer(x),
        {who: _forward(module, x) for who, module in modules.items()},
        None if loops is None else lambda: loops(x_list, state_lists),
    )
    yield Job(
        f"{title} forward + backward",
        size,
        lambda: forward_and_backward(layer, x, dy),
        {who: _forward_and_backward(module, x, dy) for who, module in modules.items()},
        memory=memory or {},
    )


def forward_and_backward(layer, x, dy):
    """Forward and backward: the output, the gradient of x, and those of the parameters in order."""
    layer.zero_grad()
    y, cache = layer.forward(x)
    dx = layer.backward(dy, cache)
    return (y, dx, *(parameter.grad for _, parameter in sorted(layer.named_parameters())))


def _forward(module, x):
    x = torch.from_numpy(x)

    def run():
        with torch.inference_mode():
            return module(x).numpy()

    return run


def _forward_and_backward(module, x, dy):
    x, dy = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)
    parameters = [parameter for _, parameter in sorted(module.named_parameters())]

    def run():
        y = module(x)
        return (y.detach().numpy(), *(g.numpy() for g in torch.autograd.grad(y, [x, *parameters], dy)))

    return run
