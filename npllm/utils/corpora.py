"""The known texts: which there are, where they are looked for, and how the ones that do not ship are fetched.

    [text] → ids → windows → batches → model

A known text is known by its SHA-256: the numbers in this project are computed from exactly these bytes, so a file
of the right name and other content is an error, never a silent substitute.

A fetch writes to `NAME.part` and asks for the missing rest only when it is run again. What has the right hash, and
nothing else, gets the final name.
"""

import hashlib
import http.client
import os
import re
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from npllm.utils import files

CHUNK = 1 << 16


@dataclass(frozen=True)
class Corpus:
    """A text with a name. One that is fetched has a url, and the size in bytes and SHA-256 that it must have."""

    name: str
    title: str
    author: str
    description: str
    file_name: str
    url: str | None = None
    size: int | None = None
    sha256: str | None = None


SHIPPED = Corpus(
    name="story",
    title="Weather Permitting",
    author="npllm",
    description="a short story that ships with the project",
    file_name="weather-permitting.txt",
)

CORPORA = {
    corpus.name: corpus
    for corpus in (
        SHIPPED,
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
    """A text could not be fetched; the message says why, and what to do."""


def corpus_named(name):
    """Return the Corpus; raise ValueError naming the known ones if there is none."""
    if name not in CORPORA:
        raise ValueError(f"name is {name!r}; it must be one of the known texts: {', '.join(CORPORA)}")
    return CORPORA[name]


def folders():
    """Where texts are looked for, in this order.

    Each folder in the environment variable NPLLM_DATA, the user's cache folder, the folder of the shipped text.
    """
    given = [Path(folder).expanduser() for folder in os.environ.get("NPLLM_DATA", "").split(os.pathsep) if folder]
    return [*given, cache_folder(), shipped_folder()]


def cache_folder():
    """The user's folder for what can be fetched again; it may not exist yet."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "npllm" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "npllm"
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache") / "npllm"


def shipped_folder():
    """The folder of the text that ships: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "data"
    return installed if installed.is_dir() else package.parent / "data"


def find(name):
    """Return the path of a known text in the first of `folders()` that has it, or None.

    Raises ValueError for an unknown name, and for a file there that has the name of the text but not its content.
    """
    corpus = corpus_named(name)
    path = _first(corpus, folders())
    if path is not None:
        difference = _difference(corpus, path)
        if difference:
            remedy = f"run `npllm data fetch {name}` to replace it" if path.parent == cache_folder() else "rename it"
            raise ValueError(f"{path} {difference}; {remedy}")
    return path


def read(name):
    """Return a known text. Raises FileNotFoundError naming the command that fetches it; see `find` for the rest."""
    corpus = corpus_named(name)
    path = find(name)
    if path is None:
        remedy = f"`npllm data fetch {name}` fetches it" if corpus.url else "it ships with npllm, so install that again"
        looked = ", ".join(map(str, folders()))
        raise FileNotFoundError(f"{corpus.title} is not here: {remedy} (looked for {corpus.file_name} in {looked})")
    return read_text_file(path)


def read_text_file(path):
    """Return the text in a UTF-8 file, without a byte order mark and with every line's end as a newline.

    What `open(path, encoding="utf-8-sig").read()` gives. Raises FileNotFoundError, IsADirectoryError, or ValueError
    for what is not text or holds none.
    """
    must_be_a_text_file(path)
    content = Path(path).read_bytes()
    must_have_no_nul(path, content)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(path, error.start, content[error.start]) from error
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise ValueError(f"{path} {'holds only blanks' if text else 'is empty'}; it must hold some text")
    return text


def must_be_a_text_file(path):
    """Raise FileNotFoundError for what is not there, IsADirectoryError for a folder."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; it must be a text file")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; it must be a text file")


def must_have_no_nul(path, content):
    """Raise ValueError for bytes that are no text in UTF-8, although they may be valid UTF-8."""
    if b"\0" in content:
        raise ValueError(f"{path} is binary or UTF-16 (it has NUL bytes); it must be text in UTF-8")


def not_utf8(path, position, byte):
    """The error for a file in which this byte, counted from 0, is not UTF-8."""
    where = f"byte {position} is 0x{byte:02x}"
    return ValueError(f"{path} is binary or in another encoding ({where}); it must be text in UTF-8")


def fetch(name, folder=None, progress=None, url=None, timeout=30.0):
    """Download a known text and return its path; what is already here, and right, costs no request.

    folder     where to; the user's cache folder unless given
    progress   is called with the bytes done and the bytes in all, at the start and after each piece
    url        another place that has the same bytes
    timeout    seconds without an answer after which to give up

    Raises FetchError when it cannot; then no file has changed but the `.part`, from which the next call continues.
    Of several calls at once, one downloads and the others wait for its file. The text that ships is not copied: its
    path is returned.
    """
    corpus = corpus_named(name)
    url = url or corpus.url
    path = (cache_folder() if folder is None else Path(folder)) / corpus.file_name
    here = _first(corpus, folders() if folder is None or url is None else [path.parent])
    if here is not None:
        difference = _difference(corpus, here)
        if not difference:
            return here
        if here != path or folder is not None:  # a file that npllm did not put there
            raise FetchError(f"{here} {difference}; rename it, then fetch again")
    if url is None:
        raise FetchError(f"{corpus.title} ships with npllm but is not in {shipped_folder()}; install npllm again")
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"url is {url!r}; it must begin with https:// or http://")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.alone(path.with_name(f"{path.name}.lock")):
            if not path.is_file() or _difference(corpus, path):  # else another process fetched it while we waited
                part = path.with_name(f"{path.name}.part")
                _download(corpus, url, part, progress or (lambda done, total: None), timeout)
                _accept(corpus, url, part, path)
    except FetchError:
        raise
    except OSError as error:
        raise FetchError(f"cannot write {path}: {error}") from error
    return path


def _first(corpus, where):
    """The first file of the corpus's name in the folders, whatever it holds, or None."""
    paths = [folder / corpus.file_name for folder in where]
    return next((path for path in paths if path.is_file()), None)


def _difference(corpus, path):
    """What tells the file from the corpus, as the end of a sentence that begins with its place, or None."""
    if corpus.sha256 is None:
        return None
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 == corpus.sha256:
        return None
    return (
        f"is not {corpus.title}: it has {len(content)} bytes and SHA-256 {sha256}, "
        f"but must have {corpus.size} bytes and SHA-256 {corpus.sha256}"
    )


def _download(corpus, url, part, progress, timeout):
    """Add to the file `part` what it lacks of the corpus's bytes; whether they are the right ones is asked later."""
    done = part.stat().st_size if part.exists() else 0
    if done > corpus.size or (done == corpus.size and _difference(corpus, part)):
        done = 0
    progress(done, corpus.size)
    if done == corpus.size:
        return
    with _open(corpus, url, done, part, timeout) as response:
        if response.status == 200:  # the whole file: asked for, or sent because the server does not know Range
            done = 0
        total = _announced_size(corpus, url, response, done, part)
        with open(part, "ab" if done else "wb") as file:
            while done < corpus.size:
                try:
                    piece = response.read1(min(CHUNK, corpus.size - done))
                    if not piece and total is not None:
                        raise ConnectionError("it was closed too early")
                except (OSError, http.client.HTTPException) as error:
                    raise FetchError(
                        f"the connection for {url} was cut after {done} of {corpus.size} bytes ({error}); run the same "
                        "command again to continue from there"
                    ) from error
                if not piece:
                    break  # no size was announced, so this may be all there is: the hash will tell
                file.write(piece)
                file.flush()  # a process that is killed leaves what it has reported
                done += len(piece)
                progress(done, corpus.size)


def _open(corpus, url, start, part, timeout):
    """Ask for the file from byte `start` on, and return the response."""
    headers = {"User-Agent": "npllm", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    by_hand = f"put the file into {part.parent} as {corpus.file_name}"
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:  # the file there ends before ours does
            return _open(corpus, url, 0, part, timeout)
        raise FetchError(f"{error.code} {error.reason} from {url}; try again later, or {by_hand}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise FetchError(f"no connection for {url} ({reason}); try again with a network, or {by_hand}") from error


def _announced_size(corpus, url, response, start, part):
    """The size of the file that the header names, or None; raise FetchError if this is not the rest of the corpus."""
    total = response.headers.get("Content-Length")
    if start:
        content_range = response.headers.get("Content-Range", "")
        match = re.fullmatch(rf"bytes {start}-\d+/(\d+)", content_range)
        if response.status != 206 or not match:
            part.unlink()  # so that the next request is for the whole file
            raise FetchError(
                f"{response.status} {content_range!r} from {url}, asked for its bytes from {start} on; run the same "
                "command again to start afresh"
            )
        total = match[1]
    elif response.status != 200:
        raise FetchError(f"{response.status} {response.reason} from {url}; it must be 200")
    if total not in (None, str(corpus.size)):
        raise FetchError(
            f"{url} has {total} bytes, but {corpus.title} has {corpus.size}: the file there has changed, or something "
            "else has answered in its place"
        )
    return total


def _accept(corpus, url, part, path):
    """Give the finished `part` its final name, or remove it and raise FetchError if it is not the corpus."""
    difference = _difference(corpus, part)
    if difference:
        part.unlink()
        raise FetchError(f"{url} {difference}; nothing was kept, run the same command again to start afresh")
    with files.atomic_write(path) as file:
        file.write(part.read_bytes())
    part.unlink()
