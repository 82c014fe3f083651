"""The command line: `npllm` or `python -m npllm`.

    npllm tour       a walk through everything, on the shipped story or on a text of yours
    npllm tokenize   one text as words, byte pairs and GPT-2's tokens
    npllm data       the texts that npllm knows, and fetching them
    npllm bpe        a vocabulary learned from files, and files as ids
    npllm verify     every piece against PyTorch
    npllm family     the forms of attention, and what each remembers
    npllm train      a GPT learns a text
    npllm generate   a trained model continues a prompt
    npllm words      a vector for every word, and its neighbours
    npllm align      attention as it came about: a small translator, and where each word comes from

It alone sees all rooms of the house; each command imports what it needs, so that `npllm data` need not wait for
matplotlib.
"""

import argparse
import importlib.util
import os
import sys
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console
from rich.text import Text

INSTALL_TORCH = (
    "npllm verify compares with PyTorch, which is not installed. In a checkout of npllm:\n"
    '  python -m pip install -e ".[test]" -c .ci/constraints.txt'
)

TRAIN_OPTIONS = [  # name, default, type, what
    ("vocab-size", 512, int, "tokens to learn with --tokenizer bpe"),
    ("layers", 4, int, "transformer blocks"),
    ("heads", 4, int, "attention heads"),
    ("width", 128, int, "channels"),
    ("context", 64, int, "tokens that the model sees at once"),
    ("dropout", 0.0, float, "share of numbers silenced while training"),
    ("steps", 2000, int, "training steps"),
    ("batch", 12, int, "windows in a batch"),
    ("micro-batches", 1, int, "parts of a batch, one after the other, to save memory"),
    ("rate", 3e-3, float, "highest learning rate; it falls to a tenth"),
    ("warmup", 100, int, "steps in which the learning rate rises"),
    ("evaluate-every", 250, int, "steps between looks at text that is not learned from"),
    ("seed", 0, int, "seed of all random numbers"),
]


def main(arguments=None):
    """Run one command and return its exit status: 0, 1 for a failure, 2 for wrong usage, 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character prints "?" and goes on
    options = _parser().parse_args(arguments)
    console = Console(highlight=False)
    try:
        return options.run(console, options) or 0
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted")
        return 130
    except (OSError, ValueError, FloatingPointError) as error:
        Console(stderr=True, highlight=False).print(Text(f"npllm: {error}", style="red"), soft_wrap=True)
        return 1


def _parser():
    parser = argparse.ArgumentParser(
        prog="npllm",
        description="Everything inside a GPT, in NumPy you can read, every number checked against PyTorch.",
    )
    parser.add_argument("--version", action="version", version=f"npllm {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = commands.add_parser("tour", help="a walk through everything, in under a minute")
    command.add_argument("--text", metavar="FILE", help="a text in UTF-8 to walk through (default: the shipped story)")
    command.add_argument(
        "--prompt", metavar="TEXT", help="the line to follow and to continue (default: the text's first words)"
    )
    command.add_argument(
        "--steps", metavar="N", type=int, default=1000, help="training steps at the end (default: 1000)"
    )
    command.add_argument("--seed", metavar="N", type=int, default=0, help="seed of all random numbers (default: 0)")
    command.add_argument("--figures", metavar="FOLDER", help="also draw figures into this folder")
    command.set_defaults(run=_tour)

    command = commands.add_parser("tokenize", help="a text as words, byte pairs and GPT-2's tokens")
    command.add_argument("text", metavar="TEXT", help='the text; "-" reads it from standard input')
    command.set_defaults(run=_tokenize)

    command = commands.add_parser("data", help="the texts that npllm knows")
    command.set_defaults(run=_data)
    actions = command.add_subparsers(title="actions", metavar="ACTION")
    actions.add_parser("list", help="which there are, and where (the default)")
    fetch = actions.add_parser("fetch", help="fetch one into the cache folder")
    fetch.add_argument("name", metavar="NAME", help="the-verdict or tinyshakespeare")
    fetch.add_argument("--folder", metavar="FOLDER", help="another folder than the cache")
    fetch.set_defaults(run=_fetch)

    _add_bpe(commands)
    command = commands.add_parser("verify", help="every piece against PyTorch, as a table")
    command.add_argument("--readme", metavar="FILE", help="also write the table into this file's section “verify”")
    command.set_defaults(run=_verify)
    command = commands.add_parser("family", help="the forms of attention, and what each must remember of a text")
    command.add_argument("--readme", metavar="FILE", help="also write the table into this file's section “family”")
    command.set_defaults(run=_family)
    _add_train(commands)
    _add_generate(commands)
    _add_words(commands)
    _add_align(commands)
    return parser


def _add_bpe(commands):
    command = commands.add_parser("bpe", help="learn a vocabulary from files of any size, and turn such files into ids")
    actions = command.add_subparsers(title="actions", metavar="ACTION", required=True)
    train = actions.add_parser("train", help="learn a vocabulary: byte pair encoding")
    train.add_argument(
        "files", metavar="FILE", nargs="+", help="texts in UTF-8, together larger than memory if need be"
    )
    train.add_argument(
        "--vocab-size", metavar="N", type=int, required=True, help="tokens, 256 bytes and special included"
    )
    train.add_argument("--out", metavar="FOLDER", required=True, help="where the vocabulary goes")
    train.add_argument(
        "--special", metavar="TOKEN", action="append", default=[], help="a special token; may be repeated"
    )
    train.add_argument("--pattern", choices=("gpt2", "cl100k", "o200k"), default="gpt2", help="default: gpt2")
    train.add_argument(
        "--tie", choices=("first", "id"), default="first",
        help="of equally frequent pairs, the first in the text (default), or the one of the lowest ids",
    )  # fmt: skip
    train.set_defaults(run=_bpe_train)
    encode = actions.add_parser("encode", help="a text as ids in a file; the same command goes on where it was stopped")
    encode.add_argument("file", metavar="FILE", help="a text in UTF-8, larger than memory if need be")
    encode.add_argument("--out", metavar="FILE", required=True, help="the token file")
    encode.add_argument("--vocabulary", metavar="PATH", help="a file or folder of npllm bpe train (default: GPT-2's)")
    encode.add_argument(
        "--special-tokens", choices=("refuse", "as-tokens", "as-text"), default="refuse",
        help="what becomes of special tokens in the text (default: refuse, an error)",
    )  # fmt: skip
    encode.add_argument("--overwrite", action="store_true", help="replace the token file, once the new one is complete")
    encode.set_defaults(run=_bpe_encode)


def _add_train(commands):
    command = commands.add_parser("train", help="a GPT learns a text, in a folder from which it can go on")
    command.add_argument("--out", metavar="FOLDER", required=True, help="where the run is kept")
    command.add_argument("--resume", action="store_true", help="go on with the run in FOLDER, as it was begun")
    text = command.add_mutually_exclusive_group()
    text.add_argument("--text", metavar="FILE", help="a text in UTF-8 to learn (default: the shipped story)")
    text.add_argument("--corpus", metavar="NAME", help="a known text to learn, see npllm data")
    command.add_argument("--tokenizer", choices=("characters", "bpe", "gpt2"), help="default: characters")
    command.add_argument(
        "--architecture", metavar="NAME", help="gpt (the default), or a decoder: llama, mistral, qwen, mixtral, …"
    )
    for name, default, kind, what in TRAIN_OPTIONS:
        command.add_argument(f"--{name}", metavar="N", type=kind, help=f"{what} (default: {default})")
    command.add_argument(
        "--checkpoint-every", metavar="N", type=int, default=250, help="steps between checkpoints (default: 250)"
    )
    command.add_argument(
        "--readme", metavar="FILE", help="at the end, write the curve into this file's section “training”"
    )
    command.set_defaults(run=_train)


def _add_generate(commands):
    command = commands.add_parser("generate", help="a trained model continues a prompt")
    command.add_argument("--model", metavar="FOLDER", required=True, help="a run of npllm train, or GPT-2 weights")
    command.add_argument("--prompt", metavar="TEXT", default="\n", help="what to continue (default: a line break)")
    command.add_argument("--tokens", metavar="N", type=int, default=200, help="how many to add (default: 200)")
    command.add_argument(
        "--temperature", metavar="X", type=float, default=0.8, help="0 takes the likeliest (default: 0.8)"
    )
    command.add_argument("--top-k", metavar="K", type=int, help="draw from the K likeliest tokens")
    command.add_argument(
        "--top-p", metavar="P", type=float, help="draw from the fewest that make up P of the probability"
    )
    command.add_argument(
        "--repetition-penalty", metavar="X", type=float, default=1.0, help="above 1 avoids what was said"
    )
    command.add_argument("--seed", metavar="N", type=int, help="the same seed gives the same text")
    command.set_defaults(run=_generate)


def _add_words(commands):
    command = commands.add_parser("words", help="word vectors learn from a text: which words keep the same company")
    command.add_argument("words", metavar="WORD", nargs="*", help="words to ask for (default: ten frequent ones)")
    text = command.add_mutually_exclusive_group()
    text.add_argument("--text", metavar="FILE", help="a text in UTF-8 to learn from (default: the shipped story)")
    text.add_argument("--corpus", metavar="NAME", help="a known text to learn from, see npllm data")
    command.add_argument("--model", choices=("skip-gram", "cbow"), default="skip-gram", help="default: skip-gram")
    command.add_argument("--steps", metavar="N", type=int, default=1500, help="training steps (default: 1500)")
    command.add_argument("--seed", metavar="N", type=int, default=0, help="seed of all random numbers (default: 0)")
    command.set_defaults(run=_words)


def _add_align(commands):
    command = commands.add_parser("align", help="attention before the transformer: where each written word comes from")
    command.add_argument("--task", choices=("reverse", "copy", "numbers"), default="reverse", help="default: reverse")
    command.add_argument(
        "--attention", choices=("none", "additive", "dot", "general", "concat"), default="general",
        help="default: general",
    )  # fmt: skip
    command.add_argument("--cell", choices=("rnn", "gru", "lstm"), default="gru", help="default: gru")
    command.add_argument("--steps", metavar="N", type=int, default=600, help="training steps (default: 600)")
    command.add_argument("--seed", metavar="N", type=int, default=0, help="seed of all random numbers (default: 0)")
    command.add_argument("--figures", metavar="FOLDER", help="also draw the alignment into this folder")
    command.add_argument(
        "--readme", metavar="FILE",
        help="also train one without attention, and write both into this file's section “align”",
    )  # fmt: skip
    command.set_defaults(run=_align)


def _tour(console, options):
    from npllm.lessons.tour.walk import tour
    from npllm.utils import corpora

    text = None if options.text is None else corpora.read_text_file(options.text)
    if options.figures is not None and os.path.isfile(options.figures):
        raise ValueError(f"{options.figures} is a file; --figures must be a folder")
    walk = tour(console, text, options.prompt, options.steps, options.seed)
    if options.figures is not None:
        from npllm.lessons.figures import draw_figures

        for path in draw_figures(walk, options.figures):
            console.print(Text(f"drew {path}"), soft_wrap=True)


def _tokenize(console, options):
    from npllm.cli.tokenize import show_tokens

    if options.text == "-" and sys.stdin is None:
        raise ValueError("there is no standard input to read the text from")
    text = sys.stdin.read().removeprefix("\ufeff") if options.text == "-" else options.text
    show_tokens(console, text)


def _data(console, options):
    from npllm.cli.data import list_corpora

    list_corpora(console)


def _fetch(console, options):
    from npllm.cli.data import fetch_corpus

    return fetch_corpus(console, options.name, options.folder)


def _bpe_train(console, options):
    from npllm.cli.bpe import train_and_save

    train_and_save(
        console, options.files, options.vocab_size, options.out, options.special, options.pattern, options.tie
    )  # fmt: skip


def _bpe_encode(console, options):
    from npllm.cli.bpe import encode_and_report

    return encode_and_report(
        console, options.file, options.out, options.vocabulary, options.special_tokens, options.overwrite
    )  # fmt: skip


def _verify(console, options):
    if importlib.util.find_spec("torch") is None:
        Console(stderr=True).print(Text(INSTALL_TORCH), soft_wrap=True)
        return 1
    from npllm.cli.verify import show_equivalence
    from tests.equivalence.verify import rows

    return show_equivalence(console, rows(), options.readme)


def _family(console, options):
    from npllm.cli.attention import show_family

    return show_family(console, options.readme)


def _train(console, options):
    from npllm.cli.train import train_and_show
    from npllm.training.run import open_run

    names = ["text", "corpus", "tokenizer", "architecture", *(name.replace("-", "_") for name, *_ in TRAIN_OPTIONS)]
    given = [name for name in names if getattr(options, name) is not None]
    if options.checkpoint_every < 1:
        raise ValueError(f"checkpoint-every is {options.checkpoint_every}; it must be at least 1")
    if options.resume and given:
        raise ValueError(f"--resume goes on with the run as it was begun; leave out --{given[0].replace('_', '-')}")
    run = open_run(options.out) if options.resume else _begin_run(options)
    return train_and_show(console, run, options.checkpoint_every, options.readme)


def _begin_run(options):
    from npllm.models.presets import architecture
    from npllm.tokenizers.bpe import train_bpe
    from npllm.tokenizers.characters import CharacterTokenizer
    from npllm.tokenizers.gpt2 import GPT2Tokenizer
    from npllm.training.run import create_run
    from npllm.training.trainer import TrainingSettings

    text = _text(options)
    given = {name: getattr(options, name.replace("-", "_")) for name, *_ in TRAIN_OPTIONS}
    number = {name: default if given[name] is None else given[name] for name, default, *_ in TRAIN_OPTIONS}
    if options.tokenizer == "gpt2":
        tokenizer = GPT2Tokenizer.load()
    elif options.tokenizer == "bpe":
        tokenizer = train_bpe(text, number["vocab-size"])
    else:
        tokenizer = CharacterTokenizer.from_text(text)
    config = architecture(
        options.architecture or "gpt", tokenizer.vocab_size, number["context"], number["width"], number["layers"],
        number["heads"], number["dropout"],
    )  # fmt: skip
    settings = TrainingSettings(
        num_steps=number["steps"], batch_size=number["batch"], grad_accum_steps=number["micro-batches"],
        learning_rate=number["rate"], min_learning_rate=number["rate"] / 10, warmup_steps=number["warmup"],
        eval_interval=number["evaluate-every"], seed=number["seed"],
    )  # fmt: skip
    return create_run(options.out, text, tokenizer, config, settings)


def _generate(console, options):
    from npllm.cli.generate import generate_and_show

    generate_and_show(
        console, options.model, options.prompt, options.tokens, options.seed, temperature=options.temperature,
        top_k=options.top_k, top_p=options.top_p, repetition_penalty=options.repetition_penalty,
    )  # fmt: skip


def _words(console, options):
    from npllm.cli.word2vec import learn_and_show_words

    if options.steps < 1:
        raise ValueError(f"--steps is {options.steps}; it must be at least 1")
    learn_and_show_words(console, _text(options), options.words, options.model, options.steps, options.seed)


def _align(console, options):
    from npllm.cli.seq2seq import align_and_show

    if options.steps < 1:
        raise ValueError(f"--steps is {options.steps}; it must be at least 1")
    if options.figures is not None and os.path.isfile(options.figures):
        raise ValueError(f"{options.figures} is a file; --figures must be a folder")
    if options.readme is not None and options.attention == "none":
        raise ValueError("--attention is none; with --readme it must be a form of attention, to be held against none")
    align_and_show(
        console, options.task, options.attention, options.cell, options.steps, options.seed, options.figures,
        options.readme,
    )  # fmt: skip


def _text(options):
    """The text of --text or of --corpus; the shipped story if neither is given."""
    from npllm.utils import corpora

    return corpora.read(options.corpus or "story") if options.text is None else corpora.read_text_file(options.text)


def _version():
    try:
        return version("npllm")
    except PackageNotFoundError:
        return "(not installed)"
