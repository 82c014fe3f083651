"""Linear attention in PyTorch."""

from torch import nn

from torch_ref.functional.linear_attention import elu_plus_one, linear_attention


class LinearAttention(nn.Module):
    """Features of queries and keys, and running sums; `form` changes no value."""

    def __init__(self, d_model, context_length, num_heads, form="parallel"):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(d_model, d_model, bias=False)
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_model, bias=False)
        self.o_proj = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, documents=None):
        """The projected context vectors."""
        queries, keys, values = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        documents = None if documents is None else documents[..., None, :]
        context = linear_attention(elu_plus_one(queries), elu_plus_one(keys), values, documents)
        return self.o_proj(context.transpose(-3, -2).flatten(-2))
