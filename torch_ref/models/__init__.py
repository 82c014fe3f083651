"""PyTorch references of npllm.models."""

from torch_ref.models.decoder import Decoder
from torch_ref.models.decoder_block import (
    DecoderBlock,
    ParallelBlock,
    PostNormBlock,
    SandwichNormBlock,
    SharedNormBlock,
)
from torch_ref.models.gpt import GPT, GPTConfig
from torch_ref.models.transformer_block import TransformerBlock
