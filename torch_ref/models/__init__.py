"""Twins of npllm.models."""

from torch_ref.models.decoder import Decoder, DecoderBlock
from torch_ref.models.gpt import GPT, GPTConfig
from torch_ref.models.seq2seq import Seq2Seq
from torch_ref.models.transformer_block import TransformerBlock
from torch_ref.models.word2vec import CBOW, SkipGram
