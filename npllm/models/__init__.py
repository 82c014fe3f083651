"""Models: layers and attention put together.

Read in this order: transformer_block, language_model, gpt; then decoder_config, decoder_block, decoder, hugging_face,
presets.
"""

from npllm.models.decoder import Decoder
from npllm.models.decoder_block import DecoderBlock, ParallelBlock, PostNormBlock, SandwichNormBlock, SharedNormBlock
from npllm.models.decoder_config import MLP, DecoderConfig, GatedMLP, MoE, Norm
from npllm.models.gpt import GPT, GPTConfig
from npllm.models.presets import ARCHITECTURES, architecture, build, from_pretrained
from npllm.models.transformer_block import TransformerBlock

__all__ = [
    "ARCHITECTURES",
    "GPT",
    "MLP",
    "Decoder",
    "DecoderBlock",
    "DecoderConfig",
    "GPTConfig",
    "GatedMLP",
    "MoE",
    "Norm",
    "ParallelBlock",
    "PostNormBlock",
    "SandwichNormBlock",
    "SharedNormBlock",
    "TransformerBlock",
    "architecture",
    "build",
    "from_pretrained",
]
