"""Text to ids and back. README.md has the reading order."""

from npllm.tokenizers.base import Tokenizer
from npllm.tokenizers.bpe import BPETokenizer
from npllm.tokenizers.bpe_training import train_bpe
from npllm.tokenizers.byte_pair.pretokenize import CL100K_PATTERN, GPT2_PATTERN, O200K_PATTERN, PATTERNS, pretokenize
from npllm.tokenizers.byte_pair.train import Merge, learn_merges_naive
from npllm.tokenizers.characters import CharacterTokenizer
from npllm.tokenizers.gpt2 import GPT2Tokenizer
from npllm.tokenizers.loading import load_tokenizer
from npllm.tokenizers.sentence_piece import SentencePieceTokenizer
from npllm.tokenizers.streaming import StreamDecoder
from npllm.tokenizers.text_blocks import TextBlock, read_text_blocks
from npllm.tokenizers.vectorized.incremental_training import learn_merges
from npllm.tokenizers.words import SimpleTokenizerV1, SimpleTokenizerV2, build_vocab, join_texts, split_words

__all__ = [
    "CL100K_PATTERN",
    "GPT2_PATTERN",
    "O200K_PATTERN",
    "PATTERNS",
    "BPETokenizer",
    "CharacterTokenizer",
    "GPT2Tokenizer",
    "Merge",
    "SentencePieceTokenizer",
    "SimpleTokenizerV1",
    "SimpleTokenizerV2",
    "StreamDecoder",
    "TextBlock",
    "Tokenizer",
    "build_vocab",
    "join_texts",
    "learn_merges",
    "learn_merges_naive",
    "load_tokenizer",
    "pretokenize",
    "read_text_blocks",
    "split_words",
    "train_bpe",
]
