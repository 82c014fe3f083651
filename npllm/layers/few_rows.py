"""x Wᵀ for few rows of x, as when a text is generated: one row for each sequence of the batch.

A product of two large matrices is bound by arithmetic. With one row every weight is used once, so the product is bound
by memory: it takes as long as the weights take to be read. Three forms read them once, each the fastest for its number
of rows (float32, NumPy 2.4 with OpenBLAS, AMD Zen 4, one thread, weights of GPT-2 124M):

    1 to 3 rows     a dot product for each row of W: `np.vecdot` reads W from the first number to the last, 30 GB/s.
                    W @ x, four rows of W at once, reads 16 GB/s
    4 to 32 rows    small blocks of W, one product each. OpenBLAS copies the operands of a large product into another
                    order first, which takes longer than 32 rows of arithmetic; those of a small one it does not copy.
                    8 rows: 11 ms with blocks, 23 ms without
    more            x Wᵀ

More threads gain nothing for one row where one core already takes all that the memory gives.

Goto, van de Geijn 2008, Anatomy of High-Performance Matrix Multiplication, section 4 (the copies).
"""

import numpy as np

from npllm.core.matrix_product import matmul

MIN_SIZE = 2**16  # of W: a smaller one stays in the cache, and any form is fast
MAX_DOT_ROWS = 3
MAX_ROWS = 32
MAX_BLOCK = 32  # rows of W in a block
MAX_PRODUCT = 2**19  # multiplications in the product of a block: OpenBLAS calls up to 1e6 small


def times_transposed(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """y = x Wᵀ      (N, I), (O, I) → (N, O)"""
    num_rows, size = x.shape
    if not 0 < num_rows <= MAX_ROWS or weight.size < MIN_SIZE or not weight.flags.c_contiguous:
        return matmul(x, weight.T)
    if num_rows == 1:
        return np.vecdot(weight, x[0])[None]
    if num_rows <= MAX_DOT_ROWS:
        return np.ascontiguousarray(np.vecdot(weight[:, None], x).T)
    return _in_blocks(x, weight, max(1, min(MAX_BLOCK, MAX_PRODUCT // (num_rows * size))))


def _in_blocks(x: np.ndarray, weight: np.ndarray, block: int) -> np.ndarray:
    """x Wᵀ by blocks of rows of W, and the rows after the last whole block."""
    num_outputs, size = weight.shape
    whole = num_outputs // block * block
    y = np.empty((len(x), num_outputs), x.dtype)
    y[:, :whole] = (weight[:whole].reshape(-1, block, size) @ x.T).reshape(whole, len(x)).T
    if whole < num_outputs:
        y[:, whole:] = x @ weight[whole:].T
    return y
