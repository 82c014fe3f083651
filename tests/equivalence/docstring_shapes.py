"""The shapes that a docstring states, compared with the shapes of real arrays.

    "y = x Wᵀ + b      (..., I), (O, I), (O) → (..., O)"

They stand at the end of the first line, or on the second (empty lines do not count). A letter is one size throughout a
call; `...` is any number of leading dimensions.
"""

import re

import numpy as np

_SHAPE = re.compile(r"\(([^()]*)\)")
_SIGNATURE = re.compile(r"(?:^|\s{3,})((?:\([^()]*\)(?:, )?)+) → ((?:\([^()]*\)(?:, | or )?)+)$")


def stated_shapes(docstring):
    """The input and output patterns that a docstring states, and whether the outputs are alternatives.

    Returns None where the first two lines state no shapes.
    """
    lines = [line.strip() for line in (docstring or "").split("\n") if line.strip()]
    for line in lines[:2]:
        match = _SIGNATURE.search(line)
        if match is not None:
            inputs, outputs = (
                [[size for size in re.split(r",\s*", pattern) if size] for pattern in _SHAPE.findall(group)]
                for group in match.groups()
            )
            return inputs, outputs, " or " in match.group(2)
    return None


def check_docstring(function, inputs, outputs, broadcast=True):
    """If the function or class is npllm's own, compare the arrays with the shapes that its docstring states."""
    if function.__module__.startswith("npllm.") and stated_shapes(function.__doc__) is not None:
        check_stated_shapes(function.__doc__, list(inputs), list(outputs), broadcast)


def check_stated_shapes(docstring, inputs, outputs, broadcast=True):
    """Raise AssertionError unless inputs and outputs (arrays; None is skipped) have the stated shapes.

    Unless `broadcast` is False (a backward), the output's leading dimensions must be those of the inputs, broadcast.
    Returns the sizes bound to the letters.
    """
    stated = stated_shapes(docstring)
    assert stated is not None, f"no shapes in the first two lines of the docstring {docstring!r}"
    input_patterns, output_patterns, alternatives = stated
    sizes = {}
    leading = [_bind(p, x, sizes, docstring) for p, x in zip(input_patterns, inputs) if x is not None]
    if alternatives:
        output_patterns = [p for p in output_patterns if len(p) == outputs[0].ndim or p[:1] == ["..."]][:1]
    for index, (pattern, array) in enumerate(zip(output_patterns, outputs)):
        found = _bind(pattern, array, sizes, docstring)
        if not broadcast or index or found is None:
            continue
        if (expected := _broadcast(leading)) is not None:
            assert found == expected, f"{docstring!r}: the output's leading dimensions are {found}, not {expected}"
    return sizes


def _bind(pattern, array, sizes, docstring):
    """Bind the pattern's letters to the array's sizes; return the leading dimensions behind `...`, if it has one."""
    shape, names = np.shape(array), pattern
    leading = None
    if pattern[:1] == ["..."]:
        names = pattern[1:]
        split = len(shape) - len(names)
        leading, shape = shape[:split], shape[split:] if split >= 0 else ()
    assert len(shape) == len(names), f"{docstring!r}: ({', '.join(pattern)}) does not fit {np.shape(array)}"
    for name, size in zip(names, shape):
        assert sizes.setdefault(name, size) == size, f"{docstring!r}: {name} is {sizes[name]} and {size}"
    return leading


def _broadcast(leading):
    try:
        return np.broadcast_shapes(*[dimensions for dimensions in leading if dimensions is not None])
    except ValueError:
        return None  # grouped heads: the leading dimensions differ by design
