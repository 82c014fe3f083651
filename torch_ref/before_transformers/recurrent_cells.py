"""One step of an RNN, a GRU and an LSTM in PyTorch, from the pre-activations of the gates on."""

import torch


def rnn_step(x_gates, h_gates):
    """h′ = tanh(x_gates + h_gates)."""
    return torch.tanh(x_gates + h_gates)


def gru_step(x_gates, h_gates, h):
    """Reset gate r, update gate z, candidate n."""
    x_r, x_z, x_n = x_gates.chunk(3, dim=-1)
    h_r, h_z, h_n = h_gates.chunk(3, dim=-1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    return torch.lerp(torch.tanh(x_n + r * h_n), h, z)


def lstm_step(x_gates, h_gates, c):
    """Input gate i, forget gate f, candidate g, output gate o."""
    i, f, g, o = (x_gates + h_gates).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c
