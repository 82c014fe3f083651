import gc
import hashlib
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from npllm.utils import corpora
from npllm.utils.files import data_folder
from tests.utils.text_server import RawServer, TextServer, closed_port

CONTENT = b"".join(b"Line %d of a text that is longer than one chunk.\n" % i for i in range(5000))
OTHER = CONTENT.replace(b"longer", b"larger")
SIZE = len(CONTENT)
FOLDERS = corpora.search_folders()  # before the fixture hides the user's own


@pytest.fixture(scope="module")
def shared_server():
    with TextServer(CONTENT) as server:
        yield server


@pytest.fixture
def server(shared_server):
    shared_server.serve(CONTENT)
    shared_server.requests = 0
    return shared_server


@pytest.fixture
def register(monkeypatch):
    """A function that adds the corpus `text`, with this URL."""

    def register(url):
        corpus = replace(
            corpora.CORPORA["the-verdict"],
            name="text",
            title="A Text",
            file_name="text.txt",
            url=url,
            size=SIZE,
            sha256=hashlib.sha256(CONTENT).hexdigest(),
        )
        monkeypatch.setitem(corpora.CORPORA, "text", corpus)

    return register


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch, register, shared_server):
    """An empty cache folder for each test, and the corpus `text` at the test server; returns the folder."""
    monkeypatch.delenv("NPLLM_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setenv("no_proxy", "*")
    register(shared_server.url)
    return corpora.cache_folder()


def put(folder, content, name="text.txt"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def contents(folder):
    """The files in the folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


class TestFolders:
    def test_order_of_the_search_folders(self, monkeypatch, cache, tmp_path):
        monkeypatch.setenv("NPLLM_DATA", os.pathsep.join(["one", "", str(tmp_path / "two"), "~/three"]))
        assert corpora.search_folders() == [
            Path("one"),
            tmp_path / "two",
            tmp_path / "home" / "three",
            cache,
            data_folder(),
        ]

    @pytest.mark.parametrize(
        "platform, xdg, expected",
        [
            ("linux", "/somewhere", "/somewhere/npllm"),
            ("linux", "", "home/.cache/npllm"),
            ("linux", "relative", "home/.cache/npllm"),  # the XDG specification says to ignore it
            ("darwin", "/somewhere", "home/Library/Caches/npllm"),
            ("win32", "/somewhere", "local/npllm/Cache"),
        ],
    )
    def test_cache_folder_of_each_system(self, monkeypatch, tmp_path, platform, xdg, expected):
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setenv("XDG_CACHE_HOME", xdg)
        assert corpora.cache_folder() == tmp_path / expected


class TestFindAndRead:
    def test_the_first_folder_with_the_file_is_used(self, monkeypatch, cache, tmp_path):
        monkeypatch.setenv("NPLLM_DATA", os.pathsep.join([str(tmp_path / "empty"), str(tmp_path / "mine")]))
        assert corpora.find("text") is None
        in_cache = put(cache, CONTENT)
        assert corpora.find("text") == in_cache
        assert corpora.find("text") != put(tmp_path, CONTENT)
        mine = put(tmp_path / "mine", CONTENT)
        assert corpora.find("text") == mine
        assert corpora.read("text") == CONTENT.decode()

    def test_a_missing_corpus_names_the_command(self):
        with pytest.raises(FileNotFoundError, match="npllm data fetch text"):
            corpora.read("text")

    def test_a_missing_shipped_text_names_no_command(self, monkeypatch, tmp_path):
        monkeypatch.setattr(corpora, "data_folder", lambda: tmp_path)
        with pytest.raises(FileNotFoundError, match="install") as error:
            corpora.read("story")
        assert "fetch" not in str(error.value)

    @pytest.mark.parametrize("function", [corpora.find, corpora.read, corpora.fetch])
    def test_an_unknown_name_lists_the_known_ones(self, function):
        with pytest.raises(ValueError, match="'the-verdit'.*story, the-verdict, tinyshakespeare"):
            function("the-verdit")

    @pytest.mark.parametrize("function", [corpora.find, corpora.read])
    @pytest.mark.parametrize("wrong", [OTHER, CONTENT[:-1], CONTENT.replace(b"\n", b"\r\n"), b""])
    def test_a_file_with_other_content_is_not_used(self, monkeypatch, cache, tmp_path, function, wrong):
        put(cache, CONTENT)
        monkeypatch.setenv("NPLLM_DATA", str(tmp_path / "mine"))
        path = put(tmp_path / "mine", wrong)
        with pytest.raises(ValueError, match=f"{path} is not A Text: .*; rename it"):
            function("text")

    def test_the_error_for_other_content_in_the_cache_names_the_command(self, cache):
        put(cache, OTHER)
        with pytest.raises(ValueError, match="npllm data fetch text"):
            corpora.read("text")

    def test_the_shipped_text(self):
        path = corpora.find("story")
        assert path == data_folder() / "weather-permitting.txt"
        assert corpora.read("story") == path.read_text(encoding="utf-8")
        assert corpora.fetch("story") == corpora.fetch("story", folder="elsewhere") == path

    @pytest.mark.parametrize("name", ["the-verdict", "tinyshakespeare"])
    def test_pinned_hashes_of_the_real_texts(self, monkeypatch, name):
        monkeypatch.setattr(corpora, "search_folders", lambda: FOLDERS)
        path = corpora.find(name)
        if path is None:
            pytest.skip(f"`npllm data fetch {name}` downloads the text")
        corpus = corpora.CORPORA[name]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == corpus.sha256
        assert len(corpora.read(name)) == path.stat().st_size == corpus.size  # ASCII: a byte is a character


class TestFetch:
    def test_the_file_is_saved_and_progress_reported(self, server, cache):
        steps = []
        path = corpora.fetch("text", progress=lambda received, size: steps.append((received, size)))
        assert path == cache / "text.txt" == corpora.find("text")
        assert contents(cache) == {"text.txt": CONTENT}
        assert len(steps) > 1 and steps == sorted(set(steps)) and steps[-1] == (SIZE, SIZE)

    def test_into_a_folder(self, server, cache, tmp_path):
        path = corpora.fetch("text", folder=str(tmp_path / "a" / "b"))
        assert path == tmp_path / "a" / "b" / "text.txt"
        assert contents(path.parent) == {"text.txt": CONTENT}
        assert not cache.exists()

    def test_an_existing_file_needs_no_request(self, monkeypatch, server, cache, tmp_path):
        path = put(cache, CONTENT)
        assert corpora.fetch("text") == corpora.fetch("text", folder=cache) == path
        monkeypatch.setenv("NPLLM_DATA", str(tmp_path / "mine"))
        mine = put(tmp_path / "mine", CONTENT)
        assert corpora.fetch("text") == mine
        assert server.requests == 0

    def test_a_wrong_file_in_the_cache_is_replaced_only_by_the_correct_one(self, server, cache):
        put(cache, OTHER)
        server.serve(OTHER)
        with pytest.raises(corpora.FetchError):
            corpora.fetch("text")
        assert contents(cache) == {"text.txt": OTHER}
        server.serve(CONTENT)
        corpora.fetch("text")
        assert contents(cache) == {"text.txt": CONTENT}

    def test_a_wrong_file_elsewhere_is_not_replaced(self, monkeypatch, server, cache, tmp_path):
        path = put(tmp_path / "mine", OTHER)
        with pytest.raises(corpora.FetchError, match="rename it"):
            corpora.fetch("text", folder=path.parent)
        monkeypatch.setenv("NPLLM_DATA", str(path.parent))  # searched before the cache folder
        with pytest.raises(corpora.FetchError, match="rename it"):
            corpora.fetch("text")
        assert contents(path.parent) == {"text.txt": OTHER} and not cache.exists() and server.requests == 0

    @pytest.mark.parametrize("announce", [True, False])
    @pytest.mark.parametrize(
        ("served", "message"),
        [
            (OTHER, "its SHA-256 is [0-9a-f]{64}, not [0-9a-f]{64}"),
            (b"<html>Log in</html>", f"it has 19 of {SIZE} bytes"),
            (b"", f"it has 0 of {SIZE} bytes"),
            (CONTENT * 3, f"it has more than {SIZE} bytes"),
        ],
    )
    def test_other_content_is_refused(self, server, cache, announce, served, message):
        server.serve(served, announce=announce)
        with pytest.raises(corpora.FetchError, match=f"{server.url} is not A Text: {message}; nothing was saved"):
            corpora.fetch("text")
        assert contents(cache) == {}

    @pytest.mark.parametrize("received", [0, 1000, SIZE - 1])
    def test_a_connection_closed_too_early(self, server, cache, received):
        server.serve(CONTENT, truncate=received)
        with pytest.raises(corpora.FetchError, match=f"(it has {received} of {SIZE} bytes|IncompleteRead).*ry again"):
            corpora.fetch("text")
        assert contents(cache) == {}

    @pytest.mark.parametrize("status", [403, 404, 500])
    def test_an_error_of_the_server(self, server, cache, status):
        server.serve(CONTENT, status=status)
        with pytest.raises(corpora.FetchError, match=rf"answers {status} .*or save the file as {cache / 'text.txt'}"):
            corpora.fetch("text")
        assert contents(cache) == {}

    def test_no_network(self, register, cache):
        register(closed_port())
        with pytest.raises(corpora.FetchError, match="cannot download .*refused; check the connection"):
            corpora.fetch("text")
        assert contents(cache) == {}

    @pytest.mark.parametrize("exception", [KeyboardInterrupt, ZeroDivisionError])
    def test_an_interrupted_download_leaves_no_file(self, server, cache, exception):
        def interrupt(received, size):
            raise exception

        with pytest.raises(exception):
            corpora.fetch("text", progress=interrupt)
        assert contents(cache) == {}

    def test_a_folder_that_cannot_be_created(self, server, tmp_path):
        put(tmp_path, b"", "file")
        with pytest.raises(corpora.FetchError, match="cannot write"):
            corpora.fetch("text", folder=tmp_path / "file")

    def test_a_full_disk(self, monkeypatch, server, cache):
        def full(*arguments):
            raise OSError(28, "No space left on device")

        put(cache, OTHER)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(corpora.FetchError, match="cannot write .*No space left on device"):
            corpora.fetch("text")
        assert contents(cache) == {"text.txt": OTHER}

    def test_a_shipped_text_that_is_missing(self, monkeypatch, tmp_path):
        monkeypatch.setattr(corpora, "data_folder", lambda: tmp_path)
        with pytest.raises(corpora.FetchError, match="reinstall npllm"):
            corpora.fetch("story")


class TestHostileServers:
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # urllib leaves a socket open
    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (b"HTTP/1.1 404 \x1b]0;title\x07gone\r\n\r\n", r"answers 404 \\x1b\]0;title\\x07gone"),
            (b"HTTP/1.1 \x1b[31m\r\n\r\n", "cannot download .*x1b"),
            (b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n", "cannot download .*Invalid IPv6 URL"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: \x1b]0;x\r\n\r\nabc", "is not A Text: it has 3 of"),
        ],
    )
    def test_the_error_is_one_sentence_without_control_characters(self, register, answer, message):
        with RawServer([answer]) as url:
            register(url)
            with pytest.raises(corpora.FetchError, match=message) as error:
                corpora.fetch("text")
        assert str(error.value).isprintable()
        del error
        gc.collect()

    @pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"])
    def test_a_server_that_sends_a_byte_now_and_then_reaches_the_deadline(self, register, monkeypatch, start, cache):
        monkeypatch.setattr(corpora, "DEADLINE", 0.3)
        with RawServer([start, *[b"1"] * 1000], pause=0.05) as url:
            register(url)
            began = time.monotonic()
            with pytest.raises(corpora.FetchError, match=r"it takes longer than 0.3 s; .*save the file as"):
                corpora.fetch("text")
        assert time.monotonic() - began < 3
        assert contents(cache) == {}

    def test_a_huge_file_with_the_name_of_a_corpus_is_not_read(self, cache, tmp_path):
        path = put(tmp_path / "folder", b"")
        os.truncate(path, 1 << 40)
        with pytest.raises(corpora.FetchError, match=f"{path} is not A Text: it has more than {SIZE} bytes"):
            corpora.fetch("text", tmp_path / "folder")
