"""Arrays at the edge: special numbers, memory layouts, and kinds of arrays that must be refused."""

import tempfile

import numpy as np


def edge_values(dtype):
    """Name → number, for every kind of special number of a dtype."""
    limits = np.finfo(dtype)
    return {
        "inf": np.inf,
        "-inf": -np.inf,
        "nan": np.nan,
        "-0.0": -0.0,
        "denormal": limits.smallest_subnormal * 3,
        "-denormal": -limits.smallest_subnormal * 3,
        "smallest normal": limits.tiny,
        "largest": limits.max,
        "-largest": -limits.max,
        "root of largest": float(np.sqrt(limits.max)) * 4,
        "tiny": float(np.sqrt(limits.tiny)) / 4,
        "overflow of exp": float(np.log(limits.max)) + 1,
        "underflow of exp": float(np.log(limits.tiny)) - 1,
        "underflow of exp to 0": float(np.log(limits.smallest_subnormal)) - 2,
    }


def draw_edges(arguments, floats, rng):
    """The arguments with random edge values in one or all of the arrays named in `floats`, and a description."""
    arguments, said = dict(arguments), []
    chosen = floats if rng.random() < 0.2 else [floats[rng.integers(len(floats))]]
    for key in chosen:
        array = np.array(arguments[key])
        values = edge_values(array.dtype)
        names = rng.choice(list(values), rng.integers(1, 4))
        where = _draw_positions(array.shape, rng)
        count = int(where.sum())
        picked = rng.integers(0, len(names), count)
        array[where] = np.array([values[name] for name in names], array.dtype)[picked]
        arguments[key] = array
        said.append(f"{key} with {count} of {', '.join(names)}")
    return arguments, " and ".join(said)


def _draw_positions(shape, rng):
    """Where the edge values stand: a few positions, whole rows, or everywhere."""
    where = np.zeros(shape, bool)
    kind = rng.choice(["few", "row", "all"], p=[0.6, 0.3, 0.1])
    if kind == "all" or not shape or where.size == 0:
        where[...] = True
    elif kind == "row":
        where.reshape(-1, shape[-1])[rng.integers(0, where.size // shape[-1])] = True
    else:
        where.reshape(-1)[rng.integers(0, where.size, rng.integers(1, 4))] = True
    return where


class OwnSubclass(np.ndarray):
    """An array class whose multiplication differs: a function that keeps the class computes nonsense."""

    def __mul__(self, other):
        return np.zeros_like(self)

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return np.zeros_like(array).view(OwnSubclass)


def _every_second(array):
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), 77, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def _read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


def _memory_mapped(array):
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, array.dtype, "w+", shape=array.shape)
        mapped[...] = array
        return mapped


LAYOUTS = {  # name → function of a contiguous array; None where the layout does not exist for it
    "in Fortran order": lambda a: np.asfortranarray(a) if a.ndim else None,
    "backwards": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1] if a.ndim else None,
    "every second": lambda a: _every_second(a) if a.ndim else None,
    "with axes exchanged": lambda a: np.ascontiguousarray(a.swapaxes(0, -1)).swapaxes(0, -1) if a.ndim > 1 else None,
    "with stride 0": lambda a: np.broadcast_to(a[:1], a.shape) if a.ndim else None,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()) if a.dtype != bool else None,
    "read-only": _read_only,
    "unaligned": lambda a: np.frombuffer(bytearray(b"x" + a.tobytes()), a.dtype, offset=1).reshape(a.shape),
    "a memory map": _memory_mapped,
    "a matrix": lambda a: a.copy().view(np.matrix) if a.ndim == 2 else None,
    "a subclass": lambda a: a.copy().view(OwnSubclass),
    "a list": lambda a: a.tolist() if a.dtype.char in "dl?" else None,
    "of int16": lambda a: a.astype(np.int16) if a.dtype.kind == "i" else None,
    "of uint8": lambda a: a.astype(np.uint8) if a.dtype.kind == "i" and a.min(initial=0) >= 0 else None,
    "of uint64": lambda a: a.astype(np.uint64) if a.dtype.kind == "i" and a.min(initial=0) >= 0 else None,
}


def other_kinds(array):
    """(description, array) of the same shape that must be refused in place of the array."""
    if array.dtype == bool:
        return  # a mask may also be additive
    yield "a masked array", np.ma.masked_array(array, mask=np.zeros(array.shape, bool))
    yield "complex", array.astype(complex)
    yield "bool", np.ones(array.shape, bool)
    yield "objects", array.astype(object)
    yield "text", array.astype(str)
    yield "a structured array", np.zeros(array.shape, [("value", "f4")])
    yield "times", np.zeros(array.shape, "m8[s]")
    if array.dtype.kind != "f":
        yield "floats", array.astype(float)
    elif array.ndim:  # a gradient of shape () may be a plain number
        yield "integers", np.ones(array.shape, int)
