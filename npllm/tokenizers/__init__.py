"""Text to ids and back.

Read in this order: words, characters, bpe_training, split, bpe, bpe_files, gpt2 (unicode_classes is a table).
"""

from npllm.tokenizers.bpe import BPETokenizer, train_bpe
from npllm.tokenizers.bpe_training import Merge, learn_merges, learn_merges_plain
from npllm.tokenizers.characters import CharacterTokenizer
from npllm.tokenizers.gpt2 import GPT2Tokenizer
from npllm.tokenizers.split import GPT2_PATTERN, split_pieces
from npllm.tokenizers.words import SimpleTokenizerV1, SimpleTokenizerV2, build_vocab, join_texts, split_words
