"""Large matrix products in pieces, each computed by one thread of `parallel`.

    c = a @ b          BLAS divides the product among threads of its own
    c = matmul(a, b)   each piece, some columns or rows of c, is a product by itself; `parallel` deals out the pieces

The threads of BLAS wait for each other. Where another process takes a core for a moment, all of them wait for the one
that lost it, in a loop that occupies the other cores. After a product they wait in the same way for the next one, some
20 ms with OpenBLAS, and slow down what `parallel` computes meanwhile, such as softmax. Pieces have no such wait: each
thread takes the next one when it has finished one.

The pieces depend on the sizes alone, so the result is the same for every number of threads.
"""

import math

import numpy as np

from npllm.core.threads import parallel

MIN_OPERATIONS = 3e8  # multiplications and additions of a product that is divided: 3 ms on one core
OPERATIONS = 4e8  # of a piece at least, if there are more than two
MAX_PIECES = 8


def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """c = a b      (M, K), (K, N) → (M, N)

    With `out` (M, N) the product is stored there.
    """
    num_rows, num_columns = len(a), b.shape[1]
    pieces = _num_pieces(2.0 * num_rows * num_columns * a.shape[1])
    if pieces == 1:
        return np.matmul(a, b, out=out)
    c = np.empty((num_rows, num_columns), np.result_type(a, b)) if out is None else out
    if num_columns >= num_rows:
        parallel(lambda piece: np.matmul(a, b[:, piece], out=c[:, piece]), _slices(num_columns, pieces))
    else:
        parallel(lambda piece: np.matmul(a[piece], b, out=c[piece]), _slices(num_rows, pieces))
    return c


def _num_pieces(operations: float) -> int:
    """A power of two, which all threads of most machines divide evenly."""
    if operations < MIN_OPERATIONS:
        return 1
    return min(MAX_PIECES, max(2, 2 ** math.floor(math.log2(operations / OPERATIONS))))


def _slices(size: int, pieces: int) -> list[slice]:
    """Equal slices, rounded up to 16 numbers: BLAS computes blocks of this size."""
    step = -(-size // pieces // 16) * 16
    return [slice(start, start + step) for start in range(0, size, step)]
