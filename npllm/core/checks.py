"""Checks of arguments: invalid input raises an error that names the argument, and never gives a wrong number.

Every function starts with these: the dtype (`as_floats`, `as_indices`), then the shape (`check_shape`).
"""

import math
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np

MAX_SIZE = 2**31  # of an axis or a count: larger ones are mistakes, and NumPy's message would not name them
MAX_NUMBER = sys.float_info.max


def as_array(name: str, value: Any) -> np.ndarray:
    """Return the value as a plain array in native byte order; a subclass of np.ndarray becomes one.

    Raises TypeError for a masked array, whose mask would be lost, and ValueError for a list of unequal lists.
    """
    if type(value) is not np.ndarray:
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"{name} is a masked array; it must be a plain array (try {name}.filled(0))")
        try:
            value = np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{name} cannot become an array ({error}); it must be an array") from None
    return value if value.dtype.isnative else value.astype(value.dtype.newbyteorder("="))


def as_dtype(dtype: Any) -> np.dtype:
    """Return the dtype of a layer's parameters; raise TypeError unless it is a floating-point dtype of NumPy."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if dtype is None or found.kind != "f":
        raise TypeError(f'dtype is {dtype!r}; it must be floating point, such as "float32" or "float64"')
    return found.newbyteorder("=")


def as_floats(**arguments: Any) -> Any:
    """Return the arguments as arrays of one floating-point dtype; a single array is returned bare.

    `as_floats(x=x, weight=weight)` names them for the message. None, an optional argument left out, stays None. Raises
    TypeError for integers and for mixed dtypes, which NumPy would silently promote to float64.
    """
    arrays = {name: None if value is None else as_array(name, value) for name, value in arguments.items()}
    first = next(iter(arrays))
    if arrays[first] is None:
        raise TypeError(f"{first} is None; it must be an array")
    dtype = arrays[first].dtype
    for name, array in arrays.items():
        if array is None:
            continue
        if array.dtype.kind != "f":
            raise TypeError(
                f"{name} has dtype {array.dtype}; it must be floating point (try {name}.astype(np.float32))"
            )
        if array.dtype != dtype:
            raise TypeError(
                f"{name} is {array.dtype} but {first} is {dtype}; they must have one dtype: use "
                f'{first}.astype("{array.dtype}"), or construct the layer with dtype="{dtype}"'
            )
    values = tuple(arrays.values())
    return values[0] if len(values) == 1 else values


def reject_half(x: np.ndarray) -> None:
    """Raise TypeError for float16: its largest number is 65504, so a sum of squares overflows from 256 on."""
    if x.dtype == np.float16:
        raise TypeError("float16 is too narrow to compute with here; it must be float32 or float64")


def widen(x: np.ndarray) -> np.ndarray:
    """float16 as float32, the dtype in which PyTorch adds float16 numbers; another dtype as it is."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def as_indices(name: str, ids: Any, low: int, high: int) -> np.ndarray:
    """Return `ids` as an array of signed integers whose entries lie in [low, high).

    Raises TypeError for another dtype, and IndexError that names the first entry out of range: NumPy would take −1 as
    the last row.
    """
    ids = as_array(name, ids)
    if ids.size == 0 and ids.dtype == np.float64:
        ids = ids.astype(np.int64)  # NumPy's dtype for an empty list
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {ids.dtype}; it must be an integer dtype")
    outside = (ids < low) | (ids >= high)
    if outside.any():
        where = tuple(int(i) for i in np.argwhere(outside)[0])
        raise IndexError(f"{name}{list(where) if where else ''} is {ids[where]}; it must be in [{low}, {high})")
    return ids if ids.dtype.kind == "i" else ids.astype(np.int64)  # uint64 and int64 together would be float64


def as_id_sequence(name: str, ids: Any, min_length: int = 0) -> np.ndarray:
    """Return `ids` as an array (T) or (B, T); raise ValueError for a single number or a shorter sequence."""
    ids = as_array(name, ids)
    if ids.ndim == 0:
        raise ValueError(f"{name} is a single number; it must be a sequence (T) or a batch of them (B, T)")
    if ids.shape[-1] < min_length:
        raise ValueError(f"{name} has shape {ids.shape}; each sequence must have at least {min_length} ids")
    return ids


def check_given(**arguments: Any) -> None:
    """Raise TypeError for an argument that is None."""
    for name, value in arguments.items():
        if value is None:
            raise TypeError(f"{name} is None; it must be an array")


def as_sequence(x: Any, name: str = "x") -> np.ndarray:
    """Return x as an array; raise ValueError unless it is a sequence (T, C) or a batch of them (..., T, C)."""
    x = as_array(name, x)
    if x.ndim < 2:
        raise ValueError(
            f"{name} has shape {x.shape}; it must be a sequence of vectors (T, C), or a batch of them (B, T, C)"
        )
    return x


def check_shape(name: str, array: np.ndarray, pattern: str, **sizes: int) -> dict[str, int]:
    """Raise ValueError unless the array has the shape of the pattern, in the notation of the docstrings.

    `check_shape("x", x, "(..., I)", I=weight.shape[1])`: the last axis must have the size I. A letter without a size
    may be anything, but the same everywhere in the pattern. Returns the size of every letter.
    """
    axes, leading = _parse(pattern)
    shape = array.shape
    if leading and len(shape) >= len(axes):
        shape = shape[len(shape) - len(axes) :]
    found = dict(sizes)
    if len(shape) != len(axes) or any(found.setdefault(axis, n) != n for axis, n in zip(axes, shape)):
        known = [f"{axis} = {sizes[axis]}" for axis in dict.fromkeys(axes) if axis in sizes]
        where = f" with {', '.join(known)}" if known else ""
        raise ValueError(f"{name} has shape {array.shape}; it must be {pattern}{where}")
    return found


@lru_cache
def _parse(pattern: str) -> tuple[tuple[str, ...], bool]:
    """The letters of a shape's pattern, and whether `...` stands before them."""
    axes = tuple(axis.strip() for axis in pattern.strip("()").split(",") if axis.strip())
    return (axes[1:], True) if axes[:1] == ("...",) else (axes, False)


def check_gradient(dy: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return dy, the gradient of an output, as an array; for an output of shape () a plain number is accepted.

    Raises ValueError or TypeError unless it has the shape and the dtype of the output: NumPy would silently
    broadcast or promote it, and the gradient would be wrong.
    """
    dy = as_array("dy", dy)
    if dy.shape != shape:
        raise ValueError(f"dy has shape {dy.shape}; it must be that of the output, {shape}")
    if shape == () and dy.dtype.kind in "iuf":
        return dy.astype(dtype)
    if dy.dtype != dtype:
        raise TypeError(f"dy has dtype {dy.dtype}; it must be that of the output, {dtype}")
    return dy


def check_probability(name: str, p: float) -> float:
    """Return p as a float; raise TypeError unless it is a number, ValueError unless 0 ≤ p < 1."""
    check_real(name, p)
    if not 0.0 <= p < 1.0:
        raise ValueError(f"{name} is {p}; it must be at least 0 and less than 1")
    return float(p)


def check_axis(axis: int, x: np.ndarray) -> int:
    """Return the axis; raise TypeError unless it is an integer, IndexError unless x has this axis."""
    axis = check_integer("axis", axis)
    if not -x.ndim <= axis < x.ndim:
        raise IndexError(f"axis is {axis} and x has shape {x.shape}; axis must be in [{-x.ndim}, {x.ndim})")
    return axis


def check_positive(**sizes: int) -> None:
    """Raise TypeError unless every named size is an integer, ValueError unless it is at least 1 and below 2³¹."""
    for name, size in sizes.items():
        if check_integer(name, size, 1) >= MAX_SIZE:
            raise ValueError(f"{name} is {size}; it must be less than {MAX_SIZE}")


def check_heads(num_heads: int, **sizes: int) -> None:
    """Raise TypeError or ValueError unless all are integers of at least 1 and num_heads divides the others."""
    check_positive(num_heads=num_heads, **sizes)
    for name, size in sizes.items():
        if size % num_heads:
            raise ValueError(f"{name} is {size} and num_heads {num_heads}; num_heads must divide {name}")


def check_context_length(num_positions: int, context_length: int) -> None:
    """Raise ValueError unless 0 ≤ num_positions ≤ context_length."""
    if num_positions < 0:
        raise ValueError(f"the number of positions is {num_positions}; it must be at least 0")
    if num_positions > context_length:
        raise ValueError(
            f"the sequence has {num_positions} positions; it must have at most {context_length}, the context_length"
        )


def check_text(name: str, text: Any) -> None:
    """Raise TypeError unless `text` is a str."""
    if not isinstance(text, str):
        raise TypeError(f"{name} is {type(text).__name__}; it must be a str")


def check_special_tokens(special_tokens: Iterable[str]) -> list[str]:
    """Return the special tokens as a list; raise TypeError or ValueError unless they are distinct strings."""
    if isinstance(special_tokens, str):
        raise TypeError(f"special_tokens is the text {special_tokens!r}; it must be a list of texts")
    tokens = list(special_tokens)
    for token in tokens:
        check_text("a special token", token)
    if len(set(tokens)) != len(tokens):
        raise ValueError(f"special_tokens is {tokens}; each must be given once")
    return tokens


def drop_none(*gradients: np.ndarray | None) -> Any:
    """Return the gradients that are not None, those of the inputs that were given; a single one is returned bare."""
    present = tuple(gradient for gradient in gradients if gradient is not None)
    return present[0] if len(present) == 1 else present


def check_integer(name: str, value: Any, low: int | None = None) -> int:
    """Return the value as an int; raise TypeError unless it is an integer (no bool), ValueError if it is below low."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}; it must be an integer")
    if low is not None and value < low:
        raise ValueError(f"{name} is {value}; it must be at least {low}")
    return int(value)


def check_number(name: str, value: Any) -> float:
    """Return the value as a float; raise TypeError unless it is a number (no bool), ValueError unless it is finite."""
    number = _as_float(name, value)
    if not abs(number) <= MAX_NUMBER:
        raise ValueError(f"{name} is {value}; it must be a finite number")
    return number


def check_real(name: str, value: Any) -> None:
    """Raise TypeError unless the value is a number, nan and ±∞ included (no bool)."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {value!r:.80}; it must be a number")


def check_not_negative(name: str, value: Any) -> float:
    """Return the value as a float; raise TypeError unless it is a number, ValueError unless it is ≥ 0 and finite."""
    number = _as_float(name, value)
    if not 0 <= number <= MAX_NUMBER:
        raise ValueError(f"{name} is {value}; it must be at least 0 and finite")
    return number


def check_above_zero(name: str, value: Any) -> float:
    """Return the value as a float; raise TypeError unless it is a number, ValueError unless it is > 0 and finite."""
    number = _as_float(name, value)
    if not 0 < number <= MAX_NUMBER:
        raise ValueError(f"{name} is {value}; it must be greater than 0 and finite")
    return number


def _as_float(name: str, value: Any) -> float:
    """The number as a float, ±inf for an integer beyond the largest float."""
    check_real(name, value)
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def check_instance(name: str, value: Any, *kinds: type) -> None:
    """Raise TypeError unless the value is an instance of one of the classes."""
    if not isinstance(value, kinds):
        expected = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
        raise TypeError(f"{name} is {value!r:.80}; it must be {expected}{' or None' if type(None) in kinds else ''}")


def check_list(name: str, value: Any) -> list[Any]:
    """Return the value as a list; raise TypeError unless it is an iterable other than a text."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
        raise TypeError(f"{name} is {value!r:.80}; it must be a sequence")
    return list(value)
