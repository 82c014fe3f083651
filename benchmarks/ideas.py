"""The ideas that make NumPy fast, one at a time: each row adds one idea to the row above it.

    the formula      as one writes it first (plain_numpy.py)
    blocks           the same formula on blocks of rows of 64K numbers: the temporaries stay in the L2 cache
    threads          the blocks on all cores: NumPy's loops release the global interpreter lock
    …                and what belongs to one function alone

npllm has what its functions do today; the other contenders are the ideas in a few lines each.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from benchmarks import plain_numpy
from benchmarks.limits import FLOAT32, Work, as_squares
from benchmarks.measure import Job
from npllm import functional as F
from npllm.core.module import Parameter
from npllm.core.threads import limit_threads
from npllm.training import AdamW

PREFIX = "idea: "
BLOCK = 65536  # numbers
TILE = 128  # queries
POOL = ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
FIRST, BLOCKS, THREADS = "the formula", "in blocks", "blocks on threads"


def jobs(
    hidden=(2048, 3072), scores=(4096, 1024), length=1024, heads=12, rows=50257, num_ids=4096, weights=50257 * 768
):
    """All functions; the arguments are sizes."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(hidden, dtype=np.float32)
    yield _row_wise("x³ in GELU", x, lambda x: x * x * x, {"x ** 3": lambda x: x**3, "x * x * x": lambda x: x * x * x})
    yield _row_wise("GELU tanh", x, lambda x: F.gelu(x, approximate="tanh"), {FIRST: plain_numpy.gelu}, _torch_gelu(x))
    forms = {f"{FIRST} with np.where": plain_numpy.sigmoid, "one formula without np.where": sigmoid}
    yield _row_wise("sigmoid", x, F.sigmoid, forms, lambda: torch.sigmoid(torch.from_numpy(x)).numpy())
    x = rng.standard_normal(scores, dtype=np.float32)
    fused = lambda: torch.softmax(torch.from_numpy(x), -1).numpy()  # noqa: E731
    yield _row_wise("softmax", x, F.softmax, {FIRST: plain_numpy.softmax}, fused)
    yield _attention(rng, heads, length)
    yield _embedding(rng, rows, num_ids)
    yield _adamw(rng, weights)


def sigmoid(x):
    """exp(min(x, 0)) / (1 + exp(−|x|)): the same as with np.where, without a branch for each number."""
    return np.exp(np.minimum(x, 0)) / (1.0 + np.exp(-np.abs(x)))


def row_blocks(x):
    """Slices of the rows of x, each of about BLOCK numbers."""
    step = max(1, BLOCK // x.shape[-1])
    return [slice(start, start + step) for start in range(0, len(x), step)]


def in_blocks(function, x, each=map):
    """function(x), computed block by block; `each` may be the `map` of a pool of threads."""
    y = np.empty_like(x)

    def fill(rows):
        y[rows] = function(x[rows])

    for _ in each(fill, row_blocks(x)):
        pass
    return y


def _row_wise(name, x, ours, forms, theirs=None):
    """The job of a function of one array: its forms, then the last form in blocks and on threads."""
    contenders = {form: lambda function=function: function(x) for form, function in forms.items()}
    if theirs is not None:
        *_, last = forms.values()
        contenders |= {
            BLOCKS: lambda: in_blocks(last, x),
            THREADS: lambda: in_blocks(last, x, POOL.map),
            "PyTorch": theirs,
        }
    work = Work(traffic=2 * x.size * FLOAT32)
    return Job(f"{PREFIX}{name}", " × ".join(f"{n:,}" for n in x.shape), lambda: ours(x), contenders, work=work)


def _torch_gelu(x):
    return lambda: torch.nn.functional.gelu(torch.from_numpy(x), approximate="tanh").numpy()


def tiled_head(q, k, v, y, scores=None):
    """Causal attention of one head, TILE queries at a time, each with the keys of its prefix alone.

    Without `scores`, memory for them, every step makes a new array; with it, all are in place.
    """
    scale, diagonal = 1.0 / math.sqrt(q.shape[-1]), np.triu_indices(TILE, 1)
    for start in range(0, len(q), TILE):
        stop = min(start + TILE, len(q))
        above = diagonal if stop - start == TILE else np.triu_indices(stop - start, 1)
        if scores is None:
            tile = (q[start:stop] * scale) @ k[:stop].T
            tile[:, start:][above] = -np.inf
            weights = plain_numpy.softmax(tile)
        else:
            weights = scores[: (stop - start) * stop].reshape(stop - start, stop)
            np.matmul(q[start:stop] * scale, k[:stop].T, out=weights)
            weights[:, start:][above] = -np.inf
            weights -= weights.max(axis=-1, keepdims=True)
            np.exp(weights, out=weights)
            weights /= weights.sum(axis=-1, keepdims=True)
        y[start:stop] = weights @ v[:stop]


def tiled_attention(q, k, v, in_place=False, each=map):
    """Causal attention in tiles, head by head, or with the heads on threads."""
    y = np.empty_like(v)

    def compute(head):
        scores = np.empty(TILE * q.shape[-2], q.dtype) if in_place else None
        tiled_head(q[head], k[head], v[head], y[head], scores)

    for _ in each(compute, range(len(q))):
        pass
    return y


def _attention(rng, heads, length):
    q, k, v = rng.standard_normal((3, heads, length, 64), dtype=np.float32)
    tensors = [torch.from_numpy(x)[None] for x in (q, k, v)]

    def on_threads():
        with limit_threads(1):  # each thread has its own products; more threads would share two cores
            return tiled_attention(q, k, v, True, POOL.map)

    return Job(
        f"{PREFIX}causal attention",
        f"{heads} heads × {length:,} × 64",
        lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        {
            FIRST: lambda: plain_numpy.attention(q, k, v),
            "tiles of the causal prefix": lambda: tiled_attention(q, k, v),
            "tiles in place": lambda: tiled_attention(q, k, v, True),
            "heads on threads": on_threads,
            "PyTorch": lambda: torch.nn.functional.scaled_dot_product_attention(*tensors, is_causal=True)[0].numpy(),
        },
        work=Work(as_squares(2.0 * heads * length * length * 64)),
    )


def sorted_gradient(ids, dy, num_rows):
    """The embedding gradient by sorting: equal ids are neighbours, and np.add.reduceat sums them."""
    order = np.argsort(ids, kind="stable")
    found, starts = np.unique(ids[order], return_index=True)
    dweight = np.zeros((num_rows, dy.shape[-1]), dy.dtype)
    dweight[found] = np.add.reduceat(dy[order], starts, axis=0)
    return dweight


def _embedding(rng, num_rows, num_ids):
    ids, dy = rng.zipf(1.2, num_ids) % num_rows, rng.standard_normal((num_ids, 768), dtype=np.float32)
    ids_t, dy_t = torch.from_numpy(ids), torch.from_numpy(dy)
    _, cache = F.embedding_forward(ids, np.zeros((num_rows, 768), np.float32))
    return Job(
        f"{PREFIX}embedding backward",
        f"{num_ids:,} ids, V = {num_rows:,}, C = 768",
        lambda: F.embedding_backward(dy, cache),
        {
            f"{FIRST} with np.add.at": lambda: plain_numpy.embedding_gradient(ids, dy, num_rows),
            "sort and np.add.reduceat": lambda: sorted_gradient(ids, dy, num_rows),
            "PyTorch": lambda: torch.zeros(num_rows, 768).index_add_(0, ids_t, dy_t).numpy(),
        },
        work=Work(traffic=FLOAT32 * 768 * (num_rows + 3.0 * num_ids)),
    )


def _adamw(rng, number):
    g = rng.standard_normal(number, dtype=np.float32)
    options = (1e-4, 0.9, 0.95, 1e-8, 0.1)
    parameter = Parameter(np.zeros(number, np.float32))
    parameter.grad = g
    ours = AdamW({"w": parameter}, options[0], options[1:3], options[3], options[4])
    tensor = torch.nn.Parameter(torch.zeros(number))
    tensor.grad = torch.from_numpy(g)
    theirs = torch.optim.AdamW([tensor], options[0], options[1:3], options[3], options[4], fused=True)

    def contender(each=None):
        arrays = [np.zeros(number, np.float32) for _ in range(3)]  # weights and both averages

        def update(part):
            w, m, v = (array[part] for array in arrays)
            plain_numpy.adamw(w, g[part], m, v, *options)

        def run():
            parts = [slice(start, start + BLOCK) for start in range(0, number, BLOCK)]
            for _ in map(update, [slice(None)]) if each is None else each(update, parts):
                pass

        return run

    return Job(
        f"{PREFIX}AdamW",
        f"{number:,} parameters",
        ours.step,
        {FIRST: contender(), BLOCKS: contender(map), THREADS: contender(POOL.map), "PyTorch": lambda: theirs.step()},
        agree=lambda result, ours: None,  # they return nothing; tests compare the functions
        work=Work(traffic=7.0 * number * FLOAT32),
    )
