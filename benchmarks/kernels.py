"""The functions between the matrix products, at GPT-2's sizes, and the matrix product itself.

Forward for activations and softmax; forward and backward for the norms and cross-entropy.
"""

import numpy as np
import torch
import torch.nn.functional as TF

from benchmarks.limits import FLOAT32, Work
from benchmarks.measure import Job
from benchmarks.torch_variants import BF16, COMPILED, EAGER, bf16, close_workers, variants
from npllm import functional as F

ACTIVATIONS = {
    "GELU tanh": (lambda x: F.gelu(x, approximate="tanh"), lambda x: TF.gelu(x, approximate="tanh")),
    "GELU erf": (F.gelu, TF.gelu),
    "SiLU": (F.silu, TF.silu),
    "sigmoid": (F.sigmoid, torch.sigmoid),
}


def jobs(side=2048, hidden=(2048, 3072), scores=(4096, 1024), states=(2048, 768), logits=(512, 50257), quick=False):
    """All of them; the arguments are shapes."""
    rng = np.random.default_rng(0)
    yield from _product(side)
    x = rng.standard_normal(hidden, dtype=np.float32)
    for name, (ours, theirs) in ACTIVATIONS.items():
        yield _forward(f"{name} forward", x, ours, theirs, quick)
    x = rng.standard_normal(scores, dtype=np.float32)
    yield _forward("softmax forward", x, F.softmax, lambda x: torch.softmax(x, -1), quick)
    yield from _norms(rng, states, quick)
    yield _cross_entropy(rng, logits, quick)


def torch_product(side):
    """PyTorch's product of two square matrices, as a contender of a Worker."""
    a, b = (torch.from_numpy(x) for x in _matrices(side))
    return lambda: (a @ b).numpy()


def _matrices(side):
    return np.random.default_rng(0).standard_normal((2, side, side), dtype=np.float32)


def _product(side):
    a, b = _matrices(side)
    a_t, b_t = torch.from_numpy(a), torch.from_numpy(b)
    contenders, skipped = variants(
        {EAGER: lambda: lambda: (a_t @ b_t).numpy(), BF16: lambda: bf16(lambda: (a_t @ b_t).float().numpy())},
        ("benchmarks.kernels:torch_product", {"side": side}),
    )
    work = Work(((1, side, side, side),))
    yield Job("matrix product", f"{side:,}²", lambda: a @ b, contenders, skipped=skipped, work=work)
    close_workers(contenders)


def _forward(name, x, ours, theirs, quick):
    x_t = torch.from_numpy(x)

    def contender(function):
        return lambda: function(x_t).numpy()

    contenders, skipped = variants(
        {EAGER: lambda: contender(theirs), COMPILED: lambda: contender(torch.compile(theirs))}, quick=quick
    )
    work = Work(traffic=2 * x.size * FLOAT32)
    return Job(name, _size(x.shape), lambda: ours(x), contenders, skipped=skipped, work=work)


def _norms(rng, shape, quick):
    x, dy = rng.standard_normal((2, *shape), dtype=np.float32)
    weight, bias = rng.standard_normal((2, shape[-1]), dtype=np.float32)
    for name, forward, backward, theirs, parameters in (
        ("layer norm", F.layer_norm_forward, F.layer_norm_backward, TF.layer_norm, (weight, bias)),
        ("RMS norm", F.rms_norm_forward, F.rms_norm_backward, TF.rms_norm, (weight,)),
    ):

        def ours(forward=forward, backward=backward, parameters=parameters):
            y, cache = forward(x, *parameters)
            return y, *backward(dy, cache)

        def of_torch(x, *parameters, theirs=theirs):
            return theirs(x, shape[-1:], *parameters, eps=1e-5)

        contenders, skipped = _with_gradients(of_torch, (x, *parameters), dy, quick)
        work = Work(traffic=5 * x.size * FLOAT32)  # reads x, dy and x again; writes y and dx
        yield Job(f"{name} forward + backward", _size(shape), ours, contenders, skipped=skipped, work=work)


def _cross_entropy(rng, shape, quick):
    logits, targets = rng.standard_normal(shape, dtype=np.float32), rng.integers(0, shape[-1], shape[0])
    targets_t, one = torch.from_numpy(targets), np.ones((), np.float32)

    def ours():
        loss, cache = F.cross_entropy_forward(logits, targets)
        return np.asarray(loss, np.float32), F.cross_entropy_backward(1.0, cache)

    contenders, skipped = _with_gradients(lambda x: TF.cross_entropy(x, targets_t), (logits,), one, quick)
    work = Work(traffic=3 * logits.size * FLOAT32)  # reads the logits twice, writes their gradient
    return Job(
        "cross-entropy forward + backward", _size(shape), ours, contenders, skipped=skipped, work=work, agree=_agree
    )


def _agree(result, ours):
    """Loss and gradient are equal; the gradient is small, so it is compared relative to its largest element."""
    (loss, dlogits), (our_loss, our_dlogits) = result, ours
    np.testing.assert_allclose(loss, our_loss, rtol=1e-4)
    np.testing.assert_allclose(dlogits, our_dlogits, rtol=1e-3, atol=1e-4 * float(np.abs(our_dlogits).max()))


def _with_gradients(function, inputs, dy, quick):
    """The contenders of function(*inputs) forward and backward: y and the gradients of all inputs."""
    inputs, dy = [torch.from_numpy(x).requires_grad_() for x in inputs], torch.from_numpy(dy)

    def contender(function):
        def run():
            y = function(*inputs)
            return (y.detach().numpy(), *(g.numpy() for g in torch.autograd.grad(y, inputs, dy)))

        return run

    return variants(
        {EAGER: lambda: contender(function), COMPILED: lambda: contender(torch.compile(function))}, quick=quick
    )


def _size(shape):
    return " × ".join(f"{n:,}" for n in shape)
