"""The questions every function asks of its arguments, so that bad input is an error and never a wrong number."""

import numpy as np


def as_floats(**arguments):
    """Return the arguments as arrays of one floating-point dtype; a single one comes back by itself.

    `floats(x=x, weight=weight)` names them for the message. None stands for an optional argument left out and
    stays None. Raises TypeError for integers and for mixed dtypes: NumPy would answer both with a silent
    float64, twice the memory and half the speed.
    """
    arrays = {name: None if value is None else np.asarray(value) for name, value in arguments.items()}
    first = None
    if next(iter(arguments.values())) is None:
        raise TypeError(f"{next(iter(arguments))} is None; it must be an array")
    for name, array in arrays.items():
        if array is None:
            continue
        if not np.issubdtype(array.dtype, np.floating):
            raise TypeError(
                f"{name} has dtype {array.dtype}; it must be floating point (try {name}.astype(np.float32))"
            )
        if first is None:
            first = name
        elif array.dtype != arrays[first].dtype:
            raise TypeError(f"{name} is {array.dtype} but {first} is {arrays[first].dtype}; they must have one dtype")
    values = tuple(arrays.values())
    return values[0] if len(values) == 1 else values


def reject_half(x):
    """Raise TypeError for half precision, in which sums of squares overflow from 256 on."""
    if x.dtype == np.float16:
        raise TypeError("float16 is too narrow to compute with here; it must be float32 or float64")


def as_indices(name, ids, low, high):
    """Return `ids` as an integer array whose entries lie in [low, high).

    Raises TypeError for another dtype and IndexError naming the first entry out of range: NumPy would let −1
    mean the last row.
    """
    ids = np.asarray(ids)
    if ids.size == 0 and ids.dtype == np.float64:
        ids = ids.astype(np.int64)  # NumPy's dtype for an empty list
    if not np.issubdtype(ids.dtype, np.integer):
        raise TypeError(f"{name} has dtype {ids.dtype}; it must be an integer dtype")
    outside = (ids < low) | (ids >= high)
    if outside.any():
        where = tuple(int(i) for i in np.argwhere(outside)[0])
        raise IndexError(f"{name}{list(where) if where else ''} is {ids[where]}; it must be in [{low}, {high})")
    return ids


def check_size(what, expected, **sizes):
    """Raise ValueError unless every named size equals `expected`."""
    for name, size in sizes.items():
        if size != expected:
            raise ValueError(f"{name} is {size}; it must be {expected}, {what}")


def check_gradient(dy, shape, dtype):
    """Return dy as an array; for one number of output a plain number will do.

    Raises ValueError or TypeError unless it has the shape and the dtype of the output whose gradient it is: NumPy
    would stretch the one and promote the other, and answer with a wrong gradient.
    """
    dy = np.asarray(dy)
    if dy.shape != shape:
        raise ValueError(f"dy has shape {dy.shape}; it must be that of the output, {shape}")
    if shape == () and np.issubdtype(dy.dtype, np.number) and not np.iscomplexobj(dy):
        return dy.astype(dtype)
    if dy.dtype != dtype:
        raise TypeError(f"dy has dtype {dy.dtype}; it must be that of the output, {dtype}")
    return dy


def check_probability(name, p):
    """Return p as a float; raise ValueError unless 0 ≤ p < 1."""
    if not 0.0 <= p < 1.0:
        raise ValueError(f"{name} is {p}; it must be at least 0 and less than 1")
    return float(p)


def check_positive(**sizes):
    """Raise ValueError unless every named size is 1 or more."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; it must be at least 1")


def check_heads(num_heads, **widths):
    """Raise ValueError unless num_heads is at least 1 and divides every named width."""
    for name, width in widths.items():
        if num_heads < 1 or width % num_heads:
            raise ValueError(f"{name} is {width} and num_heads {num_heads}; num_heads must divide {name}")


def drop_none(*gradients):
    """Return the gradients of the inputs that were there: None (an input left out) is dropped, a single one is bare."""
    present = tuple(gradient for gradient in gradients if gradient is not None)
    return present[0] if len(present) == 1 else present


def check_context_length(num_positions, context_length):
    """Raise ValueError if a sequence has more positions than the context, or a negative number of them."""
    if num_positions < 0:
        raise ValueError(f"the number of positions is {num_positions}; it must be at least 0")
    if num_positions > context_length:
        raise ValueError(
            f"the sequence has {num_positions} positions; it must have at most {context_length}, the context_length"
        )


def check_text(name, text):
    """Raise TypeError unless `text` is a str."""
    if not isinstance(text, str):
        raise TypeError(f"{name} is {type(text).__name__}; it must be a str")


def check_special_tokens(special_tokens):
    """Return the special tokens as a list; raise unless they are several texts, each given once."""
    if isinstance(special_tokens, str):
        raise TypeError(f"special_tokens is the text {special_tokens!r}; it must be a list of texts")
    special_tokens = list(special_tokens)
    for token in special_tokens:
        check_text("a special token", token)
    if len(set(special_tokens)) != len(special_tokens):
        raise ValueError(f"special_tokens is {special_tokens}; each must be given once")
    return special_tokens
