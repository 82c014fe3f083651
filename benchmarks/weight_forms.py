"""x Wᵀ for one row of x and for a few, as in a step of generation, with the weights in float32 and in smaller forms.

The product of one row reads every weight once, so fewer bits could be faster. NumPy has no product of integers in BLAS:
a block of rows is converted to float32 in an array that stays in the cache, and multiplied there.
"""

from functools import partial

import numpy as np

from benchmarks.limits import FLOAT32, Work
from benchmarks.measure import Job
from npllm.layers.few_rows import times_transposed

BLOCK = 64  # rows of W that are converted at a time
TOLERANCE = 0.25  # of the length of the result: 4 bits for each weight lose an eighth


def jobs(count=12, shape=(3072, 768), rows=(1, 2, 8)):
    """`count` matrices of this shape, times `rows` rows."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((count, *shape), dtype=np.float32)
    for number in rows:
        x = rng.standard_normal((number, shape[1]), dtype=np.float32)
        contenders = {"x @ W.T": partial(_each, lambda weight, x=x: x @ weight.T, weights)}
        if number == 1:
            contenders |= {
                name: partial(_each, partial(_converted, convert, x[0]), [pack(weight) for weight in weights])
                for name, (pack, convert) in FORMS.items()
            }
        yield Job(
            f"x Wᵀ, {number} row{'s' * (number > 1)}",
            f"{count} × {shape[0]:,} × {shape[1]:,}",
            partial(_each, partial(times_transposed, x), weights),
            contenders,
            agree=_agree,
            work=Work(traffic=float(FLOAT32 * weights.size)),
        )


def _each(product, weights):
    return np.stack([product(weight) for weight in weights])


def _converted(convert, x, packed):
    """W @ x, (1, O), for packed weights: `convert(packed, rows, out)` writes rows of W as float32 into `out`."""
    scale, *arrays = packed
    block, y = np.empty((BLOCK, len(x)), np.float32), np.empty(len(scale), np.float32)
    for start in range(0, len(y), BLOCK):
        rows = slice(start, min(start + BLOCK, len(y)))
        out = block[: rows.stop - start]
        convert(arrays, rows, out)
        np.matmul(out, x, out=y[rows])
    return (y * scale)[None]


def _pack_integers(weight, largest):
    scale = np.abs(weight).max(axis=1) / largest
    return scale, np.rint(weight / scale[:, None]).astype(np.int8)


def _pack_4_bits(weight):
    """The integers −7 … 7 plus 8, two in a byte: channel i of the first half, and channel i of the second."""
    scale, integers = _pack_integers(weight, 7)
    first, second = np.split((integers + 8).astype(np.uint8), 2, axis=1)
    return scale, first | second << 4


def _from_4_bits(arrays, rows, out):
    packed, half = arrays[0][rows], out.shape[1] // 2
    np.copyto(out[:, :half], packed & 15)
    np.copyto(out[:, half:], packed >> 4)
    out -= 8


def _copy(arrays, rows, out):
    np.copyto(out, arrays[0][rows])


def _from_bfloat16(arrays, rows, out):
    np.left_shift(arrays[0][rows], 16, out=out.view(np.uint32), dtype=np.uint32, casting="unsafe")


def _without_scale(weight, array):
    return np.ones(len(weight), np.float32), array


FORMS = {  # name: how the weights are packed, how rows are converted
    "float32, converted": (lambda w: _without_scale(w, w), _copy),
    "8 bits": (lambda w: _pack_integers(w, 127), _copy),
    "4 bits": (_pack_4_bits, _from_4_bits),
    "bfloat16": (lambda w: _without_scale(w, (w.view(np.uint32) >> 16).astype(np.uint16)), _from_bfloat16),
    "float16": (lambda w: _without_scale(w, w.astype(np.float16)), _copy),
}


def _agree(result, ours):
    difference = np.linalg.norm(result - ours) / np.linalg.norm(ours)
    assert difference < TOLERANCE, f"the results differ by {difference:.2f} of their length"
