"""The corpora: names, search folders, and the download of those that do not ship with npllm.

    [text] → ids → windows → batches → model

A corpus is identified by its SHA-256, because documented numbers of this project are computed from exactly these
bytes. A file with the right name and other content is an error. A download is checked in memory and then written
atomically, so an interrupted one leaves no file.
"""

import hashlib
import http.client
import os
import queue
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from npllm.utils.files import atomic_write, data_folder
from npllm.utils.text_files import read_text_file

CHUNK = 1 << 16  # bytes between two calls of `progress`
TIMEOUT = 30.0  # seconds without an answer
DEADLINE = 600.0  # seconds for the whole download: a server may send a byte now and then for ever

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Corpus:
    """A text with a name; a corpus to download has a URL, its size in bytes and its SHA-256."""

    name: str
    title: str
    author: str
    description: str
    file_name: str
    url: str | None = None
    size: int = 0
    sha256: str | None = None


CORPORA = {
    corpus.name: corpus
    for corpus in (
        Corpus(
            name="story",
            title="Weather Permitting",
            author="npllm",
            description="a short story that ships with the project",
            file_name="weather-permitting.txt",
        ),
        Corpus(
            name="the-verdict",
            title="The Verdict",
            author="Edith Wharton, 1908",
            description="a short story, in chapter 2 of Raschka's Build a Large Language Model (From Scratch)",
            file_name="the-verdict.txt",
            url="https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/ch02/01_main-chapter-code/the-verdict.txt",
            size=20479,
            sha256="b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f",
        ),
        Corpus(
            name="tinyshakespeare",
            title="Tiny Shakespeare",
            author="William Shakespeare",
            description="40,000 lines of the plays, from Karpathy's char-rnn",
            file_name="tinyshakespeare.txt",
            url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
            size=1115394,
            sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        ),
    )
}


class FetchError(OSError):
    """A corpus could not be downloaded; the message says why and what to do."""


def get_corpus(name: str) -> Corpus:
    """Return a Corpus; raise ValueError with the known names if there is none of this name."""
    if name not in CORPORA:
        raise ValueError(f"name is {name!r}; it must be one of {', '.join(CORPORA)}")
    return CORPORA[name]


def search_folders() -> list[Path]:
    """Where corpora are searched, in this order.

    The folders in the environment variable NPLLM_DATA, the user's cache folder, the folder of the shipped files.
    """
    given = [folder for folder in os.environ.get("NPLLM_DATA", "").split(os.pathsep) if folder]
    return [*(Path(os.path.expanduser(folder)) for folder in given), cache_folder(), data_folder()]


def cache_folder() -> Path:
    """The user's cache folder for npllm, as each operating system defines it; it may not exist yet."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "npllm" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "npllm"
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache") / "npllm"


def find(name: str) -> Path | None:
    """Return the path of a corpus in the first of `search_folders()` that has it, or None.

    Raises ValueError for an unknown name, and for a file with the name of the corpus and other content.
    """
    corpus = get_corpus(name)
    path = _first_file(corpus, search_folders())
    if path is not None:
        difference = _file_difference(corpus, path)
        if difference:
            remedy = f"`npllm data fetch {name}` replaces it" if path.parent == cache_folder() else "rename it"
            raise ValueError(f"{path} {difference}; {remedy}")
    return path


def read(name: str) -> str:
    """Return the text of a corpus; raises FileNotFoundError if it was not downloaded, ValueError as `find` does."""
    corpus = get_corpus(name)
    path = find(name)
    if path is None:
        remedy = f"`npllm data fetch {name}` downloads it" if corpus.url else "it is part of npllm, so reinstall npllm"
        searched = ", ".join(map(str, search_folders()))
        raise FileNotFoundError(
            f"{corpus.title} was not found: {remedy} (searched for {corpus.file_name} in {searched})"
        )
    return read_text_file(path)


def fetch(name: str, folder: str | Path | None = None, progress: Progress | None = None) -> Path:
    """Download a corpus and return its path; without a request if the file already exists.

    Args:
        folder: where to save it; by default the user's cache folder.
        progress: called with (bytes received, size in bytes) after each chunk.

    Raises FetchError if the corpus cannot be downloaded or saved; no file has changed then. The path of a corpus that
    ships with npllm is returned, wherever it is.
    """
    corpus = get_corpus(name)
    path = (cache_folder() if folder is None else Path(folder)) / corpus.file_name
    existing = _first_file(corpus, search_folders() if folder is None or corpus.url is None else [path.parent])
    if existing is not None:
        difference = _file_difference(corpus, existing)
        if not difference:
            return existing
        if existing != path or folder is not None:  # not a file that npllm has downloaded
            raise FetchError(f"{existing} {difference}; rename it, then fetch again")
    if corpus.url is None:
        raise FetchError(f"{corpus.title} is part of npllm, but is not in {data_folder()}; reinstall npllm")
    content = _download(corpus, corpus.url, path, progress or (lambda received, size: None))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise FetchError(f"cannot write {path}: {error}") from error
    return path


def _download(corpus: Corpus, url: str, path: Path, progress: Progress) -> bytes:
    """The bytes at the URL; raise FetchError unless they are those of the corpus."""
    by_hand = f"or save the file as {path}"
    request = urllib.request.Request(url, headers={"User-Agent": "npllm"})
    content = bytearray()
    try:
        for chunk in _chunks_until(request, time.monotonic() + DEADLINE):
            content += chunk
            progress(len(content), corpus.size)
            if len(content) > corpus.size:
                break
    except urllib.error.HTTPError as error:
        error.close()
        reason = _printable(error.reason)
        raise FetchError(f"{url} answers {error.code} {reason}; try again later, {by_hand}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a redirect to http://[::1
        reason = _printable(getattr(error, "reason", error))
        raise FetchError(f"cannot download {url}: {reason}; check the connection and try again, {by_hand}") from error
    difference = _difference(corpus, content)
    if difference:
        raise FetchError(f"the download of {url} {difference}; nothing was saved. Try again, {by_hand}")
    return bytes(content)


def _chunks_until(request: urllib.request.Request, end: float) -> Iterator[bytes]:
    """Iterate over the bytes of an answer. Raises TimeoutError at the time `end` of time.monotonic(), and as `urlopen`.

    A socket's timeout is for one call, so a server that sends a byte of the header every few seconds never reaches it.
    A thread reads, and this one waits until the end. The thread is a daemon: it does not keep the process alive.
    """
    chunks: queue.Queue[bytes | Exception] = queue.Queue(maxsize=4)
    stopped = threading.Event()

    def read():
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                while not stopped.is_set() and (chunk := response.read1(CHUNK)):
                    chunks.put(chunk)
            chunks.put(b"")
        except Exception as error:  # raised again in the thread that waits
            chunks.put(error)

    threading.Thread(target=read, daemon=True).start()
    try:
        while chunk := chunks.get(timeout=max(0.0, end - time.monotonic())):
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk
    except queue.Empty:
        raise TimeoutError(f"it takes longer than {DEADLINE:g} s") from None
    finally:
        stopped.set()
        with suppress(queue.Empty):
            while True:  # the thread may wait for space
                chunks.get_nowait()


def _printable(reason: object) -> str:
    """The words of a server or of an error, without control characters, which a terminal would execute."""
    text = str(reason)[:200]
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _first_file(corpus, folders):
    """The first file with the corpus's name in the folders, whatever its content, or None."""
    paths = [folder / corpus.file_name for folder in folders]
    return next((path for path in paths if path.is_file()), None)


def _file_difference(corpus, path):
    """The `_difference` of a file; one of another size is not read."""
    if corpus.sha256 is None:
        return None
    size = path.stat().st_size
    return _size_difference(corpus, size) or _difference(corpus, path.read_bytes())


def _size_difference(corpus, size):
    if size == corpus.size:
        return None
    comparison = "more than" if size > corpus.size else f"{size} of"
    return f"is not {corpus.title}: it has {comparison} {corpus.size} bytes"


def _difference(corpus, content):
    """How the content differs from that of the corpus, as the predicate of a sentence, or None."""
    if corpus.sha256 is None:
        return None
    if different := _size_difference(corpus, len(content)):
        return different
    sha256 = hashlib.sha256(content).hexdigest()
    return None if sha256 == corpus.sha256 else f"is not {corpus.title}: its SHA-256 is {sha256}, not {corpus.sha256}"
