"""The tour's first half: from characters to vectors (chapter 2)."""

from collections import Counter

import numpy as np
from rich.table import Table
from rich.text import Text

from npllm.batching.dataset import WindowDataset
from npllm.batching.loader import DataLoader
from npllm.layers.embedding import one_hot
from npllm.layers.positions import TokenPositionEmbedding
from npllm.tokenizers.bpe import train_bpe
from npllm.tokenizers.byte_pair.pretokenize import pretokenize
from npllm.tokenizers.byte_pair.train import learn_merges_naive
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
    pieces,
    printable,
    readable,
    readable_tokens,
    shape,
    station,
    token_grid,
    vector,
    visible,
)

VOCAB_SIZE = 512
FOLLOWED = 6  # tokens whose vectors are printed
CHANNELS = 3
CONTEXT_LENGTH = 32
BATCH_SIZE = 16
FEWEST_IDS = 100  # fewer are too few for windows


def characters(walk, number):
    """What a text is to a computer."""
    text = walk.text
    common = Counter(text).most_common(12)
    station(
        walk.console,
        number,
        "characters",
        f"text → {len(text):,} characters, {len(set(text))} different ones",
        "A text is a row of characters, and a character is a number. A model could read them one by one, but then it "
        "would have to learn spelling before it can learn anything else.",
    )
    walk.console.print(Text(f'It begins: "{visible(text[:60])}…"'))
    walk.console.print(Text("Most frequent: " + "  ".join(f"{visible(c)} {n:,}" for c, n in common)))


def tokens(walk, number):
    """The cut at blanks and marks, step by step."""
    words = split_words(walk.text)
    walk.found["words"] = words
    station(
        walk.console,
        number,
        "tokens",
        f"{len(walk.text):,} characters → {len(words):,} tokens",
        "Cut at blanks, then at commas and periods, then at the other marks, and drop the blanks. Marks are tokens of "
        "their own, so that “end.” and “end” do not become two words.",
    )
    steps = Table("the cut at", "gives", show_edge=False)
    steps.add_row("blanks", pieces(split_on_whitespace(walk.prompt)))
    steps.add_row("… commas, periods", pieces(split_on_commas_and_periods(walk.prompt)))
    steps.add_row("… all marks, no blanks", pieces(split_words(walk.prompt)))
    walk.console.print(steps)


def ids(walk, number):
    """A vocabulary, and what becomes of a word that is not in it."""
    vocab = build_vocab(walk.text, ["<|endoftext|>", "<|unk|>"])
    tokenizer = SimpleTokenizerV2(vocab)
    station(
        walk.console,
        number,
        "ids",
        f"{len(walk.found['words']):,} tokens → ids below {len(vocab):,}",
        "Every distinct token gets a number, in alphabetical order; two special tokens come last. What the text does "
        "not contain, the vocabulary cannot say: V1 stops there, V2 writes <|unk|>.",
    )
    encoded = tokenizer.encode(walk.prompt)
    walk.console.print(token_grid([tokenizer.id_to_token[i] for i in encoded], encoded))
    strange = walk.prompt.split()[0] + " blorptangle"
    try:
        SimpleTokenizerV1(vocab).encode("blorptangle")
    except KeyError as error:
        walk.console.print(Text(f"V1: KeyError: {error.args[0]}", style="red"))
    walk.console.print(Text(printable(f'V2: "{strange}" → "{tokenizer.decode(tokenizer.encode(strange))}"')))


def merges(walk, number):
    """Byte pair encoding learns its first tokens."""
    encoded_pieces = [piece.encode() for piece in pretokenize(walk.text)]
    first = learn_merges_naive(encoded_pieces, 10)
    trace = []
    tokenizer = train_bpe(walk.text, VOCAB_SIZE, on_merge=trace.append)
    encoded = tokenizer.encode(walk.text)
    if len(encoded) < FEWEST_IDS:
        raise ValueError(
            f"the text repeats itself so much that byte pair encoding makes {len(encoded)} tokens of it; the tour "
            f"needs at least {FEWEST_IDS}"
        )
    walk.found |= {"tokenizer": tokenizer, "ids": np.array(encoded), "merges": trace}
    num_bytes, size = len(walk.text.encode()), tokenizer.vocab_size
    station(
        walk.console,
        number,
        "byte pair encoding",
        f"{num_bytes:,} bytes → {size - 256} merges → {len(encoded):,} ids below {size}",
        "Begin with single bytes and merge the pair of neighbours that occurs most often; again; and again. Frequent "
        "words become one token, rare ones stay in parts, and nothing is ever unknown.",
    )
    table = Table("merge", "left", "right", "new token", show_edge=False)
    table.add_column("times", justify="right")
    for index, merge in enumerate(first):
        parts = [Text(visible(readable(part))) for part in (merge.left, merge.right, merge.token)]
        table.add_row(str(256 + index), *parts, f"{merge.count:,}")
    walk.console.print(table)
    prompt = tokenizer.encode(walk.prompt)
    walk.console.print(pieces(readable_tokens(tokenizer, prompt)))
    walk.console.print(f"{num_bytes / len(encoded):.2f} bytes per token", highlight=False)


def gpt2_ids(walk, number):
    """The same with the merges of GPT-2."""
    tokenizer = GPT2Tokenizer.load()
    encoded = tokenizer.encode(walk.text, disallowed_special=())
    num_bytes = len(walk.text.encode())
    station(
        walk.console,
        number,
        "GPT-2's ids",
        f"{num_bytes:,} bytes → {len(encoded):,} ids below {tokenizer.vocab_size:,}",
        f"GPT-2 learned 50,000 merges from forty gigabytes of web pages. Its tokens are longer: "
        f"{num_bytes / len(encoded):.2f} bytes on average here. These are the very ids that tiktoken gives.",
    )
    prompt = tokenizer.encode(walk.prompt, disallowed_special=())
    walk.console.print(token_grid(readable_tokens(tokenizer, prompt), prompt))


def windows(walk, number):
    """Inputs and targets."""
    tokenizer, all_ids = walk.found["tokenizer"], walk.found["ids"]
    # half overlapping, as in the book; a short text gets a shorter window
    context_length = min(CONTEXT_LENGTH, len(all_ids) // 8)
    dataset = WindowDataset(all_ids, context_length, max(context_length // 2, 1))
    walk.found |= {"dataset": dataset, "context_length": context_length}
    station(
        walk.console,
        number,
        "windows",
        f"{len(all_ids):,} ids → {len(dataset):,} windows of inputs and targets, each {context_length}",
        "Cut the ids into windows. The target of every position is the id one step on, so each window holds as many "
        "questions “what comes next?” as it has positions, and the answers cost nothing: the text gives them.",
    )
    table = Table("sees", "is to predict", show_edge=False)
    inputs, targets = dataset[0]
    for t in range(min(4, context_length)):
        seen, next_one = inputs[: t + 1].tolist(), [int(targets[t])]
        table.add_row(pieces(readable_tokens(tokenizer, seen)), pieces(readable_tokens(tokenizer, next_one)))
    walk.console.print(table)


def batches(walk, number):
    """Windows side by side."""
    dataset = walk.found["dataset"]
    loader = DataLoader(dataset, min(BATCH_SIZE, len(dataset)), shuffle=True, drop_last=True, rng=walk.rng)
    inputs, _ = next(iter(loader))
    walk.found["loader"] = loader
    station(
        walk.console,
        number,
        "batches",
        f"{len(dataset):,} windows → {len(loader)} batches; ids (B, T) = {shape(inputs)}",
        "Several windows at once use the machine better, and their mean gradient is steadier. The order is new in "
        "every epoch.",
    )
    walk.console.print(Text(str(loader.account())))


def embeddings(walk, number):
    """Ids become vectors, and vectors know their place."""
    tokenizer = walk.found["tokenizer"]
    followed = np.array(tokenizer.encode(walk.prompt)[:FOLLOWED])
    layer = TokenPositionEmbedding(tokenizer.vocab_size, FOLLOWED, CHANNELS, rng=walk.rng)
    names = [visible(token) for token in readable_tokens(tokenizer, followed.tolist())]
    x = layer(followed)
    walk.found |= {"names": names, "x": x}
    station(
        walk.console,
        number,
        "embeddings",
        f"ids (T) = {shape(followed)} → vectors (T, C) = {shape(x)}",
        "Every id owns a row of a table, at first random numbers, and every position owns a row of another; their sum "
        "is what the model sees. In GPT-2 a row has 768 channels; here it has 3, so that they can be printed.",
    )
    hot = one_hot(followed, tokenizer.vocab_size)
    same = np.array_equal(hot @ layer.wte.weight.data, layer.wte(followed))
    table = Table("", "token", "+ position", "= vector", show_edge=False)
    for name, token, position, both in zip(names, layer.wte(followed), layer.wpe(len(followed)), x):
        table.add_row(Text(name, style="bold"), vector(token), vector(position), vector(both))
    walk.console.print(table)
    answer = "gives exactly the same" if same else "gives something else"
    walk.console.print(
        f"one_hot(ids) {shape(hot)} times the table {shape(layer.wte.weight.data)} {answer}: a lookup is a matrix "
        "product that skips the zeros.",
        highlight=False,
    )


STATIONS = [characters, tokens, ids, merges, gpt2_ids, windows, batches, embeddings]
