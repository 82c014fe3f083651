"""The inverse of unit triangular matrices, many small ones at once.

    I + N → blocks of 8 × 8 on the diagonal, inverted row by row → pairs of blocks joined → (I + N)⁻¹

For two blocks the inverse follows from their inverses A⁻¹ and C⁻¹ and the block B below the diagonal:

    [A 0]⁻¹   [    A⁻¹       0 ]
    [B C]   = [−C⁻¹ B A⁻¹   C⁻¹]

Both steps are forward substitution in another order. All diagonal blocks of all matrices take the same step at once, so
the number of calls does not depend on their number. LAPACK's general inverse does six times the work.

Golub, Van Loan 2013, Matrix Computations, section 3.1.
"""

import numpy as np

BLOCK = 8  # rows


def unit_lower_inverse(below: np.ndarray) -> np.ndarray:
    """(I + N)⁻¹ of strictly lower triangular matrices N      (G, C, C) → (G, C, C)"""
    count, size = below.shape[0], below.shape[-1]
    padded = BLOCK
    while padded < size:
        padded *= 2
    if padded > size:
        matrices = np.zeros((count, padded, padded), below.dtype)
        matrices[:, :size, :size] = below
    else:
        matrices = np.ascontiguousarray(below)
    inverse = np.zeros_like(matrices)
    _diagonal(inverse, BLOCK)[...] = _substitute(_diagonal(matrices, BLOCK))
    half = BLOCK
    while half < padded:
        known, given = _diagonal(inverse, 2 * half), _diagonal(matrices, 2 * half)
        first, second, corner = known[..., :half, :half], known[..., half:, half:], given[..., half:, :half]
        np.negative(second @ (corner @ first), out=known[..., half:, :half])
        half *= 2
    return inverse[:, :size, :size]


def _diagonal(matrices: np.ndarray, size: int) -> np.ndarray:
    """A view of the blocks on the diagonal: (G, C, C) → (G, C / size, size, size)."""
    count, length = matrices.shape[:2]
    num_blocks = length // size
    return np.einsum("gbibj->gbij", matrices.reshape(count, num_blocks, size, num_blocks, size))


def _substitute(below: np.ndarray) -> np.ndarray:
    """(I + N)⁻¹ by rows: row r is that of I minus Σ_{i<r} N_ri times row i      (G, M, B, B) → (G, M, B, B)

    The matrices are on the last axis, so that each step is one operation on all of them.
    """
    below = np.ascontiguousarray(np.moveaxis(below, (0, 1), (-2, -1)))
    rows = np.zeros_like(below)
    for r in range(BLOCK):
        rows[r, r] = 1
        if r:
            rows[r, :r] = -(below[r, :r, None] * rows[:r, :r]).sum(axis=0)
    return np.moveaxis(rows, (-2, -1), (0, 1))
