"""Sections 1 to 8 of the tour: from characters to embedding vectors (chapter 2 of the book)."""

from collections import Counter

import numpy as np
from rich.table import Table
from rich.text import Text

from npllm.batching.dataset import WindowDataset
from npllm.batching.loader import DataLoader
from npllm.layers.embedding import one_hot
from npllm.layers.positions import TokenPositionEmbedding
from npllm.lessons.tour.state import TourState
from npllm.tokenizers.bpe_training import train_bpe
from npllm.tokenizers.byte_pair.pretokenize import pretokenize
from npllm.tokenizers.byte_pair.train import Merge, learn_merges_naive
from npllm.tokenizers.gpt2 import GPT2Tokenizer
from npllm.tokenizers.words import (
    SimpleTokenizerV1,
    SimpleTokenizerV2,
    build_vocab,
    split_on_commas_and_periods,
    split_on_whitespace,
    split_words,
)
from npllm.utils.terminal import (
    coloured_tokens,
    printable,
    readable,
    readable_tokens,
    shape,
    token_grid,
    vector,
    visible,
)

VOCAB_SIZE = 512
NUM_TOKENS = 6  # of the prompt, whose vectors are printed
D_MODEL = 3
CONTEXT_LENGTH = 32
BATCH_SIZE = 16
MIN_IDS = 100  # fewer are not enough for windows


def characters(state: TourState, number: int) -> None:
    """The characters of the text."""
    text = state.text
    common = Counter(text).most_common(12)
    state.section(
        number,
        "characters",
        f"text → {len(text):,} characters, {len(set(text))} of them distinct",
        "A text is a sequence of characters, and each character is stored as a number. A model could read characters "
        "one by one, but its sequences would be long and it would have to learn spelling first.",
    )
    state.console.print(Text(f'First characters: "{visible(text[:60])}…"'))
    state.console.print(Text("Most frequent: " + "  ".join(f"{visible(c)} {n:,}" for c, n in common)))


def tokens(state: TourState, number: int) -> None:
    """The split into words and punctuation, step by step."""
    state.words = split_words(state.text)
    state.section(
        number,
        "tokens",
        f"{len(state.text):,} characters → {len(state.words):,} tokens",
        "The text is split at whitespace, at commas and periods, and at all other punctuation. Whitespace is dropped. "
        "Punctuation marks are tokens of their own, so that “end.” and “end” are not two different words.",
    )
    steps = Table("split at", "tokens", show_edge=False)
    steps.add_row("whitespace", coloured_tokens(split_on_whitespace(state.prompt)))
    steps.add_row("+ commas, periods", coloured_tokens(split_on_commas_and_periods(state.prompt)))
    steps.add_row("+ other punctuation", coloured_tokens(split_words(state.prompt)))
    state.console.print(steps)


def ids(state: TourState, number: int) -> None:
    """The vocabulary, and how a word outside of it is encoded."""
    vocab = build_vocab(state.text, ["<|endoftext|>", "<|unk|>"])
    tokenizer = SimpleTokenizerV2(vocab)
    state.section(
        number,
        "ids",
        f"{len(state.words):,} tokens → ids below {len(vocab):,}",
        "Each distinct token gets an id, in alphabetical order; two special tokens follow. A word that does not occur "
        "in the text has no id: SimpleTokenizerV1 raises an error, SimpleTokenizerV2 encodes it as <|unk|>.",
    )
    encoded = tokenizer.encode(state.prompt)
    state.console.print(token_grid([tokenizer.id_to_token[i] for i in encoded], encoded))
    unknown = state.prompt.split()[0] + " blorptangle"
    try:
        SimpleTokenizerV1(vocab).encode("blorptangle")
    except KeyError as error:
        state.console.print(Text(f"V1: KeyError: {error.args[0]}", style="red"))
    state.console.print(Text(printable(f'V2: "{unknown}" → "{tokenizer.decode(tokenizer.encode(unknown))}"')))


def byte_pair_encoding(state: TourState, number: int) -> None:
    """Byte pair encoding is trained on the text."""
    first_merges = learn_merges_naive([pre_token.encode() for pre_token in pretokenize(state.text)], 10)
    state.merges = []
    state.tokenizer = train_bpe(state.text, VOCAB_SIZE, on_merge=state.merges.append)
    state.ids = np.array(state.tokenizer.encode(state.text))
    if len(state.ids) < MIN_IDS:
        raise ValueError(
            f"the text is so repetitive that byte pair encoding turns it into {len(state.ids)} tokens; the tour needs "
            f"at least {MIN_IDS}"
        )
    num_bytes, vocab_size = len(state.text.encode()), state.tokenizer.vocab_size
    state.section(
        number,
        "byte pair encoding",
        f"{num_bytes:,} bytes → {vocab_size - 256} merges → {len(state.ids):,} ids below {vocab_size}",
        "Start with single bytes. Merge the most frequent pair of adjacent tokens into a new token, and repeat. "
        "Frequent words become one token, rare words several, and every text can be encoded.",
    )
    state.console.print(_merges_table(first_merges))
    prompt = state.tokenizer.encode(state.prompt)
    state.console.print(coloured_tokens(readable_tokens(state.tokenizer, prompt)))
    state.console.print(f"{num_bytes / len(state.ids):.2f} bytes per token", highlight=False)


def _merges_table(merges: list[Merge]) -> Table:
    table = Table("id", "left", "right", "new token", show_edge=False)
    table.add_column("count", justify="right")
    for index, merge in enumerate(merges):
        parts = [Text(visible(readable(part))) for part in (merge.left, merge.right, merge.token)]
        table.add_row(str(256 + index), *parts, f"{merge.count:,}")
    return table


def gpt2_ids(state: TourState, number: int) -> None:
    """The same algorithm with GPT-2's merges."""
    tokenizer = GPT2Tokenizer.load()
    encoded = tokenizer.encode(state.text, disallowed_special=())
    num_bytes = len(state.text.encode())
    state.section(
        number,
        "GPT-2's ids",
        f"{num_bytes:,} bytes → {len(encoded):,} ids below {tokenizer.vocab_size:,}",
        "GPT-2 has 50,000 merges, learned from 40 GB of web pages. Its tokens are longer: "
        f"{num_bytes / len(encoded):.2f} bytes per token for this text. The ids are equal to tiktoken's.",
    )
    prompt = tokenizer.encode(state.prompt, disallowed_special=())
    state.console.print(token_grid(readable_tokens(tokenizer, prompt), prompt))


def windows(state: TourState, number: int) -> None:
    """Inputs and targets."""
    # half overlapping, as in the book; a short text gets shorter windows
    context_length = min(CONTEXT_LENGTH, len(state.ids) // 8)
    state.dataset = WindowDataset(state.ids, context_length, max(context_length // 2, 1))
    state.section(
        number,
        "windows",
        f"{len(state.ids):,} ids → {len(state.dataset):,} windows, {context_length} inputs and targets each",
        "A window is a sequence of consecutive ids. The target of each position is the next id, so that every position "
        "is a training example, and the labels come from the text itself.",
    )
    table = Table("input", "target", show_edge=False)
    inputs, targets = state.dataset[0]
    for t in range(min(4, context_length)):
        for_input = readable_tokens(state.tokenizer, inputs[: t + 1].tolist())
        for_target = readable_tokens(state.tokenizer, [int(targets[t])])
        table.add_row(coloured_tokens(for_input), coloured_tokens(for_target))
    state.console.print(table)


def batches(state: TourState, number: int) -> None:
    """Several windows in one array."""
    dataset = state.dataset
    state.loader = DataLoader(dataset, min(BATCH_SIZE, len(dataset)), shuffle=True, drop_last=True, rng=state.rng)
    inputs, _ = next(iter(state.loader))
    state.section(
        number,
        "batches",
        f"{len(dataset):,} windows → {len(state.loader)} batches; ids (B, T) = {shape(inputs)}",
        "Several windows are processed at once: this is faster, and the gradient, a mean over the batch, has less "
        "noise. The windows are shuffled in every epoch.",
    )
    state.console.print(Text(str(state.loader.epoch_stats())))


def embeddings(state: TourState, number: int) -> None:
    """Token embeddings plus positional embeddings."""
    token_ids = np.array(state.tokenizer.encode(state.prompt)[:NUM_TOKENS])
    layer = TokenPositionEmbedding(state.tokenizer.vocab_size, NUM_TOKENS, D_MODEL, rng=state.rng)
    state.tokens = [visible(token) for token in readable_tokens(state.tokenizer, token_ids.tolist())]
    state.x = layer(token_ids)
    state.section(
        number,
        "embeddings",
        f"ids (T) = {shape(token_ids)} → vectors (T, C) = {shape(state.x)}",
        "Each id selects a row of the token embedding table, and each position a row of the position embedding table. "
        "The input of the model is their sum. Both tables start as random numbers and are trained. GPT-2's rows have "
        "768 channels; these have 3, so that they can be printed.",
    )
    token_vectors = layer.wte(token_ids)
    table = Table("", "token", "+ position", "= vector", show_edge=False)
    for name, token, position, total in zip(state.tokens, token_vectors, layer.wpe(len(token_ids)), state.x):
        table.add_row(Text(name, style="bold"), vector(token), vector(position), vector(total))
    state.console.print(table)
    hot = one_hot(token_ids, state.tokenizer.vocab_size)
    is_equal = np.array_equal(hot @ layer.wte.weight.data, token_vectors)
    result = "exactly the same vectors" if is_equal else "other vectors"
    state.console.print(
        f"one_hot(ids) {shape(hot)} times the table {shape(layer.wte.weight.data)} gives {result}: a lookup is a "
        "matrix product with one-hot rows.",
        highlight=False,
    )


SECTIONS = [characters, tokens, ids, byte_pair_encoding, gpt2_ids, windows, batches, embeddings]
