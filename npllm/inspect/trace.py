"""A trace of a GPT: every array on the way to the loss, and the gradient of the loss with respect to it, by name.

    ids → wte → … → h.0.attn.weights → … → loss         values, forward
    d wte ← … ← d h.0.attn.weights ← … ← 1              gradients, backward, under the same names

This is the model unrolled: its steps are run one layer at a time, by each layer's own `forward` and `backward`, and the
inputs and outputs are recorded; what is inside attention comes from the cache of its core. A test compares the loss and
the gradient of every parameter with those of the model itself.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npllm.attention.base import join_heads, split_heads
from npllm.attention.masks import causal_mask
from npllm.attention.scaled_dot_product import attention_backward, attention_forward, weights_backward
from npllm.core.broadcasting import unbroadcast
from npllm.core.checks import check_instance
from npllm.core.module import Module, as_generator
from npllm.layers.activations import gelu_backward, gelu_forward
from npllm.layers.cross_entropy import cross_entropy_backward, cross_entropy_forward
from npllm.layers.softmax import softmax_backward
from npllm.models.gpt import GPT


@dataclass(frozen=True)
class Trace:
    """Arrays by name. Where a name is in both, `gradients[name]` is ∂loss/∂`values[name]`."""

    loss: float
    values: dict[str, np.ndarray] = field(default_factory=dict)
    gradients: dict[str, np.ndarray] = field(default_factory=dict)


def trace(model: GPT, ids: np.ndarray, targets: np.ndarray, *, rng: np.random.Generator | None = None) -> Trace:
    """Run a GPT forward and backward and return the Trace.

    The output of a module has the module's name ("h.0.mlp"), its input that name and ".input"; inside attention there
    are q, k, v, scores, weights and context (..., H, T, ·); at the end logits and loss. "h.0.mlp.c_fc.weight" is a
    parameter. With `rng` dropout is active. The `grad` of the parameters is left as it was.
    """
    check_instance("model", model, GPT)
    rng = None if rng is None else as_generator(rng)
    before = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    recorder = _Recorder(model)
    try:
        loss = _forward(recorder, ids, targets, rng)
        _backward(recorder)
        for name, parameter in model.named_parameters():
            recorder.values[name], recorder.gradients[name] = parameter.data, parameter.grad
    finally:
        for name, parameter in model.named_parameters():
            parameter.grad = before[name]
    return Trace(float(loss), recorder.values, recorder.gradients)


class _Recorder:
    """Runs the children of a model by name, and records what goes in and out of each."""

    def __init__(self, model: GPT) -> None:
        self.model, self.modules = model, dict(_named_modules(model))
        self.values: dict[str, np.ndarray] = {}
        self.gradients: dict[str, np.ndarray] = {}
        self.caches: dict[str, Any] = {}

    def forward(self, name: str, x: np.ndarray, **options: Any) -> np.ndarray:
        """The output of the child of this name."""
        y, self.caches[name] = self.modules[name].forward(x, **options)
        self.values[name], self.values[f"{name}.input"] = y, x
        return y

    def backward(self, name: str, dy: np.ndarray) -> np.ndarray:
        """The gradient of the input of the child of this name; ids have none."""
        dy = unbroadcast(dy, self.values[name].shape)  # the position embeddings are the same for every sequence
        self.gradients[name] = dy
        dx = self.modules[name].backward(dy, self.caches[name])
        if dx is not None:
            self.gradients[f"{name}.input"] = dx
        return dx


def _forward(run: _Recorder, ids: np.ndarray, targets: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """The steps of GPT.backbone_forward and TransformerBlock.forward."""
    x = run.forward("wte", ids) + run.forward("wpe", np.arange(np.shape(ids)[-1]))
    x = run.forward("drop", x, rng=rng)
    for i in range(len(run.model.h)):
        block = f"h.{i}"
        run.values[f"{block}.input"] = x
        h = _attention_forward(run, f"{block}.attn", run.forward(f"{block}.ln_1", x), rng)
        x = x + run.forward(f"{block}.drop_1", h, rng=rng)
        h = _feed_forward_forward(run, f"{block}.mlp", run.forward(f"{block}.ln_2", x))
        x = x + run.forward(f"{block}.drop_2", h, rng=rng)
        run.values[block] = x
    logits = run.forward("lm_head", run.forward("ln_f", x))
    loss, run.caches["loss"] = cross_entropy_forward(logits, targets)
    run.values["logits"], run.values["loss"] = logits, np.asarray(loss)
    return loss


def _backward(run: _Recorder) -> None:
    """The same steps in reverse order; the gradient of a sum goes to both terms."""
    dlogits = cross_entropy_backward(1.0, run.caches["loss"])
    run.gradients["logits"], run.gradients["loss"] = dlogits, np.ones_like(run.values["loss"])
    dx = run.backward("ln_f", run.backward("lm_head", dlogits))
    for i in reversed(range(len(run.model.h))):
        block = f"h.{i}"
        run.gradients[block] = dx
        dh = _feed_forward_backward(run, f"{block}.mlp", run.backward(f"{block}.drop_2", dx))
        dx = dx + run.backward(f"{block}.ln_2", dh)
        dh = _attention_backward(run, f"{block}.attn", run.backward(f"{block}.drop_1", dx))
        dx = dx + run.backward(f"{block}.ln_1", dh)
        run.gradients[f"{block}.input"] = dx
    dx = run.backward("drop", dx)
    run.backward("wpe", dx)
    run.backward("wte", dx)


def _feed_forward_forward(run: _Recorder, name: str, x: np.ndarray) -> np.ndarray:
    hidden = run.forward(f"{name}.c_fc", x)
    active, run.caches[f"{name}.gelu"] = gelu_forward(hidden, approximate="tanh")
    run.values[f"{name}.input"] = x
    run.values[name] = run.forward(f"{name}.c_proj", active)
    return run.values[name]


def _feed_forward_backward(run: _Recorder, name: str, dy: np.ndarray) -> np.ndarray:
    run.gradients[name] = dy
    dhidden = gelu_backward(run.backward(f"{name}.c_proj", dy), run.caches[f"{name}.gelu"])
    run.gradients[f"{name}.input"] = run.backward(f"{name}.c_fc", dhidden)
    return run.gradients[f"{name}.input"]


def _attention_forward(run: _Recorder, name: str, x: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    layer, length = run.modules[name], x.shape[-2]
    parts = np.split(run.forward(f"{name}.c_attn", x), 3, axis=-1)
    q, k, v = (split_heads(part, layer.num_heads) for part in parts)
    dropout_mask = layer.dropout.draw_dropout_mask((*q.shape[:-1], length), rng, q.dtype)
    context, core = attention_forward(q, k, v, causal_mask(length, length), dropout_mask=dropout_mask)
    scores = q @ k.mT * core.scale  # not in the cache, since the backward does not need them
    inside = {"q": q, "k": k, "v": v, "scores": scores, "weights": core.weights, "context": context}
    run.values |= {f"{name}.{part}": value for part, value in inside.items()}
    run.values[f"{name}.input"], run.caches[name] = x, core
    run.values[name] = run.forward(f"{name}.c_proj", join_heads(context))
    return run.values[name]


def _attention_backward(run: _Recorder, name: str, dy: np.ndarray) -> np.ndarray:
    layer, core = run.modules[name], run.caches[name]
    run.gradients[name] = dy
    dcontext = split_heads(run.backward(f"{name}.c_proj", dy), layer.num_heads)
    dweights = weights_backward(dcontext, core)
    dq, dk, dv = attention_backward(dcontext, core)
    dscores = softmax_backward(dweights, core.softmax)
    inside = {"q": dq, "k": dk, "v": dv, "scores": dscores, "weights": dweights, "context": dcontext}
    run.gradients |= {f"{name}.{part}": gradient for part, gradient in inside.items()}
    dqkv = np.concatenate([join_heads(gradient) for gradient in (dq, dk, dv)], axis=-1)
    run.gradients[f"{name}.input"] = run.backward(f"{name}.c_attn", dqkv)
    return run.gradients[f"{name}.input"]


def _named_modules(module: Module, prefix: str = ""):
    """Every module below this one, by dotted name."""
    for name, child in module.children.items():
        yield prefix + name, child
        yield from _named_modules(child, f"{prefix}{name}.")
