"""One step of a recurrent network: what was remembered meets what is new.

    x_t → [+ h_(t−1)] → h_t → [+ x_(t+1)] → h_(t+1) → …      the same step at every position

Before attention, a network read a text as we hear it: one token after the other, with a state `h` that carries all
that is known so far. Two linear maps prepare each step, `a` from the input and `u` from the state; here is what follows
them, number by number. The plain network squeezes its whole memory through tanh at every step, and the gradient with
it. Gates, numbers between 0 and 1 that the network computes for itself, let a memory pass unchanged.

Elman 1990, Finding Structure in Time; Hochreiter, Schmidhuber 1997, Long Short-Term Memory; its forget gate: Gers,
Schmidhuber, Cummins 2000; Cho et al. 2014 (the GRU). The order of the gates is that of torch.nn.
"""

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_gradient, check_size
from npllm.layers.activations import sigmoid


def rnn_step(a, u):
    """h′ = tanh(a + u)      (..., H), (..., H) → (..., H)"""
    return rnn_step_forward(a, u)[0]


def rnn_step_forward(a, u):
    """The value, which is all that the derivative needs."""
    a, u = as_floats(a=a, u=u)
    check_size("the shape of a", a.shape, **{"the shape of u": u.shape})
    h = np.tanh(a + u)
    return h, Cache(h=h)


def rnn_step_backward(dh, cache):
    """da = du = dh′ (1 − h′²)      (..., H) → (..., H), (..., H)

    tanh′ = 1 − tanh². It is below 1 nearly everywhere: over many steps the gradient fades.
    """
    h = cache.h
    da = check_gradient(dh, h.shape, h.dtype) * (1.0 - h * h)
    return da, da.copy()


def gru_step(a, u, h):
    """h′ = (1 − z) · n + z · h      (..., 3H), (..., 3H), (..., H) → (..., H)

    a and u hold three blocks each, [r | z | n]:

    r = σ(aᵣ + uᵣ)           reset: how much of the state the proposal may use
    z = σ(a_z + u_z)         update: how much of the state stays as it is
    n = tanh(aₙ + r · uₙ)    the proposal
    """
    return gru_step_forward(a, u, h)[0]


def gru_step_forward(a, u, h):
    """The value, and in the cache the gates, the proposal, and what they were multiplied with."""
    a, u, h = as_floats(a=a, u=u, h=h)
    _check_blocks(3, h, "h", a=a, u=u)
    (a_r, a_z, a_n), (u_r, u_z, u_n) = np.split(a, 3, axis=-1), np.split(u, 3, axis=-1)
    r = sigmoid(a_r + u_r)
    z = sigmoid(a_z + u_z)
    n = np.tanh(a_n + r * u_n)
    return (1.0 - z) * n + z * h, Cache(r=r, z=z, n=n, u_n=u_n, h=h)


def gru_step_backward(dy, cache):
    """dh = dh′ z, and da, du block by block      (..., H) → (..., 3H), (..., 3H), (..., H)

    h′ = (1 − z) n + z h      so  dz = dh′ (h − n),  dn = dh′ (1 − z),  dh = dh′ z: with z = 1 it passes unharmed.
    n = tanh(aₙ + r uₙ)       so with dp = dn (1 − n²):  daₙ = dp,  duₙ = dp r,  dr = dp uₙ.
    r and z are sigmoids      of a sum, so da = du = dr r (1 − r) and dz z (1 − z).
    """
    r, z, n, h = cache.r, cache.z, cache.n, cache.h
    dy = check_gradient(dy, h.shape, h.dtype)
    dp_n = dy * (1.0 - z) * (1.0 - n * n)
    dp_z = dy * (h - n) * z * (1.0 - z)
    dp_r = dp_n * cache.u_n * r * (1.0 - r)
    da = np.concatenate([dp_r, dp_z, dp_n], axis=-1)
    du = np.concatenate([dp_r, dp_z, dp_n * r], axis=-1)
    return da, du, dy * z


def lstm_step(a, u, c):
    """h′ = o · tanh(c′),  c′ = f · c + i · g      (..., 4H), (..., 4H), (..., H) → (..., H), (..., H)

    a + u holds four blocks, [i | f | g | o]:

    i = σ(…)       input gate: how much of the proposal is written
    f = σ(…)       forget gate: how much of the cell is kept
    g = tanh(…)    the proposal
    o = σ(…)       output gate: how much of the cell is shown

    The cell c is the memory; the state h is what the rest of the network sees of it.
    """
    return lstm_step_forward(a, u, c)[0]


def lstm_step_forward(a, u, c):
    """State and cell, and in the cache the gates, the proposal, the old cell and the tanh of the new one."""
    a, u, c = as_floats(a=a, u=u, c=c)
    _check_blocks(4, c, "c", a=a, u=u)
    p_i, p_f, p_g, p_o = np.split(a + u, 4, axis=-1)
    i, f, g, o = sigmoid(p_i), sigmoid(p_f), np.tanh(p_g), sigmoid(p_o)
    new_c = f * c + i * g
    shown = np.tanh(new_c)
    return (o * shown, new_c), Cache(i=i, f=f, g=g, o=o, c=c, shown=shown)


def lstm_step_backward(dy, cache):
    """dc = f · (dc′ + dh′ o (1 − tanh² c′)), and da = du      (..., H), (..., H) → (..., 4H), (..., 4H), (..., H)

    h′ = o tanh(c′)      so  do = dh′ tanh(c′), and c′ gets dh′ o (1 − tanh² c′) on top of what the next step sends.
    c′ = f c + i g       so with dc′ the sum of both:  df = dc′ c,  di = dc′ g,  dg = dc′ i,  dc = dc′ f.
    From cell to cell the gradient meets one factor alone, the forget gate: open, it lets the gradient through.
    """
    i, f, g, o, shown = cache.i, cache.f, cache.g, cache.o, cache.shown
    dh, dc = (check_gradient(gradient, f.shape, f.dtype) for gradient in dy)
    dc = dc + dh * o * (1.0 - shown * shown)
    dp_i = dc * g * i * (1.0 - i)
    dp_f = dc * cache.c * f * (1.0 - f)
    dp_g = dc * i * (1.0 - g * g)
    dp_o = dh * shown * o * (1.0 - o)
    da = np.concatenate([dp_i, dp_f, dp_g, dp_o], axis=-1)
    return da, da.copy(), dc * f


def _check_blocks(blocks, state, name, **sums):
    """Raise ValueError unless a and u have the state's shape, `blocks` times as wide."""
    if state.ndim == 0:
        raise ValueError(f"{name} is a single number; its last axis must hold the H numbers of the state")
    expected = (*state.shape[:-1], blocks * state.shape[-1])
    what = f"that of {name}, {blocks} blocks wide"
    check_size(what, expected, **{f"the shape of {key}": array.shape for key, array in sums.items()})
