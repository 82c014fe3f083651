"""`npllm tour --model`: a prompt goes through a published model, section by section.

    text → tokens → embeddings → blocks: attention → logits after each layer → next token → text

Where `npllm tour` trains small parts on a text, this tour prints what the weights of a trained model do. The heads that
it prints are found by measuring all of them.
"""

from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from npllm.generation.chat import Chat, encode_with_special_tokens
from npllm.generation.text import generate_text, ids_without_token
from npllm.inspect import layers
from npllm.layers.softmax import softmax
from npllm.models.pretrained import Pretrained
from npllm.utils.terminal import coloured_tokens, matrix, print_section, printable, readable_tokens, token_grid, visible

PROMPT = "The capital of France is Paris, and the capital of Italy is"
QUESTION = "What is the capital of France?"
MAX_COLUMNS = 8  # tokens of a matrix of attention weights
NUM_CANDIDATES = 8
LAST_BLOCKS = 5  # for which the next token is printed; of the blocks before, for every third or so
MAX_NEW_TOKENS = 40


class ModelTour(NamedTuple):
    """The arguments of every section."""

    console: Console
    pretrained: Pretrained
    prompt: str
    ids: list[int]
    tokens: list[str]
    layers: layers.Layers


def run_model_tour(console: Console, pretrained: Pretrained, prompt: str | None = None) -> None:
    """Print all sections for a prompt; raises ValueError for a prompt of fewer than 3 tokens or too many."""
    prompt = PROMPT if prompt is None else prompt
    ids = encode_with_special_tokens(pretrained.tokenizer, prompt)
    limit = pretrained.model.context_length // 2
    if not 3 <= len(ids) <= limit:
        raise ValueError(f"prompt is {prompt!r:.80}; its number of tokens is {len(ids)} and must be from 3 to {limit}")
    tokens = [visible(token) for token in readable_tokens(pretrained.tokenizer, ids)]
    tour = ModelTour(console, pretrained, prompt, ids, tokens, layers.layers_of(pretrained.model, np.array(ids)))
    for number, section in enumerate(SECTIONS, start=1):
        section(tour, number)


def tokens(tour: ModelTour, number: int) -> None:
    """The tokens of the prompt in the model's vocabulary."""
    tokenizer, num_bytes = tour.pretrained.tokenizer, len(tour.prompt.encode())
    print_section(
        tour.console, number, "tokens",
        f"{num_bytes} bytes → {len(tour.ids)} ids below {tokenizer.vocab_size:,}",
        "The vocabulary was learned from the training texts of the model: frequent words are one token, with the space "
        "before them.",
    )  # fmt: skip
    tour.console.print(token_grid(readable_tokens(tokenizer, tour.ids), tour.ids))
    tour.console.print(f"{num_bytes / len(tour.ids):.2f} bytes per token", highlight=False)


def model(tour: ModelTour, number: int) -> None:
    """The size of the model."""
    model = tour.pretrained.model
    states, weights = tour.layers.hidden_states, tour.layers.attention_weights
    num_heads = next((len(table) for table in weights if table is not None), 0)
    kv_cache = model.new_kv_cache()
    model.hidden_states(np.array([tour.ids]), kv_cache=kv_cache)
    print_section(
        tour.console, number, "the model",
        f"ids (T) = {len(tour.ids)} → {len(weights)} blocks of (T, C) = {len(tour.ids)} × {states[0].shape[-1]} → "
        f"logits (T, V) = {len(tour.ids)} × {model.config.vocab_size:,}",
        "Each block adds the output of attention and that of a feed-forward network to the residual stream.",
    )  # fmt: skip
    tour.console.print(
        f"{model.num_parameters():,} parameters, {num_heads} heads in each block; the key-value cache has "
        f"{kv_cache.nbytes / len(tour.ids) / 1024:,.1f} KiB for each token",
        highlight=False,
    )


def embeddings(tour: ModelTour, number: int) -> None:
    """The tokens whose embeddings are nearest to those of the prompt."""
    model, tokenizer = tour.pretrained.model, tour.pretrained.tokenizer
    table = (model.embed_tokens if hasattr(model, "embed_tokens") else model.wte).weight.data
    print_section(
        tour.console, number, "embeddings",
        f"table (V, C) = {table.shape[0]:,} × {table.shape[1]}",
        "Tokens that are used in similar contexts get embeddings in similar directions. For some tokens of the prompt, "
        "the tokens with the largest cosine similarity:",
    )  # fmt: skip
    unit = table / np.maximum(np.linalg.norm(table, axis=-1, keepdims=True), 1e-12)
    excluded = ids_without_token(tokenizer, len(table))
    longest = sorted(dict.fromkeys(tour.ids), key=lambda token_id: -len(readable_tokens(tokenizer, [token_id])[0]))
    result = Table("token", "nearest tokens, cosine similarity", show_edge=False)
    for token_id in longest[:4]:
        similarity = unit @ unit[token_id]
        similarity[[token_id, *excluded]] = -np.inf
        result.add_row(
            Text(visible(readable_tokens(tokenizer, [token_id])[0]), style="bold"),
            _candidates(tokenizer, similarity, 4, "{:.2f}"),
        )
    tour.console.print(result)


def attention(tour: ModelTour, number: int) -> None:
    """Heads with a pattern that can be named, found by measuring all of them."""
    weights = tour.layers.attention_weights
    doubled = layers.layers_of(tour.pretrained.model, np.array(tour.ids * 2)).attention_weights
    print_section(
        tour.console, number, "attention of single heads",
        f"weights (H, T, T) of {sum(len(table) for table in weights if table is not None)} heads",
        "A trained head can have a pattern that does not depend on the text. Each row is the head of the whole model "
        "with the largest mean weight, over the queries of the prompt, on the key that is named. For the last row the "
        "prompt is given twice: an induction head attends to the token that followed the same token before.",
    )  # fmt: skip
    found = {
        "the previous token": layers.strongest_head(weights, layers.attention_to_previous),
        "the first token": layers.strongest_head(weights, layers.attention_to_first),
        "the token itself": layers.strongest_head(weights, layers.attention_to_itself),
        "the token after the same token": layers.strongest_head(doubled, layers.induction),
    }
    table = Table("attends to", "layer", "head", "mean weight", show_edge=False)
    for name, (value, layer, head) in found.items():
        table.add_row(name, str(layer), str(head), f"{value:.2f}")
    tour.console.print(table)
    first = np.mean([layers.attention_to_first(table).mean() for table in weights if table is not None])
    tour.console.print(
        "The weights of a query sum to 1, also where no key fits the pattern of the head. In trained models the first "
        f"token then gets most of the weight (an attention sink): here {first:.0%} of the weight of all heads.",
        highlight=False,
    )
    _, layer, head = found["the previous token"]
    columns = tour.tokens[:MAX_COLUMNS]
    part = np.asarray(weights[layer])[head, : len(columns), : len(columns)]
    tour.console.print(f"\nlayer {layer}, head {head}:", highlight=False)
    tour.console.print(matrix(part, columns, columns, "query \\ key", shade=True))


def layer_by_layer(tour: ModelTour, number: int) -> None:
    """The next-token distribution after each layer (logit lens)."""
    model, tokenizer, states = tour.pretrained.model, tour.pretrained.tokenizer, tour.layers.hidden_states
    rows = [softmax(layers.logit_lens(model, state[-1]).astype(np.float64)) for state in states]
    final = int(rows[-1].argmax())
    name = visible(readable_tokens(tokenizer, [final])[0])
    print_section(
        tour.console, number, "the next token, layer by layer",
        f"hidden state (C) after each block → norm → head → probabilities (V) = {model.config.vocab_size:,}",
        "The norm and the head of the model, applied to the hidden state of the last position after each block: what "
        f"the model would predict if this block were its last. The last column is the probability of “{name}”.",
    )  # fmt: skip
    table = Table("after block", "most probable tokens", f"p({name})", show_edge=False)
    step, last = max(1, len(rows) // 10), range(max(0, len(rows) - LAST_BLOCKS), len(rows))
    for index in sorted({*range(0, len(rows), step), *last}):
        label = "embedding" if index == 0 else str(index - 1)
        table.add_row(label, _candidates(tokenizer, rows[index], 3, "{:.1%}"), f"{rows[index][final]:.2%}")
    tour.console.print(table)


def next_token(tour: ModelTour, number: int) -> None:
    """The most probable next tokens."""
    tokenizer = tour.pretrained.tokenizer
    logits = layers.logit_lens(tour.pretrained.model, tour.layers.hidden_states[-1][-1])
    probabilities = softmax(logits.astype(np.float64))
    print_section(
        tour.console, number, "the next token",
        f"logits (V) = {len(logits):,} → probabilities, which sum to 1",
        "Softmax makes probabilities of the logits. Sampling draws from them; temperature 0 takes the largest.",
    )  # fmt: skip
    tour.console.print(coloured_tokens(readable_tokens(tokenizer, tour.ids)))
    table = Table("token", "logit", "probability", "", show_edge=False)
    for token_id in np.argsort(-probabilities, kind="stable")[:NUM_CANDIDATES].tolist():
        bar = "█" * round(40 * probabilities[token_id])
        name = Text(visible(readable_tokens(tokenizer, [token_id])[0]))
        table.add_row(name, f"{logits[token_id]:.2f}", f"{probabilities[token_id]:.1%}", bar)
    tour.console.print(table)


def answer(tour: ModelTour, number: int) -> None:
    """The continuation of the prompt, and the answer to a question if the model is for conversations."""
    pretrained = tour.pretrained
    print_section(
        tour.console, number, "generation",
        f"{len(tour.ids)} ids → at most {MAX_NEW_TOKENS} more",
        "The most probable token is appended, and the model computes the next one with the key-value cache.",
    )  # fmt: skip
    limit = min(MAX_NEW_TOKENS, pretrained.model.context_length - len(tour.ids))
    parts = generate_text(
        pretrained.model, pretrained.tokenizer, tour.ids, limit, temperature=0, stop_ids=pretrained.stop_ids
    )
    tour.console.print(Text.assemble((printable(tour.prompt), "bold"), printable("".join(parts))))
    if pretrained.chat_template is not None:
        chat = Chat(pretrained, temperature=0)
        text = "".join(token.text for token in chat.answer(QUESTION, MAX_NEW_TOKENS))
        tour.console.print("\nThe model was trained on conversations. Its chat template makes a prompt of a question:")
        tour.console.print(Text.assemble((f"> {QUESTION}", "bold"), f"\n{printable(text)}"))


def _candidates(tokenizer, values: np.ndarray, number: int, form: str) -> Text:
    """The tokens with the largest values."""
    text = Text()
    for token_id in np.argsort(-values, kind="stable")[:number].tolist():
        text.append(visible(readable_tokens(tokenizer, [token_id])[0]))
        text.append(f" {form.format(values[token_id])}   ", style="dim")
    return text


SECTIONS = [tokens, model, embeddings, attention, layer_by_layer, next_token, answer]
