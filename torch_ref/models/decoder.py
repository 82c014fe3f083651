"""The decoder composed of parts, in PyTorch."""

import math

from torch import nn
from torch.nn import functional as F

from torch_ref import layers
from torch_ref.attention.masks import positions_and_mask
from torch_ref.attention.softcap import softcap
from torch_ref.layers.dropout import Dropout
from torch_ref.layers.positions import sinusoidal_positions
from torch_ref.models.decoder_block import BLOCKS, build_norm

RESIDUAL_PROJECTIONS = ("o_proj.weight", "down_proj.weight", "c_proj.weight")


class Decoder(nn.Module):
    """Embeddings, blocks, norm, head."""

    def __init__(self, config):
        super().__init__()
        self.config = c = config
        self.embed_tokens = nn.Embedding(c.vocab_size, c.d_model)
        if c.positions == "learned":
            self.embed_positions = nn.Embedding(c.context_length, c.d_model)
        self.drop = Dropout(c.dropout)
        attentions = c.attention if isinstance(c.attention, tuple) else [c.attention]
        feed_forwards = c.feed_forward if isinstance(c.feed_forward, tuple) else [c.feed_forward]
        self.layers = nn.ModuleList(
            BLOCKS[c.block](
                c.d_model,
                c.context_length,
                attentions[i % len(attentions)],
                feed_forwards[i % len(feed_forwards)],
                c.norm,
                c.dropout,
                c.residual_multiplier,
            )
            for i in range(c.num_layers)
        )
        self.norm = build_norm(c.norm, c.d_model)
        self.lm_head = nn.Linear(c.d_model, c.vocab_size, bias=False)
        if c.tied:
            self.lm_head.weight = self.embed_tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                depth = 2 * c.num_layers if name.endswith(RESIDUAL_PROJECTIONS) else 1
                nn.init.normal_(parameter, std=0.02 / math.sqrt(depth))

    def forward(self, ids, document_ids=None):
        """The logits."""
        x = self.embed_tokens(ids) * self.config.embedding_multiplier
        positions, _ = positions_and_mask(ids.shape[-1], document_ids, ids.device)
        positions = positions if document_ids is None else positions.squeeze(-2)
        if self.config.positions == "learned":
            x = x + self.embed_positions(positions)
        elif self.config.positions == "sinusoidal":
            x = x + sinusoidal_positions(self.config.context_length, self.config.d_model, dtype=x.dtype)[positions]
        x = self.drop(x)
        for block in self.layers:
            x = block(x, document_ids)
        logits = self.lm_head(self.norm(x)) / self.config.logits_scaling
        return logits if self.config.logits_softcap is None else softcap(logits, self.config.logits_softcap)

    def loss(self, ids, targets, document_ids=None):
        """The mean cross-entropy."""
        return F.cross_entropy(self(ids, document_ids).flatten(0, -2), targets.flatten())

    def aux_loss(self):
        """The auxiliary loss of the routers in the last forward, which is added to the loss in training."""
        networks = [block.mlp for block in self.layers]
        aux_losses = [mlp.aux_loss() for mlp in networks if isinstance(mlp, layers.MixtureOfExperts)]
        return self.config.aux_loss_coef * sum(aux_losses) / max(len(aux_losses), 1)
