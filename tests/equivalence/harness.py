"""One helper checks any pair: a piece of npllm against its twin of the same name in torch_ref.

Both get the same input and the same weights, and the same random cotangent goes back through both. Compared are the
output, the gradient of every floating-point input and of every parameter, and every dtype. Inputs, cotangent and
caches are frozen meanwhile, so a piece that writes into them fails; shapes are held against the docstrings.

The cotangent is random, never ones: through softmax a constant one has gradient zero, and hides every error.
"""

import functools
import inspect
from dataclasses import dataclass

import numpy as np
import torch

import npllm.attention
import npllm.before_transformers
import npllm.functional
import npllm.layers
import npllm.models
import torch_ref.attention
import torch_ref.before_transformers
import torch_ref.functional
import torch_ref.layers
import torch_ref.models
from npllm.core.module import Module
from npllm.functional import Cache
from tests.equivalence.docstring_shapes import check_stated_shapes, stated_shapes

ROOMS = {
    npllm.functional: torch_ref.functional,
    npllm.layers: torch_ref.layers,
    npllm.attention: torch_ref.attention,
    npllm.before_transformers: torch_ref.before_transformers,
    npllm.models: torch_ref.models,
}

# relative and absolute tolerance; see `difference`
TOLERANCE = {np.dtype(np.float64): (1e-10, 1e-12), np.dtype(np.float32): (1e-5, 1e-6)}

# A layer chains a dozen products and sums, and gradients inside it can be far larger than those that come out of a
# saturated softmax: rounding that float64 leaves below its tolerance shows in float32.
LAYER_SLACK = {np.dtype(np.float64): 1.0, np.dtype(np.float32): 10.0}

# floating-point arguments that are constants: neither side differentiates by them
CONSTANTS = {
    ("cross_entropy", "weight"),
    ("scaled_dot_product_attention", "dropout_mask"),
    ("rotary", "frequencies"),
    ("relative_attention", "dropout_mask"),
}

_learner = None  # the module given to `pytest --impl`


@dataclass(frozen=True)
class Difference:
    """How far one array is from its twin."""

    what: str  # "output", "gradient of q", "gradient of parameter W_query.weight"
    error: float  # the largest absolute difference
    share: float  # the largest share of the tolerance used up; above 1 is out of tolerance


def use_implementation(module):
    """Let `implementation` look into this module first (None: into npllm alone)."""
    global _learner
    _learner = module


def implementation(name):
    """The function or class of this name under test: a learner's own if there is one, else npllm's."""
    for room in (_learner, *ROOMS):
        if hasattr(room, name):
            return getattr(room, name)
    raise KeyError(f"{name} is in none of {', '.join(room.__name__ for room in ROOMS)}")


def twin(name):
    """The function or class of this name in torch_ref."""
    return next(getattr(room, name) for room in ROOMS.values() if hasattr(room, name))


def check_function(name, *arguments, loosen=1.0, rng=None, **options):
    """Raise AssertionError unless the function and its twin agree; see compare_function."""
    _check(name, compare_function(name, *arguments, loosen=loosen, rng=rng, **options))


def check_layer(name, config, *inputs, dtype, **options):
    """Raise AssertionError unless the layer and its twin agree; see compare_layer."""
    _check(f"{name}{config}", compare_layer(name, config, *inputs, dtype=dtype, **options))


def compare_function(name, *arguments, loosen=1.0, rng=None, **options):
    """Run NAME, NAME_forward and NAME_backward against the twin's value and autograd; return the Differences.

    `rng` draws the cotangent. `loosen` multiplies the tolerance; who passes it says why.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    value, forward, backward = _three_forms(name)
    signature = inspect.signature(value)
    named = signature.bind(*arguments, **options).arguments
    frozen = {key: _freeze(item) for key, item in named.items()}
    tensors = {key: _tensor(item, is_constant=(name, key) in CONSTANTS) for key, item in named.items()}
    dtype = next(item.dtype for item in named.values() if _is_float(item))

    expected = twin(name)(**tensors)
    y = value(**frozen)
    differences = _differences("output", y, expected, dtype, loosen)
    _check_docstring(value, frozen.values(), _several(y))
    if backward is None:
        return differences

    y_again, cache = forward(**frozen)
    for again, once in zip(_several(y_again), _several(y), strict=True):
        np.testing.assert_array_equal(again, once, err_msg=f"{name}_forward must give the value that {name} gives")
    dy = _cotangent(y, dtype, rng)
    _freeze_cache(cache)
    gradients = backward(dy, cache)
    assert not (isinstance(gradients, tuple) and len(gradients) == 1), (
        f"{name}_backward must give a single gradient bare"
    )
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    inputs = {
        key: tensor for key, tensor in tensors.items() if isinstance(tensor, torch.Tensor) and tensor.requires_grad
    }
    assert len(gradients) == len(inputs), f"{name}_backward gave {len(gradients)} gradients for {list(inputs)}"
    _check_docstring(backward, _several(dy), gradients, broadcast=False)
    expected_gradients = torch.autograd.grad(_several(expected), list(inputs.values()), _tensors(dy))
    for key, gradient, reference in zip(inputs, gradients, expected_gradients):
        differences.append(difference(f"gradient of {key}", gradient, reference, dtype, loosen))
    return differences


def compare_layer(name, config, *inputs, dtype, loosen=1.0, rng=None, dropout=False, **options):
    """Build the layer and its twin from the dict `config`, copy the weights across, run both; return the Differences.

    With `dropout` the layer draws its masks and the twin's Dropout modules of the same names get them. `options` are
    arguments that both forwards take by name, such as a mask. A layer may have several outputs (a tuple), and then
    gets a tuple of cotangents; of several floating-point inputs it returns a tuple of gradients.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    dtype = np.dtype(dtype)
    loosen = loosen * LAYER_SLACK[dtype]
    layer = build(implementation(name), config, rng, dtype)
    for _, parameter in layer.named_parameters():  # away from a norm's ones and zeros, which hide errors
        parameter.data += (0.3 * rng.standard_normal(parameter.shape)).astype(dtype)
    reference = twin(name)(**config).to(_tensor(np.zeros((), dtype)).dtype).eval()
    reference.load_state_dict({key: torch.tensor(array) for key, array in layer.state_dict().items()})

    frozen = [_freeze(item) for item in inputs]
    tensors = [_tensor(item) for item in inputs]
    frozen_options = {key: _freeze(item) for key, item in options.items()}
    y, cache = layer.forward(*frozen, **({"rng": rng} if dropout else {}), **frozen_options)
    _copy_dropout_masks(cache, reference, dropout)
    expected = reference(*tensors, **{key: _tensor(item, is_constant=True) for key, item in options.items()})
    differences = _differences("output", y, expected, dtype, loosen)
    _check_docstring(type(layer), [item for item in frozen if isinstance(item, np.ndarray)], _several(y))
    if not dropout:
        for plain, value in zip(_several(layer(*frozen, **frozen_options)), _several(y), strict=True):
            np.testing.assert_array_equal(plain, value, err_msg=f"{name}.forward must give the value of a plain call")
    if type(layer).backward is Module.backward:
        return differences

    dy = _cotangent(y, dtype, rng)
    _freeze_cache(cache)
    layer.forward(*_another_input(inputs), **frozen_options)  # the first cache must not care about a second use
    gradients = layer.backward(dy, cache)
    if any(output.requires_grad for output in _several(expected)):
        torch.autograd.backward(_several(expected), _tensors(dy))
    float_inputs = [tensor for tensor in tensors if isinstance(tensor, torch.Tensor) and tensor.requires_grad]
    assert (gradients is None) == (not float_inputs), f"{name}.backward must return a gradient for a float input only"
    for number, (tensor, gradient) in enumerate(zip(float_inputs, _several(gradients), strict=bool(float_inputs))):
        what = "gradient of input" + (f" {number}" if len(float_inputs) > 1 else "")
        differences.append(difference(what, gradient, tensor.grad, dtype, loosen))
    references, parameters = dict(reference.named_parameters()), dict(layer.named_parameters())
    assert parameters.keys() == references.keys(), (
        f"{name} has parameters {list(parameters)}; the twin {list(references)}"
    )
    for key, parameter in parameters.items():
        assert parameter.grad is not None, f"{name}.backward left {key} without a gradient"
        aliased = any(np.may_share_memory(parameter.grad, d) for d in _several(dy))
        assert not aliased, f"the gradient of {key} must be an array of its own"
        differences.append(
            difference(f"gradient of parameter {key}", parameter.grad, references[key].grad, dtype, loosen)
        )
    if all(found.share <= 1.0 for found in differences):
        _check_that_gradients_add_up(name, layer, dy, cache)
    return differences


def _differences(what, arrays, references, dtype, loosen):
    """The Differences of a value or of a tuple of them."""
    pairs = list(zip(_several(arrays), _several(references), strict=True))
    names = [what] if len(pairs) == 1 else [f"{what} {number}" for number in range(len(pairs))]
    return [difference(name, array, tensor, dtype, loosen) for name, (array, tensor) in zip(names, pairs)]


def difference(what, array, reference, dtype, loosen=1.0):
    """The Difference of an array and a tensor; raises AssertionError where shape or dtype differ.

    Allowed is |a − b| ≤ loosen · (rtol |b| + atol · scale), with scale = max(1, largest |b|): the rounding error of
    a sum follows the size of its terms, not that of its result.
    """
    reference = reference.detach().numpy()
    assert isinstance(array, (np.ndarray, np.generic)), f"{what} is {type(array).__name__}; it must be an array"
    assert array.dtype == dtype, f"{what} is {array.dtype}; it must be {dtype}"
    assert reference.dtype == dtype, f"{what} of the twin is {reference.dtype}; it must be {dtype}"
    assert array.shape == reference.shape, f"{what} has shape {array.shape}; the twin's is {reference.shape}"
    rtol, atol = TOLERANCE[dtype]
    same = (array == reference) | (np.isnan(array) & np.isnan(reference))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(array.astype(np.float64) - reference))
    error = np.where(np.isnan(error), np.inf, error)
    finite = np.abs(reference[np.isfinite(reference)])
    scale = max(1.0, float(finite.max(initial=0.0)))
    with np.errstate(invalid="ignore"):
        share = np.where(same, 0.0, error / (loosen * (rtol * np.abs(reference) + atol * scale)))
    share = np.where(np.isnan(share), np.inf, share)
    return Difference(what, float(error.max(initial=0.0)), float(share.max(initial=0.0)))


def build(layer_class, config, rng, dtype):
    """Construct a layer, with rng and dtype where its constructor takes them."""
    accepted = inspect.signature(layer_class).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    extra = {key: item for key, item in {"rng": rng, "dtype": dtype}.items() if key in accepted or takes_any}
    return layer_class(**config, **extra)


def _check(name, differences):
    wrong = [d for d in differences if not d.share <= 1.0]
    lines = [f"{d.what}: largest difference {d.error:.3g}, {d.share:.3g} times the tolerance" for d in wrong]
    assert not wrong, f"{name} differs from PyTorch\n  " + "\n  ".join(lines)


def _three_forms(name):
    """Value, forward and backward of a function; None for a backward that a learner has not written yet."""
    written = {form: getattr(_learner, name + form, None) for form in ("", "_forward", "_backward")}
    if not any(written.values()):
        return tuple(implementation(name + form) for form in written)
    value = written[""]
    if value is None and written["_forward"] is not None:

        @functools.wraps(implementation(name))
        def value(*arguments, **options):
            return written["_forward"](*arguments, **options)[0]

    return value or implementation(name), implementation(f"{name}_forward"), written["_backward"]


def _is_float(item):
    return isinstance(item, np.ndarray) and np.issubdtype(item.dtype, np.floating)


def _freeze(item):
    if not isinstance(item, np.ndarray):
        return item
    view = item.view()
    view.setflags(write=False)
    return view


def _freeze_cache(cache):
    if isinstance(cache, Cache):
        for _, array in cache.arrays():
            array.setflags(write=False)


def _tensor(item, is_constant=False):
    if not isinstance(item, np.ndarray):
        return item
    return torch.tensor(
        np.ascontiguousarray(item).reshape(item.shape), requires_grad=_is_float(item) and not is_constant
    )


def _cotangent(y, dtype, rng):
    """A random dy, frozen; for several outputs a tuple of them."""
    if isinstance(y, tuple):
        return tuple(_cotangent(output, dtype, rng) for output in y)
    dy = np.asarray(rng.standard_normal(np.shape(y)), dtype)
    dy.setflags(write=False)
    return dy


def _several(value):
    return value if isinstance(value, tuple) else (value,)


def _tensors(dy):
    return tuple(torch.from_numpy(d.copy()) for d in _several(dy))


def _another_input(inputs):
    return [-item if _is_float(item) else item for item in inputs]


def _check_that_gradients_add_up(name, layer, dy, cache):
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
    """Give the twin the masks that the layer drew, which must be masks: 0 or 1/(1 − p), and none without dropout."""
    for path, module in reference.named_modules():
        if isinstance(module, torch_ref.layers.Dropout):
            mask = _follow(cache, path).dropout_mask
            if dropout and module.p > 0:
                kept = np.isclose(mask, 1.0 / (1.0 - module.p), rtol=1e-6)
                assert (kept | (mask == 0)).all(), f"{path} must multiply by 0 or 1/(1 - {module.p})"
            else:
                assert mask is None, f"{path} must drop nothing"
            module.dropout_mask = None if mask is None else torch.tensor(mask)


def _follow(cache, path):
    for step in path.split(".") if path else []:
        cache = cache[int(step)] if step.isdigit() else getattr(cache, step)
    return cache


def _check_docstring(function, inputs, outputs, broadcast=True):
    """Where the piece is npllm's own, its docstring must state shapes, and the true ones."""
    if function.__module__.startswith("npllm.") and stated_shapes(function.__doc__) is not None:
        check_stated_shapes(function.__doc__, list(inputs), list(outputs), broadcast)
