"""A call of a function or layer, of its backward, and of its PyTorch reference, with any arguments.

Both classes have `name`, `dtype`, `arguments` (name → value), `floats` (names of the floating-point arrays), `run`
and `references`. Results are dicts: "output", "gradient of x", …
"""

import inspect

import numpy as np
import torch

from tests.equivalence.difference import as_tuple
from tests.equivalence.docstring_shapes import stated_shapes
from tests.equivalence.functions import CONSTANTS
from tests.equivalence.inputs import cotangent, is_float
from tests.equivalence.layers import LAYER_SLACK, build
from tests.equivalence.lookup import implementation, torch_reference


class Call:
    """What a call of a function and one of a layer have in common. `dy` is the cotangent, an argument as well."""

    def __init__(self, name, arguments, dtype):
        self.name, self.dtype, self.arguments = name, np.dtype(dtype), dict(arguments)
        y = self._forward(self.arguments)[0]
        for index, dy in enumerate(as_tuple(cotangent(y, self.dtype, np.random.default_rng(1)))):
            self.arguments[f"dy {index}"] = dy
        self.arrays = {key: item for key, item in self.arguments.items() if isinstance(item, np.ndarray)}
        self.floats = [key for key, item in self.arrays.items() if is_float(item)]

    @property
    def warns_never(self):
        """Whether NumPy's warnings of overflows and invalid operations are suppressed: in npllm/layers."""
        return implementation(self.name).__module__.startswith("npllm.layers.")

    def floats_of(self, arguments):
        """The floating-point arguments."""
        return [arguments[key] for key in self.floats]

    def run(self, arguments, *, own_memory=True):
        """The results; raises AssertionError if one is not a plain array of its own."""
        y, cache = self._forward(arguments)
        dy = tuple(item for key, item in arguments.items() if key.startswith("dy "))
        results = _named("output", y) | self._backward(dy if isinstance(y, tuple) else dy[0], cache, arguments)
        if own_memory:
            check_ownership(self.name, results, arguments)
        return results

    def references(self, arguments):
        """The results of PyTorch in this dtype, of a wider dtype, and the limit for infinite arguments."""
        same = self._reference(arguments, self.dtype)
        wider = self._reference(arguments, np.dtype(np.float64)) if self.dtype != np.float64 else self._wider(arguments)
        return [same, wider or same, self._limit(arguments)]

    def _limit(self, arguments):
        """The results of PyTorch in float64 with ±10⁶ for ±inf; what they approach with ±10⁷, else nan."""
        near, far = (self._reference(_finite(arguments, size), np.dtype(np.float64)) for size in (1e6, 1e7))
        return {key: _extrapolate(near[key], far[key]) for key in near}

    def _wider(self, arguments):
        """The results of the same function in longdouble: they show an overflow within float64."""
        try:
            with np.errstate(all="ignore"):
                wide = {key: a.astype(np.longdouble) if is_float(a) else a for key, a in arguments.items()}
                return self.run(wide, own_memory=False)
        except TypeError:
            return None

    def resized(self, size):
        """The arguments with a leading axis of this size, where every floating-point array has one; else None."""
        patterns, batch_size = self.patterns, self.arrays[self.floats[0]].shape[:1]
        if patterns is None or any(pattern[:1] != ["..."] for pattern in patterns) or not batch_size:
            return None
        found = dict(self.arguments)
        for key, array in self.arrays.items():
            if array.ndim > 1 and array.shape[:1] == batch_size and not key.startswith("parameter"):
                found[key] = array[:size]
        return found


class FunctionCall(Call):
    """NAME_forward and NAME_backward."""

    loosen = 1.0

    def __init__(self, name, arguments, options, dtype):
        self.value, self.forward = implementation(name), implementation(f"{name}_forward")
        self.backward = implementation(f"{name}_backward")
        stated = stated_shapes(self.value.__doc__)
        self.patterns = stated and stated[0]
        self.is_elementwise = bool(stated) and all(pattern == ["..."] for pattern in stated[0])
        super().__init__(name, inspect.signature(self.value).bind(*arguments, **options).arguments, dtype)

    def _forward(self, arguments):
        return self.forward(**_without_dy(arguments))

    def _variables(self, arguments):
        return [key for key, a in _without_dy(arguments).items() if _is_float(a) and (self.name, key) not in CONSTANTS]

    def _backward(self, dy, cache, arguments):
        gradients = as_tuple(self.backward(dy, cache))
        names = [key for key in self.floats if not key.startswith("dy ") and (self.name, key) not in CONSTANTS]
        return {f"gradient of {key}": gradient for key, gradient in zip(names, gradients, strict=True)}

    def _reference(self, arguments, dtype):
        variables = self._variables(arguments)
        tensors = {key: _tensor(item, dtype, key in variables) for key, item in arguments.items()}
        y = torch_reference(self.name)(**_without_dy(tensors))
        gradients = torch.autograd.grad(as_tuple(y), [tensors[key] for key in variables], _dy(tensors, y))
        return _numpy(_named("output", y) | {f"gradient of {k}": g for k, g in zip(variables, gradients)})


class LayerCall(Call):
    """forward and backward of a layer; its parameters are arguments, too."""

    is_elementwise = False

    def __init__(self, name, config, inputs, options, dtype, rng):
        self.layer_class, self.config, self.options = implementation(name), config, list(options)
        self.layer = build(self.layer_class, config, rng, dtype)
        stated = stated_shapes(self.layer_class.__doc__)
        self.patterns = stated and stated[0]
        self.loosen = LAYER_SLACK[np.dtype(dtype)]
        arguments = {f"input {index}": item for index, item in enumerate(inputs)} | options
        for key, parameter in self.layer.named_parameters():
            noise = 0.3 * rng.standard_normal(parameter.shape)
            arguments[f"parameter {key}"] = parameter.data + noise.astype(dtype)
        super().__init__(name, arguments, dtype)

    def _inputs(self, arguments):
        return [item for key, item in arguments.items() if key.startswith("input ")]

    def _forward(self, arguments):
        for key, parameter in self.layer.named_parameters():
            data = arguments[f"parameter {key}"]
            parameter.data = np.array(data, data.dtype.newbyteorder("="))
        self.layer.zero_grad()
        return self.layer.forward(*self._inputs(arguments), **{key: arguments[key] for key in self.options})

    def _backward(self, dy, cache, arguments):
        gradients = self.layer.backward(dy, cache)
        names = [key for key in self.floats if key.startswith("input ")]
        found = {f"gradient of {key}": g for key, g in zip(names, as_tuple(gradients))}
        return found | {f"gradient of parameter {key}": p.grad for key, p in self.layer.named_parameters()}

    def _reference(self, arguments, dtype):
        reference = torch_reference(self.name)(**self.config).to(_tensor(np.zeros(()), dtype).dtype).eval()
        state = {k.removeprefix("parameter "): a for k, a in arguments.items() if k.startswith("parameter ")}
        named = dict(reference.named_parameters())
        with torch.no_grad():
            for key, parameter in named.items():
                parameter.copy_(_tensor(state[key], dtype))
        inputs = {k: _tensor(a, dtype, _is_float(a)) for k, a in arguments.items() if k.startswith("input ")}
        y = reference(*inputs.values(), **{key: _tensor(arguments[key], dtype) for key in self.options})
        dy = _dy({k: _tensor(a, dtype) for k, a in arguments.items()}, y)
        found = _named("output", y)
        if any(output.requires_grad for output in as_tuple(y)):
            torch.autograd.backward(as_tuple(y), dy)
        variables = {key: t for key, t in inputs.items() if isinstance(t, torch.Tensor) and t.requires_grad}
        found |= {f"gradient of {key}": tensor.grad for key, tensor in variables.items()}
        return _numpy(found | {f"gradient of parameter {key}": p.grad for key, p in named.items()})


def check_ownership(name, results, arguments):
    """Every result is a plain array in native byte order that shares no memory with an argument or another result."""
    arrays = {key: a for key, a in arguments.items() if isinstance(a, np.ndarray)}
    for key, result in results.items():
        plain = type(result) is np.ndarray or (isinstance(result, np.generic) and result.shape == ())
        assert plain, f"{name}: {key} is {type(result)}"
        assert result.dtype.isnative, f"{name}: {key} has byte order {result.dtype.byteorder}"
        for other, array in (arrays | {k: r for k, r in results.items() if k != key}).items():
            assert not np.shares_memory(result, array), f"{name}: {key} shares memory with {other}"


def _finite(arguments, size):
    """The arguments with ±size for ±inf."""
    return {key: np.where(np.isinf(a), np.copysign(size, a), a) if _is_float(a) else a for key, a in arguments.items()}


def _extrapolate(near, far):
    """The limit of two numbers: their value where they agree, inf where the second is much larger, else nan."""
    with np.errstate(all="ignore"):
        limit = np.where(np.abs(near - far) <= 1e-5 + 1e-5 * np.abs(far), far, np.nan)
        grows = (np.abs(far) > 1e4) & (far / near > 5)
        return np.where(grows, np.copysign(np.inf, far), limit)


def _is_float(item):
    return isinstance(item, np.ndarray) and item.dtype.kind == "f"


def _without_dy(arguments):
    return {key: item for key, item in arguments.items() if not key.startswith("dy ")}


def _dy(tensors, y):
    return tuple(item for key, item in tensors.items() if key.startswith("dy "))[: len(as_tuple(y))]


def _named(name, values):
    values = as_tuple(values)
    return {name: values[0]} if len(values) == 1 else {f"{name} {index}": item for index, item in enumerate(values)}


def _tensor(item, dtype, requires_grad=False):
    if not isinstance(item, np.ndarray):
        return item
    array = item.astype(dtype) if item.dtype.kind == "f" else item
    return torch.tensor(np.ascontiguousarray(array).reshape(array.shape), requires_grad=requires_grad)


def _numpy(results):
    return {key: tensor.detach().numpy().astype(np.float64) for key, tensor in results.items()}
