"""tiktoken, built from the same ranks: the independent witness of the byte pair encoding; texts for Hugging Face."""

import sys
from functools import lru_cache

from tokenizers import Regex, pre_tokenizers

from benchmarks.tiktoken_patterns import TIKTOKEN_PATTERNS, tiktoken_twin
from npllm.tokenizers import BPETokenizer, GPT2Tokenizer, train_bpe
from npllm.tokenizers.byte_pair.pretokenize import CLASSES, PATTERNS, pretokenize
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.utils import corpora
from tests.strategies import texts

TIKTOKEN_GPT2_PATTERN = TIKTOKEN_PATTERNS["gpt2"]


@lru_cache
def gpt2():
    """npllm's GPT-2 tokenizer, loaded once."""
    return GPT2Tokenizer.load()


@lru_cache
def gpt2_twin():
    """tiktoken's."""
    return tiktoken_twin(gpt2())


@lru_cache
def trained(name):
    """A vocabulary of 600 tokens, trained on the story and a few other scripts with the named pattern.

    Its ids begin at 70,000, above 65,535, but for the bytes.
    """
    text = (
        corpora.read("story")
        + "naïve café 日本語 中文字 हिन्दी \U0001f600\ufe0f Привет, МИР! 12345 HTTPServer's\n\n" * 9
    )
    tokenizer = train_bpe(text, 600, pattern=PATTERNS[name], special_tokens=["<|endoftext|>"])
    ranks = {token: rank if rank < 256 else rank + 69_744 for token, rank in tokenizer.ranks.items()}
    return BPETokenizer(ranks, PATTERNS[name], {"<|endoftext|>": 80_000})


@lru_cache
def understood_alike():
    """The characters of the same classes on both sides: Oniguruma's Unicode is not tiktoken's, hence not ours."""
    everything = [chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point <= 0xDFFF]
    alike = set(everything)
    for name in CLASSES:
        split = pre_tokenizers.Split(Regex(name + "+"), "removed", invert=True)
        theirs = "".join(piece for piece, _ in split.pre_tokenize_str("".join(everything)))
        alike -= set(theirs) ^ set("".join(pretokenize("".join(everything), name + "+")))
    return alike


plain_texts = texts.map(lambda text: "".join(filter(understood_alike().__contains__, replace_surrogates(text))))
