"""The configuration of a decoder: one typed object for each of its parts.

    DecoderConfig(
        vocab_size=32000, context_length=2048, d_model=512, num_layers=8,
        attention=GQA(num_heads=8, num_kv_heads=2, rope=RoPE(theta=1e6)),
        feed_forward=GatedMLP(d_hidden=1408),
        norm=Norm("rms_norm"),
    )

Llama is grouped-query attention with rotary positions, RMS norm and a gated feed-forward network. Qwen3 adds a norm of
queries and keys, Mistral a sliding window, Mixtral a mixture of experts. Each configuration builds its layer. The
configurations of published models are in hugging_face.

Touvron et al. 2023, LLaMA, section 2.2; Jiang et al. 2023, Mistral 7B; Yang et al. 2025, Qwen3 Technical Report.
"""

from dataclasses import dataclass
from typing import Any, Literal

from npllm.attention.variants.delta_net import Delta
from npllm.attention.variants.differential import Differential
from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.linear_attention import LinearAttn
from npllm.attention.variants.mla import MLA
from npllm.attention.variants.shaw import Shaw
from npllm.core.checks import check_probability
from npllm.layers.activations import Activation, check_activation
from npllm.layers.feed_forward import FeedForward
from npllm.layers.gated_feed_forward import GatedFeedForward
from npllm.layers.mixture_of_experts import MixtureOfExperts
from npllm.layers.normalization import LayerNorm, RMSNorm
from npllm.models.config_types import check_types

BLOCK_KINDS = ("pre_norm", "post_norm", "sandwich_norm", "parallel", "shared_norm")
NORMS = ("layer_norm", "rms_norm")
FLOAT32_TINY, FLOAT32_MAX = 2.0**-126, (2.0 - 2.0**-23) * 2.0**127  # the limits of its normal numbers


@dataclass(frozen=True)
class Norm:
    """Layer norm or RMS norm.

    eps           the layer's default unless given
    bias          layer norm has a bias
    affine        layer norm has a weight, and a bias unless `bias` is False
    unit_offset   the scale of RMS norm is 1 + weight, as in Gemma
    """

    kind: Literal["rms_norm", "layer_norm"] = "rms_norm"
    eps: float | None = None
    bias: bool = True
    affine: bool = True
    unit_offset: bool = False

    def __post_init__(self) -> None:
        if self.kind not in NORMS:
            raise ValueError(f"kind is {self.kind!r}; it must be one of {', '.join(NORMS)}")
        if self.unit_offset and self.kind != "rms_norm":
            raise ValueError(f"unit_offset is True and kind {self.kind!r}; with a unit_offset it must be 'rms_norm'")
        check_types(self, numbers=("eps",), flags=("bias", "affine", "unit_offset"))
        if self.eps is not None and self.eps < 0:
            raise ValueError(f"eps is {self.eps}; it must be at least 0")

    def build(self, d_model: int, *, dtype: Any = "float32") -> LayerNorm | RMSNorm:
        """The layer."""
        norm: LayerNorm | RMSNorm
        if self.kind == "layer_norm":
            norm = LayerNorm(d_model, bias=self.bias, elementwise_affine=self.affine, dtype=dtype)
        else:
            norm = RMSNorm(d_model, unit_offset=self.unit_offset, dtype=dtype)
        if self.eps is not None:
            norm.eps = self.eps
        return norm


@dataclass(frozen=True)
class MLP:
    """A feed-forward network of two linear maps: the constructor's arguments, see layers/feed_forward.py."""

    d_hidden: int | None = None
    activation: Activation = "gelu_tanh"
    bias: bool = True

    def __post_init__(self) -> None:
        check_types(self, sizes=("d_hidden",), flags=("bias",))
        check_activation(self.activation)

    def build(self, d_model: int, *, dtype: Any = "float32", init: bool = True) -> FeedForward:
        """The layer."""
        return FeedForward(d_model, **vars(self), dtype=dtype, init=init)


@dataclass(frozen=True)
class GatedMLP:
    """A feed-forward network with a gate: the constructor's arguments, see layers/gated_feed_forward.py."""

    d_hidden: int | None = None
    activation: Activation = "silu"
    bias: bool = False

    def __post_init__(self) -> None:
        check_types(self, sizes=("d_hidden",), flags=("bias",))
        check_activation(self.activation)

    def build(self, d_model: int, *, dtype: Any = "float32", init: bool = True) -> GatedFeedForward:
        """The layer."""
        return GatedFeedForward(d_model, **vars(self), dtype=dtype, init=init)


@dataclass(frozen=True)
class MoE:
    """A mixture of gated experts; each position uses `top_k` of them."""

    num_experts: int
    top_k: int = 2
    d_hidden: int | None = None
    norm_topk_prob: bool = True
    activation: Activation = "silu"

    def __post_init__(self) -> None:
        check_types(self, sizes=("num_experts", "top_k", "d_hidden"), flags=("norm_topk_prob",))
        check_activation(self.activation)
        if self.top_k > self.num_experts:
            raise ValueError(
                f"top_k is {self.top_k}; it must be at least 1 and at most num_experts, {self.num_experts}"
            )

    def build(self, d_model: int, *, dtype: Any = "float32", init: bool = True) -> MixtureOfExperts:
        """The layer."""
        return MixtureOfExperts(d_model, **vars(self), dtype=dtype, init=init)


AttentionConfig = GQA | MLA | Shaw | Differential | LinearAttn | Delta
FeedForwardConfig = MLP | GatedMLP | MoE


@dataclass(frozen=True)
class DecoderConfig:
    """The hyperparameters of a Decoder.

    attention, feed_forward   one configuration, or a tuple of them which the layers take in turn
    positions                 added to the token embeddings: none, learned or sinusoidal; relative positions are options
                              of the attention
    tied                      the head and the token embedding have one weight
    aux_loss_coef             the factor of the routers' auxiliary loss, see layers/mixture_of_experts.py
    block                     where the norms are, and whether both layers of a block have the same input, see
                              decoder_block.py
    embedding_multiplier      the factor of the token embeddings; √d_model in Gemma
    residual_multiplier       the factor of what is added to the residual stream; with block="pre_norm" only
    logits_scaling            the logits are divided by it
    logits_softcap            logits become logits_softcap · tanh(logits / logits_softcap)
    """

    vocab_size: int
    context_length: int
    d_model: int
    num_layers: int
    attention: AttentionConfig | tuple[AttentionConfig, ...] = GQA(num_heads=4)
    feed_forward: FeedForwardConfig | tuple[FeedForwardConfig, ...] = GatedMLP()
    norm: Norm = Norm()
    positions: Literal["none", "learned", "sinusoidal"] = "none"
    tied: bool = True
    dropout: float = 0.0
    aux_loss_coef: float = 0.01
    block: Literal["pre_norm", "post_norm", "sandwich_norm", "parallel", "shared_norm"] = "pre_norm"
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_scaling: float = 1.0
    logits_softcap: float | None = None

    def __post_init__(self) -> None:
        factors = ("embedding_multiplier", "residual_multiplier", "logits_scaling", "logits_softcap")
        check_types(
            self,
            sizes=("vocab_size", "context_length", "d_model", "num_layers"),
            numbers=("dropout", "aux_loss_coef", *factors),
            flags=("tied",),
        )
        check_probability("dropout", self.dropout)
        if self.positions not in ("none", "learned", "sinusoidal"):
            raise ValueError(f"positions is {self.positions!r}; it must be none, learned or sinusoidal")
        kinds = {"attention": AttentionConfig, "feed_forward": FeedForwardConfig}
        for name, kind in kinds.items():
            value = getattr(self, name)
            for choice in value if isinstance(value, tuple) and value else (value,):
                if not isinstance(choice, kind):
                    allowed = ", ".join(cls.__name__ for cls in kind.__args__)
                    raise TypeError(f"{name} is {choice!r}; it must be one of {allowed}, or a tuple of them")
        if not isinstance(self.norm, Norm):
            raise TypeError(f"norm is {self.norm!r}; it must be a Norm")
        self._check_block_and_factors()

    def _check_block_and_factors(self) -> None:
        if self.block not in BLOCK_KINDS:
            raise ValueError(f"block is {self.block!r}; it must be one of {', '.join(BLOCK_KINDS)}")
        for name in ("embedding_multiplier", "residual_multiplier", "logits_scaling", "logits_softcap"):
            value = getattr(self, name)
            if value is not None and not FLOAT32_TINY <= value <= FLOAT32_MAX:
                raise ValueError(f"{name} is {value}; it must be greater than 0 and finite in float32")
        if self.residual_multiplier != 1.0 and self.block != "pre_norm":
            raise ValueError(
                f"residual_multiplier is {self.residual_multiplier} and block {self.block!r}; it must be 'pre_norm'"
            )

    def attention_of(self, layer: int) -> AttentionConfig:
        """The attention of layer 0, 1, …"""
        return _in_turn(self.attention, layer)

    def feed_forward_of(self, layer: int) -> FeedForwardConfig:
        """The feed-forward network of layer 0, 1, …"""
        return _in_turn(self.feed_forward, layer)


def _in_turn(choice: Any, layer: int) -> Any:
    return choice[layer % len(choice)] if isinstance(choice, tuple) else choice
