"""The same formula on blocks of rows: the temporary arrays of a block stay in the processor's cache.

    y = formula(x)                one pass over all of x for each operation; every temporary goes through main memory
    y = map_rows(formula, x)      y[i:j] = formula(x[i:j]) for each block of rows i:j, the blocks dealt out to threads

A formula of ten operations on an array of 25 MB reads and writes main memory ten times. On blocks of BLOCK_SIZE numbers
(384 KB in float32) it does so once, since a temporary fits the L2 cache of a core, and several threads compute several
blocks at once. The formula is not changed: it must treat each row by itself. Small arrays take the first form.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from npllm.core.threads import parallel

BLOCK_SIZE = 98304  # numbers in a block
MIN_SIZE = 2 * BLOCK_SIZE  # smaller arrays are one block


def map_elements(formula: Callable, *arrays: np.ndarray) -> Any:
    """formula(*arrays) for a formula that treats each number by itself      (...), (...) → (...)

    The arrays must have one shape. The formula returns an array of this shape, or a tuple of them.
    """
    if arrays[0].size < MIN_SIZE:
        return formula(*arrays)
    shape = arrays[0].shape
    results = _map_blocks(formula, [array.reshape(-1) for array in arrays], BLOCK_SIZE, 0)
    return _each(results, lambda result: result.reshape(shape))


def map_rows(formula: Callable, *arrays: np.ndarray, num_sums: int = 0, axis: int = -1) -> Any:
    """formula(*arrays) for a formula that treats each row, the last axis, by itself      (..., N), … → (..., M), …

    The further arrays and the results have the axes of the first one before its last axis, and then any others. The
    last `num_sums` results are sums over all rows instead; those of the blocks are added in order. If the formula works
    along another axis than −1, all is one block.
    """
    first = arrays[0]
    if first.size < MIN_SIZE or axis != -1:
        return formula(*arrays)
    leading = first.shape[:-1]
    rows = [array.reshape((-1, *array.shape[len(leading) :])) for array in arrays]
    results = _map_blocks(formula, rows, max(1, BLOCK_SIZE // first.shape[-1]), num_sums)
    if not isinstance(results, tuple):
        return results.reshape(leading + results.shape[1:])
    whole = len(results) - num_sums
    return *(result.reshape(leading + result.shape[1:]) for result in results[:whole]), *results[whole:]


def update_elements(formula: Callable, *arrays: np.ndarray) -> None:
    """formula(*arrays) for a formula that writes into its arguments and treats each number by itself

    The arrays must have one shape. Those that are not contiguous are one block.
    """
    if arrays[0].size < MIN_SIZE or not all(array.flags.c_contiguous for array in arrays):
        formula(*arrays)
        return
    flat = [array.reshape(-1) for array in arrays]
    step = BLOCK_SIZE
    parallel(lambda start: formula(*(array[start : start + step] for array in flat)), range(0, len(flat[0]), step))


def sum_elements(formula: Callable, array: np.ndarray) -> float:
    """Σ formula(block) over blocks of the flattened array, added in order."""
    flat = array.reshape(-1)
    if flat.size < MIN_SIZE:
        return float(formula(flat))
    step = BLOCK_SIZE
    return float(sum(parallel(lambda start: formula(flat[start : start + step]), range(0, len(flat), step))))


def _map_blocks(formula: Callable, arrays: list[np.ndarray], step: int, num_sums: int) -> Any:
    """The formula on arrays[:][i : i + step]; the results of the blocks put together."""
    count = len(arrays[0])
    first = formula(*(array[:step] for array in arrays))
    parts = first if isinstance(first, tuple) else (first,)
    whole = len(parts) - num_sums
    outs = [np.empty((count, *part.shape[1:]), part.dtype) for part in parts[:whole]]

    def store(start: int, results: Any) -> tuple[np.ndarray, ...]:
        results = results if isinstance(results, tuple) else (results,)
        for out, result in zip(outs, results):
            out[start : start + step] = result
        return results[whole:]

    def run(start: int) -> tuple[np.ndarray, ...]:
        return store(start, formula(*(array[start : start + step] for array in arrays)))

    sums = [store(0, first), *parallel(run, range(step, count, step))]
    outs += [sum(blocks[1:], start=blocks[0]) for blocks in zip(*sums)]
    return tuple(outs) if isinstance(first, tuple) else outs[0]


def _each(results: Any, function: Callable) -> Any:
    return tuple(map(function, results)) if isinstance(results, tuple) else function(results)
