"""One step of a recurrent network in PyTorch, from the sums on; the layers in torch_ref.layers are torch.nn's own."""

import torch


def rnn_step(a, u):
    """The plain step."""
    return torch.tanh(a + u)


def gru_step(a, u, h):
    """Reset gate, update gate, proposal."""
    a_r, a_z, a_n = a.chunk(3, dim=-1)
    u_r, u_z, u_n = u.chunk(3, dim=-1)
    reset, update = torch.sigmoid(a_r + u_r), torch.sigmoid(a_z + u_z)
    return torch.lerp(torch.tanh(a_n + reset * u_n), h, update)


def lstm_step(a, u, c):
    """Input gate, forget gate, proposal, output gate."""
    write, keep, proposal, show = (a + u).chunk(4, dim=-1)
    c = torch.sigmoid(keep) * c + torch.sigmoid(write) * torch.tanh(proposal)
    return torch.sigmoid(show) * torch.tanh(c), c
