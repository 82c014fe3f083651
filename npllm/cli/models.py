"""`npllm models`: list the published models, and download one with a progress bar.

[npllm models | npllm models fetch NAME] → model, tokenizer → npllm generate, chat, tour, verify
"""

import argparse

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from npllm.models.catalog import MODELS, available_models, fetch_model, search_folders
from npllm.utils.corpora import FetchError


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("models", help="list or download published models")
    command.set_defaults(run=lambda console, options: list_models(console))
    actions = command.add_subparsers(title="commands", metavar="COMMAND")
    actions.add_parser("list", help="list the models and where they are (the default)")
    fetch = actions.add_parser("fetch", help="download a model into the user's cache folder")
    fetch.add_argument("name", metavar="NAME", help=", ".join(MODELS))
    fetch.set_defaults(run=run_fetch)


def run_fetch(console: Console, options: argparse.Namespace) -> int:
    """Download one model; return the exit status."""
    return fetch(console, options.name)


def list_models(console: Console) -> None:
    """Print a table of the known models and of those in the search folders: name, title, size, path or command."""
    found = {model.name: model for model in available_models()}
    table = Table("name", "model")
    table.add_column("size", justify="right")
    table.add_column("path or command", overflow="fold")
    for name, model in MODELS.items():
        at_hand = found.pop(name, None)
        where = f"npllm models fetch {name}" if at_hand is None else str(at_hand.path)
        about = f"{model.title}\n{model.license}"
        table.add_row(Text(name), Text(about), _megabytes(model.size), Text(where))
    for other in found.values():
        kind = "GGUF file" if other.path.is_file() else "folder"
        table.add_row(Text(other.name), Text(kind), _megabytes(other.size), Text(str(other.path)))
    console.print(table)
    console.print(
        "A model is a folder with config.json, *.safetensors and tokenizer.json, or a GGUF file. Its path, or its name "
        "in one of these folders, is what --model takes; NPLLM_MODELS can name folders to search first:"
    )
    for folder in search_folders():
        console.print(Text(f"  {folder}"), soft_wrap=True)


def fetch(console: Console, name: str) -> int:
    """Download a model with a progress bar and print its path; return the exit status: 0, or 1 after an error."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    downloaded = False

    def progress(received: int, size: int) -> None:
        nonlocal downloaded
        downloaded = True
        bar.update(task, completed=received, total=size)

    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(name, total=None)
            path = fetch_model(name, progress)
    except (FetchError, ValueError) as error:
        console.print(Text(f"npllm models fetch: {error}", style="red"), soft_wrap=True)
        return 1
    console.print(Text(f"{name} {'was downloaded to' if downloaded else 'already exists:'} {path}"), soft_wrap=True)
    return 0


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
