"""The blocks of the decoder in PyTorch. A configuration is read as data, by the name of its class."""

from torch import nn

from torch_ref import attention, layers
from torch_ref.layers.dropout import Dropout


class DecoderBlock(nn.Module):
    """Attention, then a feed-forward network, each with a norm before it and a residual connection around it."""

    norm_names = ("input_layernorm", "post_attention_layernorm")

    def __init__(self, d_model, context_length, attention, feed_forward, norm, dropout=0.0, residual_multiplier=1.0):
        super().__init__()
        self.residual_multiplier = residual_multiplier
        for name in self.norm_names:
            self.add_module(name, build_norm(norm, d_model))
        self.self_attn = build_attention(attention, d_model, context_length, dropout)
        self.drop_1 = Dropout(dropout)
        self.mlp = build_feed_forward(feed_forward, d_model)
        self.drop_2 = Dropout(dropout)

    def forward(self, x, document_ids=None):
        """The output of both halves."""
        x = x + self.residual_multiplier * self.drop_1(self.self_attn(self.input_layernorm(x), document_ids))
        return x + self.residual_multiplier * self.drop_2(self.mlp(self.post_attention_layernorm(x)))


class PostNormBlock(DecoderBlock):
    """Each norm is applied to the output of a layer."""

    norm_names = ("post_attention_layernorm", "post_feedforward_layernorm")

    def forward(self, x, document_ids=None):
        """The output of both halves."""
        x = x + self.drop_1(self.post_attention_layernorm(self.self_attn(x, document_ids)))
        return x + self.drop_2(self.post_feedforward_layernorm(self.mlp(x)))


class SandwichNormBlock(DecoderBlock):
    """A norm before each layer and another one after it."""

    norm_names = (
        "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
    )  # fmt: skip

    def forward(self, x, document_ids=None):
        """The output of both halves."""
        h = self.self_attn(self.input_layernorm(x), document_ids)
        x = x + self.drop_1(self.post_attention_layernorm(h))
        h = self.mlp(self.pre_feedforward_layernorm(x))
        return x + self.drop_2(self.post_feedforward_layernorm(h))


class ParallelBlock(DecoderBlock):
    """Both layers read the input of the block, each through its own norm."""

    def forward(self, x, document_ids=None):
        """The input plus both outputs."""
        attended = self.drop_1(self.self_attn(self.input_layernorm(x), document_ids))
        return x + attended + self.drop_2(self.mlp(self.post_attention_layernorm(x)))


class SharedNormBlock(DecoderBlock):
    """Both layers read the input of the block through one norm."""

    norm_names = ("input_layernorm",)

    def forward(self, x, document_ids=None):
        """The input plus both outputs."""
        h = self.input_layernorm(x)
        return x + self.drop_1(self.self_attn(h, document_ids)) + self.drop_2(self.mlp(h))


BLOCKS = {
    "pre_norm": DecoderBlock,
    "post_norm": PostNormBlock,
    "sandwich_norm": SandwichNormBlock,
    "parallel": ParallelBlock,
    "shared_norm": SharedNormBlock,
}


def build_norm(config, d_model):
    """The layer of a Norm."""
    eps = {} if config.eps is None else {"eps": config.eps}
    if config.kind == "layer_norm":
        return layers.LayerNorm(d_model, bias=config.bias, elementwise_affine=config.affine, **eps)
    return layers.RMSNorm(d_model, unit_offset=config.unit_offset, **eps)


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
