"""Sequence to sequence in PyTorch: an encoder, and a decoder without attention, with Bahdanau's, or with Luong's."""

import torch
from torch import nn

from torch_ref.before_transformers.additive import AdditiveAttention
from torch_ref.before_transformers.luong import ConcatAttention, DotAttention, GeneralAttention
from torch_ref.before_transformers.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell


class Seq2Seq(nn.Module):
    """The logits of every target, from the source and the targets before it."""

    def __init__(
        self, source_vocab_size, target_vocab_size, embedding_dim, hidden_size, attention="additive", cell="gru"
    ):
        super().__init__()
        layer = {"rnn": RNN, "gru": GRU, "lstm": LSTM}[cell]
        self.source_embedding = nn.Embedding(source_vocab_size, embedding_dim)
        self.encoder = layer(embedding_dim, hidden_size)
        self.target_embedding = nn.Embedding(target_vocab_size, embedding_dim)
        if attention == "none":
            self.decoder = PlainDecoder(layer(embedding_dim, hidden_size))
        elif attention == "additive":
            cell = {"rnn": RNNCell, "gru": GRUCell, "lstm": LSTMCell}[cell]
            self.decoder = BahdanauDecoder(cell(embedding_dim + hidden_size, hidden_size))
        else:
            scored = {
                "dot": lambda: DotAttention(),
                "general": lambda: GeneralAttention(hidden_size, hidden_size),
                "concat": lambda: ConcatAttention(hidden_size, hidden_size),
            }[attention]()
            self.decoder = LuongDecoder(layer(embedding_dim, hidden_size), scored)
        self.head = nn.Linear(2 * hidden_size if attention == "additive" else hidden_size, target_vocab_size)

    def forward(self, source, inputs, *, mask=None):
        """The logits."""
        states, *last = self.encoder(self.source_embedding(source), mask=mask)
        return self.head(self.decoder(self.target_embedding(inputs), states, last, mask))


class PlainDecoder(nn.Module):
    """A recurrent layer that starts from the encoder's last state."""

    def __init__(self, recurrent):
        super().__init__()
        self.recurrent = recurrent

    def forward(self, x, states, state, mask):
        """The decoder's states."""
        return self.recurrent(x, *state)[0]


class BahdanauDecoder(nn.Module):
    """Attention before each step; the context is an input of the cell."""

    def __init__(self, cell):
        super().__init__()
        self.attention = AdditiveAttention(cell.hidden_size, cell.hidden_size, cell.hidden_size)
        self.cell = cell

    def forward(self, x, states, state, mask):
        """States and contexts, concatenated."""
        outputs = []
        for inputs in x.unbind(dim=-2):
            context = self.attention(state[0].unsqueeze(-2), states, states, mask=mask).squeeze(-2)
            state = self.cell(torch.cat([inputs, context], dim=-1), *state)
            state = state if isinstance(state, tuple) else (state,)
            outputs.append(torch.cat([state[0], context], dim=-1))
        return torch.stack(outputs, dim=-2)


class LuongDecoder(nn.Module):
    """Attention after the steps; context and state are combined."""

    def __init__(self, recurrent, attention):
        super().__init__()
        self.recurrent = recurrent
        self.attention = attention
        self.combine = nn.Linear(2 * recurrent.hidden_size, recurrent.hidden_size, bias=False)

    def forward(self, x, states, state, mask):
        """tanh(W [context | state])."""
        h = self.recurrent(x, *state)[0]
        context = self.attention(h, states, states, mask=mask)
        return torch.tanh(self.combine(torch.cat([context, h], dim=-1)))
