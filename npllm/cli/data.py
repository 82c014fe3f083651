"""`npllm data`: which texts there are and where, and a progress bar while one is fetched.

    [npllm data list | npllm data fetch NAME] → text → ids → …

Each function prints to the rich Console that it is given.
"""

import argparse

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from npllm.utils import corpora


def add_parser(commands) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser("data", help="the texts that npllm knows")
    command.set_defaults(run=lambda console, options: list_corpora(console))
    actions = command.add_subparsers(title="commands", metavar="COMMAND")
    actions.add_parser("list", help="list them and where they are (the default)")
    fetch = actions.add_parser("fetch", help="download one into the cache folder")
    fetch.add_argument("name", metavar="NAME", help="the-verdict or tinyshakespeare")
    fetch.add_argument("--folder", metavar="FOLDER", help="another folder than the cache")
    fetch.set_defaults(run=run_fetch)


def run_fetch(console, options: argparse.Namespace) -> int:
    """Download one text."""
    return fetch_corpus(console, options.name, options.folder)


def list_corpora(console):
    """Print a table of the known texts: name, title and author, characters, and where each one is or how to get it."""
    table = Table("name", "text", caption_justify="left")
    table.add_column("characters", justify="right")
    table.add_column("where", overflow="fold")
    for corpus in corpora.CORPORA.values():
        characters, where = _state(corpus)
        about = Text(f"{corpus.title}\n{corpus.author}")
        table.add_row(Text(corpus.name), about, f"{characters:,}" if characters else "", where)
    console.print(table)
    console.print("Looked for in this order, first in the folders of NPLLM_DATA:", highlight=False)
    for folder in corpora.folders():
        console.print(Text(f"  {folder}"), soft_wrap=True)


def fetch_corpus(console, name, folder=None):
    """Fetch a known text, show how far it is, print where it is; return the exit status, 0 or 1 for an error."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    requested = False

    def progress(done, total):
        nonlocal requested
        requested = True
        bar.update(task, completed=done, total=total)

    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(name, total=None)
            path = corpora.fetch(name, folder, progress)
    except (corpora.FetchError, ValueError) as error:
        console.print(Text(f"npllm data fetch: {error}", style="red"), soft_wrap=True)
        return 1
    console.print(Text(f"{name} {'is now' if requested else 'was already'} at {path}"), soft_wrap=True)
    return 0


def _state(corpus):
    """The number of characters, or None, and where the text is, or what to do about it."""
    try:
        path = corpora.find(corpus.name)
        if path is not None:
            return len(corpora.read_text_file(path)), Text(str(path))
    except (OSError, ValueError) as error:
        return None, Text(str(error), style="red")
    if corpus.url is None:
        return None, Text("missing: it ships with npllm, so install that again", style="red")
    return corpus.size, Text(f"npllm data fetch {corpus.name}")  # the texts that are fetched are ASCII
