"""torch.nn's recurrent cells and layers, with any leading dimensions, states as separate arguments, and a mask."""

import torch
from torch import nn


class RNNCell(nn.RNNCell):
    """nn.RNNCell, for any leading dimensions."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)

    def forward(self, x, h=None):
        """The new state."""
        return _step(super().forward, x, h)[0]


class GRUCell(nn.GRUCell):
    """nn.GRUCell, for any leading dimensions."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)

    def forward(self, x, h=None):
        """The new state."""
        return _step(super().forward, x, h)[0]


class LSTMCell(nn.LSTMCell):
    """nn.LSTMCell, for any leading dimensions; h and c are two arguments."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)

    def forward(self, x, h=None, c=None):
        """The new hidden state and cell state."""
        h, c = _initial([h, c], x.shape[:-1], self)
        return _step(lambda row, h, c: super(LSTMCell, self).forward(row, (h, c)), x, h, c)


class RNN(nn.RNN):
    """nn.RNN with a mask for padding."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, batch_first=True)

    def forward(self, x, h=None, *, mask=None):
        """All states, then the last one."""
        return _unroll(super().forward, x, _initial([h], x.shape[:-2], self), mask)


class GRU(nn.GRU):
    """nn.GRU with a mask for padding."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, batch_first=True)

    def forward(self, x, h=None, *, mask=None):
        """All states, then the last one."""
        return _unroll(super().forward, x, _initial([h], x.shape[:-2], self), mask)


class LSTM(nn.LSTM):
    """nn.LSTM with a mask for padding; h and c are two arguments."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, batch_first=True)

    def forward(self, x, h=None, c=None, *, mask=None):
        """All hidden states, then the last hidden state and the last cell state."""
        return _unroll(super().forward, x, _initial([h, c], x.shape[:-2], self), mask)


def _initial(state, batch, layer):
    """The initial states, zeros for None."""
    zeros = next(layer.parameters()).new_zeros(*batch, layer.hidden_size)
    return [zeros if part is None else part for part in state]


def _step(cell, x, *state):
    """One step of a cell that takes rows (N, I); the results get the leading dimensions of x."""
    batch = x.shape[:-1]
    rows = [None if part is None else part.reshape(-1, part.shape[-1]) for part in (x, *state)]
    new = cell(*rows)
    return tuple(part.reshape(*batch, -1) for part in (new if isinstance(new, tuple) else (new,)))


def _unroll(run, x, state, mask):
    """Run torch.nn's layer on the whole sequence; with a mask step by step, keeping the old state where it is False."""
    batch, length = x.shape[:-2], x.shape[-2]
    x = x.reshape(-1, *x.shape[-2:])
    state = tuple(part.reshape(1, len(x), -1) for part in state)
    if mask is None:
        states, state = _run(run, x, state)
    else:
        mask, states = mask.reshape(1, -1, length, 1), []
        for t in range(length):
            _, new = _run(run, x[:, t : t + 1], state)
            state = tuple(torch.where(mask[:, :, t], part, old) for part, old in zip(new, state))
            states.append(state[0][0])
        states = torch.stack(states, dim=1)
    return states.reshape(*batch, length, -1), *(part.reshape(*batch, -1) for part in state)


def _run(run, x, state):
    """Run torch.nn's layer; its state is a tuple for an LSTM and an array for the others, here always a tuple."""
    states, new = run(x, state if len(state) > 1 else state[0])
    return states, new if isinstance(new, tuple) else (new,)
