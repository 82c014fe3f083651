"""tiktoken's tokenizers from the same ranks, and texts that Hugging Face's and npllm's Unicode classify alike."""

import sys
from functools import lru_cache

from tokenizers import Regex, pre_tokenizers

from npllm.tokenizers import BPETokenizer, GPT2Tokenizer, train_bpe
from npllm.tokenizers.byte_pair.encode import PlainEncoder
from npllm.tokenizers.byte_pair.pretokenize import CLASSES, PATTERNS, pretokenize
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.formats.oniguruma import DIFFERENT_CLASSES
from npllm.tokenizers.vectorized.encode import make_encoder
from npllm.utils import corpora
from tests.strategies import texts
from tests.tokenizers.tiktoken_patterns import TIKTOKEN_PATTERNS, tiktoken_encoding

TIKTOKEN_GPT2_PATTERN = TIKTOKEN_PATTERNS["gpt2"]


@lru_cache
def gpt2():
    """npllm's GPT-2 tokenizer, loaded once."""
    return GPT2Tokenizer.load()


@lru_cache
def gpt2_tiktoken():
    """tiktoken's GPT-2 encoding."""
    return tiktoken_encoding(gpt2())


@lru_cache
def trained(name):
    """A vocabulary of 600 tokens, trained on the shipped text and a few other scripts with the named pattern.

    The ids of merged tokens begin at 70,000, so that they do not fit into 16 bits.
    """
    text = (
        corpora.read("story")
        + "naïve café 日本語 中文字 हिन्दी \U0001f600\ufe0f Привет, МИР! 12345 HTTPServer's\n\n" * 9
    )
    tokenizer = train_bpe(text, 600, pattern=PATTERNS[name], special_tokens=["<|endoftext|>"])
    ranks = {token: rank if rank < 256 else rank + 69_744 for token, rank in tokenizer.ranks.items()}
    return BPETokenizer(ranks, PATTERNS[name], {"<|endoftext|>": 80_000})


@lru_cache
def encoder_of(tokenizer):
    """The vectorized encoder of a tokenizer, None if it has none."""
    return make_encoder(PlainEncoder(tokenizer.ranks, tokenizer.pattern))


def encode_vectorized(tokenizer, text):
    """The ids of a text by the vectorized encoder, whatever the length of the text, as a list."""
    return [
        token_id for ids in encoder_of(tokenizer).encode_blocks(replace_surrogates(text)) for token_id in ids.tolist()
    ]


@lru_cache
def same_class_characters():
    """The characters that npllm and Hugging Face put into the same classes; their versions of Unicode differ."""
    everything = [chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point <= 0xDFFF]
    same = set(everything)
    for name in CLASSES.keys() - DIFFERENT_CLASSES:
        split = pre_tokenizers.Split(Regex(name + "+"), "removed", invert=True)
        theirs = "".join(pretoken for pretoken, _ in split.pre_tokenize_str("".join(everything)))
        same -= set(theirs) ^ set("".join(pretokenize("".join(everything), name + "+")))
    return same


plain_texts = texts.map(lambda text: "".join(filter(same_class_characters().__contains__, replace_surrogates(text))))
