"""Sequence to sequence in PyTorch: an encoder, and a decoder without attention, with Bahdanau's, or with Luong's."""

import torch
from torch import nn

from torch_ref.before_transformers.additive import AdditiveAttention
from torch_ref.before_transformers.luong import LuongAttention
from torch_ref.before_transformers.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell

RECURRENT = {"rnn": (RNN, RNNCell), "gru": (GRU, GRUCell), "lstm": (LSTM, LSTMCell)}


class Seq2Seq(nn.Module):
    """The logits of every target, from the source and the targets before it."""

    def __init__(self, source_size, target_size, d_embedding, d_hidden, attention="additive", cell="gru"):
        super().__init__()
        self.source_embedding = nn.Embedding(source_size, d_embedding)
        self.encoder = RECURRENT[cell][0](d_embedding, d_hidden)
        self.target_embedding = nn.Embedding(target_size, d_embedding)
        self.decoder = DECODERS[attention](d_embedding, d_hidden, attention, cell)
        self.head = nn.Linear(2 * d_hidden if attention == "additive" else d_hidden, target_size)

    def forward(self, source, inputs, mask=None):
        """The logits."""
        states, *last = self.encoder(self.source_embedding(source), mask=mask)
        return self.head(self.decoder(self.target_embedding(inputs), states, last, mask))


class PlainDecoder(nn.Module):
    """Only the last state of the encoder."""

    def __init__(self, d_embedding, d_hidden, attention, cell):
        super().__init__()
        self.recurrent = RECURRENT[cell][0](d_embedding, d_hidden)

    def forward(self, x, states, state, mask):
        """The states."""
        return self.recurrent(x, *state)[0]


class BahdanauDecoder(nn.Module):
    """Attention before each step."""

    def __init__(self, d_embedding, d_hidden, attention, cell):
        super().__init__()
        self.attention = AdditiveAttention(d_hidden, d_hidden, d_hidden)
        self.cell = RECURRENT[cell][1](d_embedding + d_hidden, d_hidden)

    def forward(self, x, states, state, mask):
        """States and contexts side by side."""
        features = []
        for inputs in x.unbind(dim=-2):
            context = self.attention(state[0].unsqueeze(-2), states, states, mask).squeeze(-2)
            state = self.cell(torch.cat([inputs, context], dim=-1), *state)
            state = state if isinstance(state, tuple) else (state,)
            features.append(torch.cat([state[0], context], dim=-1))
        return torch.stack(features, dim=-2)


class LuongDecoder(nn.Module):
    """Attention after the steps."""

    def __init__(self, d_embedding, d_hidden, attention, cell):
        super().__init__()
        self.recurrent = RECURRENT[cell][0](d_embedding, d_hidden)
        self.attention = LuongAttention(d_hidden, d_hidden, attention)
        self.combine = nn.Linear(2 * d_hidden, d_hidden, bias=False)

    def forward(self, x, states, state, mask):
        """Contexts and states, combined."""
        h = self.recurrent(x, *state)[0]
        context = self.attention(h, states, states, mask)
        return torch.tanh(self.combine(torch.cat([context, h], dim=-1)))


DECODERS = {
    "none": PlainDecoder,
    "additive": BahdanauDecoder,
    "dot": LuongDecoder,
    "general": LuongDecoder,
    "concat": LuongDecoder,
}
