"""The decoder composed of parts, in PyTorch. A configuration is read as data, by the name of its class."""

import math

from torch import nn
from torch.nn import functional as F

from torch_ref import attention, layers
from torch_ref.attention.masks import positions_and_mask
from torch_ref.layers.dropout import Dropout
from torch_ref.layers.positions import sinusoidal_positions

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
            DecoderBlock(
                c.d_model,
                c.context_length,
                attentions[i % len(attentions)],
                feed_forwards[i % len(feed_forwards)],
                c.norm,
                c.dropout,
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
        """The auxiliary loss of the routers in the last forward, which is added to the loss in training."""
        networks = [block.mlp for block in self.layers]
        aux_losses = [mlp.aux_loss() for mlp in networks if isinstance(mlp, layers.MixtureOfExperts)]
        return self.config.aux_loss_coef * sum(aux_losses) / max(len(aux_losses), 1)


class DecoderBlock(nn.Module):
    """Attention, then a feed-forward network, each with a norm before it and a residual connection around it."""

    def __init__(self, d_model, context_length, attention, feed_forward, norm, dropout=0.0):
        super().__init__()
        self.input_layernorm = build_norm(norm, d_model)
        self.self_attn = build_attention(attention, d_model, context_length, dropout)
        self.drop_1 = Dropout(dropout)
        self.post_attention_layernorm = build_norm(norm, d_model)
        self.mlp = build_feed_forward(feed_forward, d_model)
        self.drop_2 = Dropout(dropout)

    def forward(self, x, document_ids=None):
        """The output of both halves."""
        x = x + self.drop_1(self.self_attn(self.input_layernorm(x), document_ids))
        return x + self.drop_2(self.mlp(self.post_attention_layernorm(x)))


def build_norm(config, d_model):
    """The layer of a Norm."""
    norm = {"layer_norm": layers.LayerNorm, "rms_norm": layers.RMSNorm}[config.kind]
    return norm(d_model) if config.eps is None else norm(d_model, config.eps)


def build_feed_forward(config, d_model):
    """The layer of an MLP, a GatedMLP or an MoE."""
    networks = {"MLP": layers.FeedForward, "GatedMLP": layers.GatedFeedForward, "MoE": layers.MixtureOfExperts}
    return networks[type(config).__name__](d_model, **vars(config))


def build_attention(config, d_model, context_length, dropout):
    """The layer of a GQA, MLA, Shaw, Differential, LinearAttn or Delta; the last two have no dropout."""
    kind = type(config).__name__
    if kind == "LinearAttn":
        return attention.LinearAttention(d_model, context_length, **vars(config))
    if kind == "Delta":
        return attention.DeltaNet(d_model, context_length, **vars(config))
    softmax_attentions = {
        "GQA": attention.GroupedQueryAttention,
        "MLA": attention.MultiHeadLatentAttention,
        "Shaw": attention.ShawAttention,
        "Differential": attention.DifferentialAttention,
    }
    return softmax_attentions[kind](d_model, context_length, dropout, **vars(config))
