"""Parameters, and the modules that own them.

A module is a function with trainable weights:

    y        = m(x)                   the value: m.forward(x)[0]
    y, cache = m.forward(x)           the value, and the cache for the backward
    dx       = m.backward(dy, cache)  the gradient of the input; the parameters' gradients are *added* to their `grad`

A call stores nothing on the module, so a module may be used many times before its first backward. A constructor
allocates the arrays; `init_weights(rng)` draws their initial values.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from npllm.core.ieee_arithmetic import ieee_arithmetic
from npllm.core.state import copy_into


class Parameter:
    """A trainable array: `data`, and `grad`, the sum of the gradients since the last `zero_grad` (None at first)."""

    __slots__ = ("data", "grad")

    def __init__(self, data: np.ndarray) -> None:
        if not np.issubdtype(data.dtype, np.floating):
            raise TypeError(f"dtype is {data.dtype}; a parameter must be floating point")
        self.data = data
        self.grad: np.ndarray | None = None

    @ieee_arithmetic
    def add_grad(self, gradient: np.ndarray) -> None:
        """Add to `grad`. The first gradient is kept without a copy: backward functions return new arrays."""
        if gradient.shape != self.data.shape:
            raise ValueError(f"the gradient has shape {gradient.shape}; it must be the parameter's {self.data.shape}")
        if self.grad is None:
            self.grad = gradient
        else:
            self.grad += gradient

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of `data`."""
        return self.data.shape

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.data.size

    def __repr__(self) -> str:
        return f"Parameter({' × '.join(map(str, self.shape))}, {self.data.dtype})"


class Module:
    """The base class of layers and models. Parameters, modules and lists of modules are found by attribute name."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; raise TypeError where a parameter would be replaced by another object, such as an array."""
        if isinstance(vars(self).get(name), Parameter) and not (value is None or isinstance(value, Parameter)):
            raise TypeError(
                f"{name} is a parameter and the new value {type(value).__name__}; it must be a Parameter or None "
                f"(to set its numbers: {name}.data[...] = values)"
            )
        super().__setattr__(name, value)

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """The value, without the cache."""
        return self.forward(*inputs, **options)[0]

    def forward(self, *inputs: Any, **options: Any) -> tuple[Any, Any]:
        """The value, and the cache that `backward` needs. Dropout is active only where a generator is passed."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def backward(self, dy: Any, cache: Any) -> Any:
        """Add to the gradient of every parameter; return the gradient of each floating-point input."""
        raise NotImplementedError(f"{type(self).__name__} must define backward")

    def init_weights(self, rng: np.random.Generator) -> None:
        """Draw the initial values of all parameters: here those of the children, in the order of the attributes."""
        for child in self.children.values():
            child.init_weights(rng)

    @property
    def params(self) -> dict[str, Parameter]:
        """The module's own parameters by name, without those of its children."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Parameter)}

    @property
    def children(self) -> "dict[str, Module]":
        """The modules directly inside this one, by name; the items of a list are `heads.0`, `heads.1`, …"""
        found: dict[str, Module] = {}
        for name, value in vars(self).items():
            if isinstance(value, Module):
                found[name] = value
            elif isinstance(value, list):
                found.update({f"{name}.{i}": item for i, item in enumerate(value) if isinstance(item, Module)})
        return found

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Yield (dotted name, Parameter) of this module and its descendants; a shared one under its first name only."""
        seen = set()
        for name, parameter in self._all_parameters(prefix):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter

    def _all_parameters(self, prefix: str) -> Iterator[tuple[str, Parameter]]:
        for name, parameter in self.params.items():
            yield prefix + name, parameter
        for name, child in self.children.items():
            yield from child._all_parameters(f"{prefix}{name}.")

    def num_parameters(self) -> int:
        """The number of trainable numbers, shared ones counted once."""
        return sum(parameter.size for _, parameter in self.named_parameters())

    def add_grads(self, **gradients: np.ndarray | None) -> None:
        """Add each gradient to this module's parameter of that name: `self.add_grads(weight=dweight, bias=dbias)`.

        None is skipped: the gradient of a parameter that this module does not have.
        """
        for name, gradient in gradients.items():
            if gradient is not None:
                getattr(self, name).add_grad(gradient)

    def zero_grad(self) -> None:
        """Set every gradient to None."""
        for _, parameter in self.named_parameters():
            parameter.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """The array of every parameter by dotted name; the arrays themselves, not copies."""
        return {name: parameter.data for name, parameter in self._all_parameters("")}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy arrays into the parameters, which keep their dtype. Strict.

        Raises KeyError that names missing and unknown arrays, ValueError for a shape that differs and TypeError for
        integers, before anything is written.
        """
        copy_into(self.state_dict(), state, type(self).__name__)

    def __repr__(self) -> str:
        """The tree of modules, with the shapes of their parameters and the total at the top."""
        lines = _describe(self)
        total = f"  # {self.num_parameters():,} parameters"
        return "\n".join([lines[0] + total, *lines[1:]])


def as_generator(rng: np.random.Generator | None) -> np.random.Generator:
    """The generator itself, or, for None, one that is seeded by the operating system. Raises TypeError for others."""
    return np.random.default_rng() if rng is None else check_generator(rng)


def check_generator(rng: np.random.Generator) -> np.random.Generator:
    """The generator itself; raise TypeError unless it is a numpy.random.Generator."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng is {rng!r}; it must be a numpy.random.Generator, such as np.random.default_rng(0)")
    return rng


def _describe(module: Module) -> list[str]:
    """The lines of a module's tree; equal neighbours in a list of modules, such as blocks, are written once."""
    own = ", ".join(f"{name} {parameter.shape}" for name, parameter in module.params.items())
    if not module.children:
        return [f"{type(module).__name__}({own})"]
    lines = [f"{type(module).__name__}({own}"]
    groups: list[tuple[list[str], list[str]]] = []  # (names, description)
    for name, child in module.children.items():
        description = _describe(child)
        if groups and groups[-1][1] == description and "." in name:
            groups[-1][0].append(name)
        else:
            groups.append(([name], description))
    for names, description in groups:
        label = names[0] if len(names) == 1 else f"{names[0]} … {names[-1].rsplit('.', 1)[-1]}"
        count = "" if len(names) == 1 else f"{len(names)} × "
        lines += [f"  ({label}): {count}{description[0]}", *(f"  {line}" for line in description[1:])]
    return [*lines, ")"]
