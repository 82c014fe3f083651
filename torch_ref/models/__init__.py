"""PyTorch references of npllm.models."""

from torch_ref.models.decoder import Decoder, DecoderBlock
from torch_ref.models.gpt import GPT, GPTConfig
from torch_ref.models.transformer_block import TransformerBlock
