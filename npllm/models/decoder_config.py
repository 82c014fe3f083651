"""What a decoder is made of: tables of parts, and a configuration that chooses from them by name.

    {"kind": "grouped_query", "num_heads": 8, "num_kv_heads": 2, "parts": {"rotary": {}}}     an attention
    {"kind": "gated"}                                                                         a feed-forward network

A Llama is grouped-query attention with rotary positions, RMS norm and a gated network; Qwen3 adds a norm to queries and
keys, Mistral a window, a mixture of experts changes the feed-forward network. None of them is a class of its own.

Touvron et al. 2023, LLaMA, section 2.2; Jiang et al. 2023, Mistral 7B; Yang et al. 2025, Qwen3 Technical Report.
"""

import inspect
from dataclasses import dataclass, field

from npllm import attention, layers
from npllm.core.checks import check_positive, check_probability

ATTENTIONS = {
    "grouped_query": attention.GroupedQueryAttention,
    "relative_position": attention.ShawAttention,
    "differential": attention.DifferentialAttention,
    "latent": attention.MultiHeadLatentAttention,
    "linear": attention.LinearAttention,
    "delta": attention.DeltaNet,
}
FEED_FORWARDS = {
    "gelu": layers.FeedForward,
    "gated": layers.SwiGLU,
    "mixture_of_experts": layers.MixtureOfExperts,
}
NORMS = {"layer_norm": layers.LayerNorm, "rms_norm": layers.RMSNorm}
POSITIONS = ("none", "learned", "sinusoidal")  # at the bottom; relative ones are parts of the attention


@dataclass(frozen=True)
class DecoderConfig:
    """The shape of a decoder. Each choice is a dict of a `kind` from its table and that kind's own options.

    attention       from ATTENTIONS, or a list of such dicts which the layers take in turn: windows and full attention
    feed_forward    from FEED_FORWARDS, or a list
    norm            from NORMS
    positions       one of POSITIONS, added to the embeddings
    aux_loss_coef         how much the routers' loss counts, see MixtureOfExperts
    """

    vocab_size: int
    context_length: int
    d_model: int
    num_layers: int
    attention: dict | list = field(default_factory=lambda: {"kind": "grouped_query", "num_heads": 4})
    feed_forward: dict | list = field(default_factory=lambda: {"kind": "gated"})
    norm: dict = field(default_factory=lambda: {"kind": "rms_norm"})
    positions: str = "none"
    tied: bool = True
    dropout: float = 0.0
    aux_loss_coef: float = 0.01

    def __post_init__(self):
        check_positive(
            vocab_size=self.vocab_size,
            context_length=self.context_length,
            d_model=self.d_model,
            num_layers=self.num_layers,
        )
        check_probability("dropout", self.dropout)
        if self.positions not in POSITIONS:
            raise ValueError(f"positions is {self.positions!r}; it must be one of {', '.join(POSITIONS)}")
        for name, table in {"attention": ATTENTIONS, "feed_forward": FEED_FORWARDS}.items():
            for choice in choices(getattr(self, name)):
                _check_choice(name, choice, table)
        _check_choice("norm", self.norm, NORMS)


def choices(choice):
    """A choice, or the list of them that layers take in turn, as a list of at least one."""
    return list(choice) if isinstance(choice, (list, tuple)) and choice else [choice]


def _check_choice(name, choice, table):
    """Raise ValueError unless the choice is {"kind": one of the table, …} with options that this kind has."""
    if not isinstance(choice, dict) or choice.get("kind") not in table:
        raise ValueError(f"{name} is {choice!r}; it must be a dict with a kind, one of {', '.join(table)}")
    kind, given = choice["kind"], {"d_model", "num_channels", "context_length", "dropout", "rng", "dtype"}
    accepted = [option for option in inspect.signature(table[kind]).parameters if option not in given]
    if unknown := [option for option in choice if option not in ("kind", *accepted)]:
        raise ValueError(f"{name} of kind {kind!r} has {unknown[0]!r}; it must be one of {', '.join(accepted)}")


def make(table, choice, d_model, **common):
    """Build what was chosen, with those of the common arguments that it takes."""
    made = table[choice["kind"]]
    accepted = inspect.signature(made).parameters
    options = {name: value for name, value in choice.items() if name != "kind"}
    return made(d_model, **options, **{name: value for name, value in common.items() if name in accepted})
