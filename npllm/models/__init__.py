"""Models: layers and attention put together.

Read in this order: transformer_block, gpt, accounting, trace, decoder_config,
decoder, architectures.
"""

from npllm.models.architectures import ARCHITECTURES, architecture, build, from_pretrained
from npllm.models.decoder import Decoder, DecoderBlock
from npllm.models.decoder_config import DecoderConfig
from npllm.models.gpt import GPT, GPTConfig
from npllm.models.transformer_block import TransformerBlock
