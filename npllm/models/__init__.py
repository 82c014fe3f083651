"""Models: layers and attention put together.

Read in this order: word2vec and seq2seq, which came before; transformer_block, model_past, gpt, accounting, trace; then
decoder_config, decoder, architectures.
"""

from npllm.models.decoder import Decoder, DecoderBlock
from npllm.models.decoder_config import DecoderConfig
from npllm.models.gpt import GPT, GPTConfig
from npllm.models.presets import ARCHITECTURES, architecture, build, from_pretrained
from npllm.models.transformer_block import TransformerBlock
