"""Compare a function: NAME, NAME_forward and NAME_backward with the reference's value and autograd."""

import functools
import inspect

import numpy as np
import torch

from tests.equivalence import record
from tests.equivalence.difference import as_tuple, assert_within_tolerance, difference, output_differences
from tests.equivalence.docstring_shapes import check_docstring
from tests.equivalence.inputs import as_tensor, as_tensors, cotangent, is_float, make_cache_read_only, read_only
from tests.equivalence.lookup import candidate, implementation, torch_reference

# floating-point arguments that are constants: neither side differentiates by them
CONSTANTS = {
    ("cross_entropy", "weight"),
    ("linear_cross_entropy", "class_weight"),
    ("scaled_dot_product_attention", "dropout_mask"),
    ("attention", "dropout_mask"),
    ("rotary", "frequencies"),
    ("relative_attention", "dropout_mask"),
}


def check_function(name, *arguments, loosen=1.0, rng=None, **options):
    """Raise AssertionError unless the function equals its reference; see compare_function."""
    assert_within_tolerance(name, compare_function(name, *arguments, loosen=loosen, rng=rng, **options))
    record.add("function", name, next(item.dtype for item in (*arguments, *options.values()) if is_float(item)))


def compare_function(name, *arguments, loosen=1.0, rng=None, **options):
    """Run the function and its reference on the same arguments; return the Differences.

    `rng` draws the cotangent. `loosen` multiplies the tolerance; a test that passes it states the reason.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    value, forward, backward = _three_forms(name)
    named = inspect.signature(value).bind(*arguments, **options).arguments
    inputs = {key: read_only(item) for key, item in named.items()}
    tensors = {key: as_tensor(item, is_constant=(name, key) in CONSTANTS) for key, item in named.items()}
    dtype = next(item.dtype for item in named.values() if is_float(item))

    expected = torch_reference(name)(**tensors)
    y = value(**inputs)
    differences = output_differences(y, expected, dtype, loosen)
    check_docstring(value, inputs.values(), as_tuple(y))
    if backward is None:
        return differences

    y_forward, cache = forward(**inputs)
    for ours, plain in zip(as_tuple(y_forward), as_tuple(y), strict=True):
        np.testing.assert_array_equal(ours, plain, err_msg=f"{name}_forward must give the value that {name} gives")
    dy = cotangent(y, dtype, rng)
    make_cache_read_only(cache)
    gradients = backward(dy, cache)
    is_bare = not (isinstance(gradients, tuple) and len(gradients) == 1)
    assert is_bare, f"{name}_backward must return a single gradient as an array, not as a tuple"
    gradients = as_tuple(gradients)
    variables = {key: t for key, t in tensors.items() if isinstance(t, torch.Tensor) and t.requires_grad}
    assert len(gradients) == len(variables), f"{name}_backward gave {len(gradients)} gradients for {list(variables)}"
    check_docstring(backward, as_tuple(dy), gradients, broadcast=False)
    expected_gradients = torch.autograd.grad(as_tuple(expected), list(variables.values()), as_tensors(dy))
    for key, gradient, reference in zip(variables, gradients, expected_gradients):
        differences.append(difference(f"gradient of {key}", gradient, reference, dtype, loosen))
    return differences


def _three_forms(name):
    """Value, forward and backward of a function; backward is None where a candidate has not written it yet."""
    forms = ("", "_forward", "_backward")
    written = {form: candidate(name + form) for form in forms}
    if not any(written.values()):
        return tuple(implementation(name + form) for form in forms)
    value = written[""]
    if value is None and written["_forward"] is not None:

        @functools.wraps(implementation(name))
        def value(*arguments, **options):
            return written["_forward"](*arguments, **options)[0]

    return value or implementation(name), implementation(f"{name}_forward"), written["_backward"]
