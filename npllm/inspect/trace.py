"""A trace: every array that a model computes on the way to its loss, and its gradient on the way back, by name.

    ids → wte → … → h.0.attn.weights → … → loss         values, forward
    d wte ← … ← d h.0.attn.weights ← … ← 1              gradients, backward, under the same names

For people who want to look inside: nothing is left out to save memory, and nothing is computed that training does not
compute, but for the scores, which training forgets.
"""

from dataclasses import dataclass, field

import numpy as np

from npllm.attention.multi_head import split_heads
from npllm.attention.scaled_dot_product import unbroadcast, weights_backward
from npllm.core.module import Module
from npllm.layers.softmax import softmax_backward


@dataclass(frozen=True)
class Trace:
    """Arrays by name. Where a name is in both, `gradients[name]` is d loss / d `values[name]`."""

    loss: float
    values: dict[str, np.ndarray] = field(default_factory=dict)
    gradients: dict[str, np.ndarray] = field(default_factory=dict)


def trace(model, ids, targets, rng=None):
    """Run a GPT forward and backward and return the Trace.

    A module's output has the module's name ("h.0.mlp"), its input that name and ".input"; inside attention there are
    q, k, v, scores, weights and context (..., H, T, ·); at the end logits and loss; "h.0.mlp.c_fc.weight" is a
    parameter. The parameters' `grad` is as it was before.
    """
    modules = dict(_named_modules(model))
    before = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    values, gradients = {}, {}
    for name, module in modules.items():
        _record(name, module, values, gradients)
    try:
        loss, cache = model.loss_forward(ids, targets, rng)
        model.loss_backward(1.0, cache)
    finally:
        for module in modules.values():
            del module.forward, module.backward
        found = {name: parameter.grad for name, parameter in model.named_parameters()}
        for name, parameter in model.named_parameters():
            parameter.grad = before[name]
    for name, parameter in model.named_parameters():
        values[name], gradients[name] = parameter.data, found[name]
    for index, block in enumerate(cache.model.h):
        _look_into_attention(f"h.{index}.attn", block.attn.attention, model.h[index].attn.num_heads, values, gradients)
    values["logits"], gradients["logits"] = values["lm_head"], gradients["lm_head"]
    return Trace(float(loss), values, gradients)


def _named_modules(module, prefix=""):
    """Every module below this one, by dotted name."""
    for name, child in module.children.items():
        yield prefix + name, child
        yield from _named_modules(child, f"{prefix}{name}.")


def _record(name, module: Module, values, gradients):
    """Let a module note down what goes in and out of it, on the way forward and on the way back."""
    forward, backward = module.forward, module.backward

    def noting_forward(*inputs, **options):
        y, cache = forward(*inputs, **options)
        values[name] = y
        if isinstance(inputs[0], np.ndarray):
            values[f"{name}.input"] = inputs[0]
        return y, cache

    def noting_backward(dy, cache):
        dx = backward(dy, cache)
        gradients[name] = unbroadcast(dy, values[name].shape)  # positions are the same for every sequence
        if dx is not None:
            gradients[f"{name}.input"] = dx
        return dx

    module.forward, module.backward = noting_forward, noting_backward


def _look_into_attention(name, core, num_heads, values, gradients):
    """What lies between q, k, v and the context; the same lines as in the core's forward and backward."""
    dcontext = split_heads(gradients[f"{name}.c_proj.input"], num_heads)
    dweights = weights_backward(dcontext, core)
    dq, dk, dv = (split_heads(d, num_heads) for d in np.split(gradients[f"{name}.c_attn"], 3, axis=-1))
    context = split_heads(values[f"{name}.c_proj.input"], num_heads)
    inside = {
        "q": (core.q, dq),
        "k": (core.k, dk),
        "v": (core.v, dv),
        "scores": (core.q @ core.k.mT * core.scale, softmax_backward(dweights, core.softmax)),
        "weights": (core.weights, dweights),
        "context": (context, dcontext),
    }
    for part, (value, gradient) in inside.items():
        values[f"{name}.{part}"], gradients[f"{name}.{part}"] = value, gradient
