"""Compare a layer or a model: build both with the same weights; then output and every gradient."""

import inspect

import numpy as np
import torch

import torch_ref.layers
from npllm.core.module import Module
from tests.equivalence import record
from tests.equivalence.difference import (
    TOLERANCE,
    as_tuple,
    assert_within_tolerance,
    difference,
    output_differences,
)
from tests.equivalence.docstring_shapes import check_docstring
from tests.equivalence.inputs import as_tensor, as_tensors, cotangent, is_float, make_cache_read_only, read_only
from tests.equivalence.lookup import implementation, torch_reference

# A layer chains a dozen products and sums, and gradients inside it can be far larger than those that come out of a
# saturated softmax: rounding that is below the tolerance of float64 shows in float32.
LAYER_SLACK = {np.dtype(np.float64): 1.0, np.dtype(np.float32): 10.0}


def check_layer(name, config, *inputs, dtype, **options):
    """Raise AssertionError unless the layer equals its reference; see compare_layer."""
    assert_within_tolerance(f"{name}{config}", compare_layer(name, config, *inputs, dtype=dtype, **options))
    is_model = torch_reference(name).__module__.startswith("torch_ref.models")
    record.add("model" if is_model else "layer", name, np.dtype(dtype))


def compare_layer(name, config, *inputs, dtype, loosen=1.0, rng=None, dropout=False, **options):
    """Build the layer and its reference from the dict `config`, copy the weights, run both; return the Differences.

    With `dropout` the layer draws dropout masks, and the Dropout modules of the same names in the reference get them.
    `options` are arguments that both forwards take by name, such as a mask. A layer may have several outputs (a
    tuple), and then gets a tuple of cotangents; for several floating-point inputs it returns a tuple of gradients.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    dtype = np.dtype(dtype)
    loosen = loosen * LAYER_SLACK[dtype]
    layer, reference = _build_pair(name, config, rng, dtype)

    arrays = [read_only(item) for item in inputs]
    tensors = [as_tensor(item) for item in inputs]
    array_options = {key: read_only(item) for key, item in options.items()}
    y, cache = layer.forward(*arrays, **({"rng": rng} if dropout else {}), **array_options)
    _copy_dropout_masks(cache, reference, dropout)
    expected = reference(*tensors, **{key: as_tensor(item, is_constant=True) for key, item in options.items()})
    differences = output_differences(y, expected, dtype, loosen)
    check_docstring(type(layer), [item for item in arrays if isinstance(item, np.ndarray)], as_tuple(y))
    if not dropout:
        for plain, value in zip(as_tuple(layer(*arrays, **array_options)), as_tuple(y), strict=True):
            np.testing.assert_array_equal(plain, value, err_msg=f"{name}.forward must give the value of a plain call")
    if type(layer).backward is Module.backward:
        return differences

    dy = cotangent(y, dtype, rng)
    make_cache_read_only(cache)
    negated = [-item if is_float(item) else item for item in inputs]
    layer.forward(*negated, **array_options)  # a second forward must not change the cache of the first
    gradients = layer.backward(dy, cache)
    if any(output.requires_grad for output in as_tuple(expected)):
        torch.autograd.backward(as_tuple(expected), as_tensors(dy))
    differences += _input_differences(name, gradients, tensors, dtype, loosen)
    differences += _parameter_differences(name, layer, reference, dy, dtype, loosen)
    if all(found.tolerance_ratio <= 1.0 for found in differences):
        _check_that_gradients_accumulate(name, layer, dy, cache)
    return differences


def build(layer_class, config, rng, dtype):
    """Construct a layer, with rng and dtype where its constructor takes them."""
    accepted = inspect.signature(layer_class).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    extra = {key: item for key, item in {"rng": rng, "dtype": dtype}.items() if key in accepted or takes_any}
    return layer_class(**config, **extra)


def _build_pair(name, config, rng, dtype):
    """The layer, with random weights, and its reference with the same weights."""
    layer = build(implementation(name), config, rng, dtype)
    for _, parameter in layer.named_parameters():  # away from the ones and zeros of a norm, which hide errors
        parameter.data += (0.3 * rng.standard_normal(parameter.shape)).astype(dtype)
    reference = torch_reference(name)(**config).to(as_tensor(np.zeros((), dtype)).dtype).eval()
    reference.load_state_dict({key: torch.tensor(array) for key, array in layer.state_dict().items()})
    return layer, reference


def _input_differences(name, gradients, tensors, dtype, loosen):
    """The Differences of the gradients of the floating-point inputs."""
    inputs = [tensor for tensor in tensors if isinstance(tensor, torch.Tensor) and tensor.requires_grad]
    assert (gradients is None) == (not inputs), f"{name}.backward must return a gradient for each float input only"
    if not inputs:
        return []
    names = ["gradient of input" + (f" {number}" if len(inputs) > 1 else "") for number in range(len(inputs))]
    triples = zip(names, as_tuple(gradients), inputs, strict=True)
    return [difference(what, gradient, tensor.grad, dtype, loosen) for what, gradient, tensor in triples]


def _parameter_differences(name, layer, reference, dy, dtype, loosen):
    """The Differences of the gradients of the parameters."""
    ours, theirs = dict(layer.named_parameters()), dict(reference.named_parameters())
    assert ours.keys() == theirs.keys(), f"{name} has parameters {list(ours)}; the reference has {list(theirs)}"
    for key, parameter in ours.items():
        assert parameter.grad is not None, f"{name}.backward left {key} without a gradient"
        aliased = any(np.may_share_memory(parameter.grad, d) for d in as_tuple(dy))
        assert not aliased, f"the gradient of {key} must be an array of its own"
    return [
        difference(f"gradient of parameter {key}", parameter.grad, theirs[key].grad, dtype, loosen)
        for key, parameter in ours.items()
    ]


def _check_that_gradients_accumulate(name, layer, dy, cache):
    """A second backward must add to the parameters' gradients what the first one gave."""
    first = {key: parameter.grad.copy() for key, parameter in layer.named_parameters()}
    layer.backward(dy, cache)
    for key, parameter in layer.named_parameters():
        rtol, atol = TOLERANCE[parameter.grad.dtype]  # where a shared parameter adds three times, rounding differs
        twice = 2 * first[key]
        atol = atol * max(1.0, np.abs(twice).max(initial=0.0))
        np.testing.assert_allclose(
            parameter.grad, twice, rtol=rtol, atol=atol, err_msg=f"{name}.backward must add to {key}.grad"
        )


def _copy_dropout_masks(cache, reference, dropout):
    """Give the reference the dropout masks that the layer drew: 0 or 1/(1 − p), and none without dropout."""
    for path, module in reference.named_modules():
        if isinstance(module, torch_ref.layers.Dropout):
            mask = _entry(cache, path).dropout_mask
            if dropout and module.p > 0:
                kept = np.isclose(mask, 1.0 / (1.0 - module.p), rtol=1e-6)
                assert (kept | (mask == 0)).all(), f"{path} must multiply by 0 or 1/(1 - {module.p})"
            else:
                assert mask is None, f"{path} must drop nothing"
            module.dropout_mask = None if mask is None else torch.tensor(mask)


def _entry(cache, path):
    """The entry of a nested cache at a dotted path."""
    for step in path.split(".") if path else []:
        cache = cache[int(step)] if step.isdigit() else getattr(cache, step)
    return cache
