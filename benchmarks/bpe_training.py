"""Learning merges: against Hugging Face's trainer on one thread, and against trainers that recount all pairs.

The latter are tiktoken's educational trainer and learn_merges_naive, whose merges are those of minbpe.
"""

import tokenizers
from tiktoken._educational import bpe_train

from benchmarks import texts
from benchmarks.measure import Job
from npllm.tokenizers import learn_merges_naive, pretokenize, train_bpe
from npllm.tokenizers.byte_pair.bytes_to_unicode import token_to_unicode
from npllm.utils import corpora
from tests.tokenizers.tiktoken_patterns import TIKTOKEN_PATTERNS

SIZES = (512, 5_000, 32_000)


def jobs(names=("story", "tinyshakespeare"), sizes=SIZES, sources=2_000_000):
    """Vocabularies of several sizes."""
    for name in names:
        if corpora.find(name) is not None:
            text = corpora.read(name)
            yield from _corpus(text, f"{corpora.get_corpus(name).title}, {len(text):,} characters", name == "story")
            yield from _against_hugging_face(text, corpora.get_corpus(name).title, sizes)
    yield from _against_hugging_face(texts.markdown_and_python()[:sources], "Markdown and Python", sizes)


def _corpus(text, size, with_tiktoken):
    """The first 256 merges, as minbpe takes them."""

    def plain():
        pre_tokens = [pre_token.encode() for pre_token in pretokenize(text)]
        return [merge.token for merge in learn_merges_naive(pre_tokens, 256)]

    def tiktoken_trains():
        return list(bpe_train(text, 512, TIKTOKEN_PATTERNS["gpt2"], visualise=None))[256:]

    yield Job(
        "train BPE, 512 tokens",
        size,
        lambda: list(train_bpe(text, 512).ranks)[256:],
        {"tiktoken's educational": tiktoken_trains} if with_tiktoken else {},
        plain,
    )


def _against_hugging_face(text, title, sizes):
    """Ties are broken by the lowest ids, as in Hugging Face's trainer: the vocabularies must be equal."""
    for size in sizes:
        yield Job(
            "train BPE, ties by id",
            f"{title}, {len(text):,} characters, {size:,} tokens",
            lambda size=size: train_bpe(text, size, tie_break="id").ranks,
            {"Hugging Face": lambda size=size: _hugging_face(text, size)},
            agree=_same_vocabulary,
        )


def _hugging_face(text, size):
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    theirs.train_from_iterator([text], trainer)
    return theirs.get_vocab()


def _same_vocabulary(theirs, ours):
    assert theirs == {token_to_unicode(token): rank for token, rank in ours.items()}, "the vocabularies differ"
