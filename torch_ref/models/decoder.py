"""The decoder of parts in PyTorch."""

import inspect
import math

from torch import nn
from torch.nn import functional as F

from npllm.models import decoder_config
from torch_ref import attention, layers
from torch_ref.attention.masks import positions_and_mask
from torch_ref.layers.dropout import Dropout
from torch_ref.layers.positions import sinusoidal_positions

# the twins of npllm's classes, which have their names
ATTENTIONS = {kind: getattr(attention, made.__name__) for kind, made in decoder_config.ATTENTIONS.items()}
FEED_FORWARDS = {kind: getattr(layers, made.__name__) for kind, made in decoder_config.FEED_FORWARDS.items()}
NORMS = {kind: getattr(layers, made.__name__) for kind, made in decoder_config.NORMS.items()}


class Decoder(nn.Module):
    """Embeddings, blocks, norm, head."""

    def __init__(self, config):
        super().__init__()
        self.config = c = config
        self.embed_tokens = nn.Embedding(c.vocab_size, c.d_model)
        if c.positions == "learned":
            self.embed_positions = nn.Embedding(c.context_length, c.d_model)
        self.drop = Dropout(c.dropout)
        attentions = c.attention if isinstance(c.attention, (list, tuple)) else [c.attention]
        feed_forwards = c.feed_forward if isinstance(c.feed_forward, (list, tuple)) else [c.feed_forward]
        self.layers = nn.ModuleList(
            DecoderBlock(
                c.d_model, c.context_length, attentions[i % len(attentions)], feed_forwards[i % len(feed_forwards)],
                c.norm, c.dropout,
            )
            for i in range(c.num_layers)
        )  # fmt: skip
        self.norm = make(NORMS, c.norm, c.d_model)
        self.lm_head = nn.Linear(c.d_model, c.vocab_size, bias=False)
        if c.tied:
            self.lm_head.weight = self.embed_tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                depth = 2 * c.num_layers if name.endswith(("o_proj.weight", "down_proj.weight", "c_proj.weight")) else 1
                nn.init.normal_(parameter, std=0.02 / math.sqrt(depth))

    def forward(self, ids, document_ids=None):
        """The logits."""
        x = self.embed_tokens(ids)
        positions, _ = positions_and_mask(ids.shape[-1], document_ids, ids.device)
        positions = positions if document_ids is None else positions.squeeze(-2)
        if self.config.positions == "learned":
            x = x + self.embed_positions(positions)
        elif self.config.positions == "sinusoidal":
            x = x + sinusoidal_positions(self.config.context_length, self.config.d_model, dtype=x.dtype)[positions]
        x = self.drop(x)
        for block in self.layers:
            x = block(x, document_ids)
        return self.lm_head(self.norm(x))

    def loss(self, ids, targets, document_ids=None):
        """The mean cross-entropy."""
        return F.cross_entropy(self(ids, document_ids).flatten(0, -2), targets.flatten())

    def aux_loss(self):
        """What the routers of the last forward add to the loss in training."""
        aux_losses = [block.mlp.aux_loss() for block in self.layers if hasattr(block.mlp, "aux_loss")]
        return self.config.aux_loss_coef * sum(aux_losses) / max(len(aux_losses), 1)


class DecoderBlock(nn.Module):
    """Attention, then a feed-forward network, each behind a norm and added to what came in."""

    def __init__(self, d_model, context_length, attention, feed_forward, norm, dropout=0.0):
        super().__init__()
        self.input_layernorm = make(NORMS, norm, d_model)
        self.self_attn = make(ATTENTIONS, attention, d_model, context_length=context_length, dropout=dropout)
        self.drop_1 = Dropout(dropout)
        self.post_attention_layernorm = make(NORMS, norm, d_model)
        self.mlp = make(FEED_FORWARDS, feed_forward, d_model)
        self.drop_2 = Dropout(dropout)

    def forward(self, x, document_ids=None):
        """The value of both halves."""
        x = x + self.drop_1(self.self_attn(self.input_layernorm(x), document_ids))
        return x + self.drop_2(self.mlp(self.post_attention_layernorm(x)))


def make(table, choice, d_model, **common):
    """Build what was chosen."""
    made = table[choice["kind"]]
    accepted = inspect.signature(made).parameters
    options = {name: value for name, value in choice.items() if name != "kind"}
    return made(d_model, **options, **{name: value for name, value in common.items() if name in accepted})
