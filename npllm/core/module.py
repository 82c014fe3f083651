"""Parameters, and the modules that own them.

A module is a function with weights: calling it gives the value alone; `forward` gives the value and a cache;
`backward` takes the gradient of the value and that cache, *adds* to the `grad` of every parameter, and returns the
gradient of the input. Nothing of one call is stored on the module, so it may be used many times before a backward.
"""

import numpy as np


class Parameter:
    """An array that learns: `data`, and `grad`, the gradients added up since the last `zero_grad` (None at first)."""

    __slots__ = ("data", "grad")

    def __init__(self, data):
        if not np.issubdtype(data.dtype, np.floating):
            raise TypeError(f"dtype is {data.dtype}; a parameter must be floating point")
        self.data = data
        self.grad = None

    def add_grad(self, gradient):
        """Add to the gradient. The first one is kept as it is: backward functions return fresh arrays."""
        if gradient.shape != self.data.shape:
            raise ValueError(f"the gradient has shape {gradient.shape}; it must be the parameter's {self.data.shape}")
        if self.grad is None:
            self.grad = gradient
        else:
            self.grad += gradient

    @property
    def shape(self):
        """The shape of the data."""
        return self.data.shape

    @property
    def size(self):
        """How many numbers it holds."""
        return self.data.size

    def __repr__(self):
        return f"Parameter({' × '.join(map(str, self.shape))}, {self.data.dtype})"


class Module:
    """What every layer and model shares. Parameters, modules and lists of modules are found by attribute name."""

    @property
    def params(self):
        """This module's own parameters by name, without those of its children."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Parameter)}

    @property
    def children(self):
        """The modules right inside this one by name; those of a list are called `heads.0`, `heads.1`, …"""
        found = {}
        for name, value in vars(self).items():
            if isinstance(value, Module):
                found[name] = value
            elif isinstance(value, list):
                found.update({f"{name}.{i}": item for i, item in enumerate(value) if isinstance(item, Module)})
        return found

    def named_parameters(self, prefix=""):
        """Yield (dotted name, Parameter) for this module and all below; a shared parameter under its first name."""
        seen = set()
        for name, parameter in self._all_parameters(prefix):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter

    def _all_parameters(self, prefix):
        for name, parameter in self.params.items():
            yield prefix + name, parameter
        for name, child in self.children.items():
            yield from child._all_parameters(f"{prefix}{name}.")

    def num_parameters(self):
        """How many numbers the module learns, shared ones counted once."""
        return sum(parameter.size for _, parameter in self.named_parameters())

    def state_dict(self):
        """Every parameter's array by dotted name; the arrays themselves, not copies."""
        return {name: parameter.data for name, parameter in self._all_parameters("")}

    def load_state_dict(self, state):
        """Copy arrays into the parameters; they keep their dtype.

        Strict: raises KeyError naming what is missing or unknown, ValueError naming a shape that differs, both
        before anything is written.
        """
        own = dict(self._all_parameters(""))
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unknown:
            raise KeyError(f"state does not fit {type(self).__name__}: missing {missing}, unknown {unknown}")
        for name, parameter in own.items():
            if np.shape(state[name]) != parameter.shape:
                raise ValueError(f"{name} has shape {np.shape(state[name])}; it must be {parameter.shape}")
            if not np.issubdtype(np.asarray(state[name]).dtype, np.floating):
                raise TypeError(f"{name} has dtype {np.asarray(state[name]).dtype}; it must be floating point")
        for name, parameter in own.items():
            parameter.data[...] = state[name]

    def zero_grad(self):
        """Forget all gradients."""
        for _, parameter in self.named_parameters():
            parameter.grad = None

    def __call__(self, *inputs):
        """The value alone: what inference runs. Dropout is active only where a generator is passed."""
        return self.forward(*inputs)[0]

    def forward(self, *inputs):
        """The value, and in the cache what `backward` will need."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def backward(self, dy, cache):
        """Add to every parameter's gradient and return the gradient of the inputs."""
        raise NotImplementedError(f"{type(self).__name__} must define backward")


def as_generator(rng):
    """The caller's numpy.random.Generator, or, if rng is None, one seeded by the operating system."""
    if rng is None:
        return np.random.default_rng()
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng is {rng!r}; it must be a numpy.random.Generator, such as np.random.default_rng(0)")
    return rng


class Blank(np.random.Generator):
    """A generator that draws zeros, for a model whose weights are about to be loaded: nothing is drawn in vain."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def standard_normal(self, size=None, dtype=np.float32):
        """Zeros."""
        return np.zeros(size, dtype)

    def uniform(self, low=0.0, high=1.0, size=None):
        """Zeros."""
        return np.zeros(size, np.float32)
