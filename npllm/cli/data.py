"""`npllm data`: list the corpora, and download one with a progress bar.

[npllm data list | npllm data fetch NAME] → text → ids → …
"""

import argparse

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from npllm.utils import corpora
from npllm.utils.text_files import read_text_file


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("data", help="list or download the corpora")
    command.set_defaults(run=lambda console, options: list_corpora(console))
    actions = command.add_subparsers(title="commands", metavar="COMMAND")
    actions.add_parser("list", help="list the corpora and where they are (the default)")
    fetch = actions.add_parser("fetch", help="download a corpus")
    fetch.add_argument("name", metavar="NAME", help="the-verdict or tinyshakespeare")
    fetch.add_argument("--folder", metavar="FOLDER", help="where to save it (default: the user's cache folder)")
    fetch.set_defaults(run=run_fetch)


def run_fetch(console: Console, options: argparse.Namespace) -> int:
    """Download one corpus; return the exit status."""
    return fetch_corpus(console, options.name, options.folder)


def list_corpora(console: Console) -> None:
    """Print a table of the corpora: name, title and author, number of characters, path or download command."""
    table = Table("name", "text", caption_justify="left")
    table.add_column("characters", justify="right")
    table.add_column("path or command", overflow="fold")
    for corpus in corpora.CORPORA.values():
        characters, location = _state(corpus)
        about = Text(f"{corpus.title}\n{corpus.author}")
        table.add_row(Text(corpus.name), about, f"{characters:,}" if characters else "", location)
    console.print(table)
    console.print("Searched in this order; NPLLM_DATA can name folders to search first:", highlight=False)
    for folder in corpora.search_folders():
        console.print(Text(f"  {folder}"), soft_wrap=True)


def fetch_corpus(console: Console, name: str, folder: str | None = None) -> int:
    """Download a corpus with a progress bar and print its path; return the exit status: 0, or 1 after an error."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    downloaded = False

    def progress(received, size):
        nonlocal downloaded
        downloaded = True
        bar.update(task, completed=received, total=size)

    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(name, total=None)
            path = corpora.fetch(name, folder, progress)
    except (corpora.FetchError, ValueError) as error:
        console.print(Text(f"npllm data fetch: {error}", style="red"), soft_wrap=True)
        return 1
    console.print(Text(f"{name} {'was downloaded to' if downloaded else 'already exists:'} {path}"), soft_wrap=True)
    return 0


def _state(corpus):
    """(number of characters or None, path or download command or error) of a corpus."""
    try:
        path = corpora.find(corpus.name)
        if path is not None:
            return len(read_text_file(path)), Text(str(path))
    except (OSError, ValueError) as error:
        return None, Text(str(error), style="red")
    if corpus.url is None:
        return None, Text("missing, although it is part of npllm: reinstall npllm", style="red")
    return corpus.size, Text(f"npllm data fetch {corpus.name}")  # these texts are ASCII: one byte, one character
