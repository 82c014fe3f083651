import hashlib
import io
import os

import pytest
from rich.console import Console

from npllm.cli.data import fetch_corpus, list_corpora
from npllm.utils import corpora
from tests.utils.text_server import TextServer, closed_port

CONTENT = b"One line of a text.\n" * 10_000


@pytest.fixture
def server():
    with TextServer(CONTENT) as server:
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder for each test; returns it."""
    monkeypatch.delenv("NPLLM_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "[cache]"))  # square brackets are rich's markup
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "[cache]"))
    monkeypatch.setenv("no_proxy", "*")
    return corpora.cache_folder()


@pytest.fixture
def register(monkeypatch):
    """A function that adds the corpus `text`, with this URL."""

    def register(url):
        sha256 = hashlib.sha256(CONTENT).hexdigest()
        corpus = corpora.Corpus("text", "A Text", "An Author", "for tests", "text.txt", url, len(CONTENT), sha256)
        monkeypatch.setitem(corpora.CORPORA, "text", corpus)

    return register


def printed(function, *arguments, terminal=False):
    """What the function returns, and what it prints."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=400, color_system=None)
    return function(console, *arguments), console.file.getvalue()


class TestList:
    def test_all_corpora_are_listed_with_the_command_for_missing_ones(self, monkeypatch, tmp_path):
        monkeypatch.setenv("NPLLM_DATA", str(tmp_path / "[mine]"))
        _, text = printed(list_corpora)
        for corpus in corpora.CORPORA.values():
            assert corpus.name in text and corpus.title in text and corpus.author in text
        assert "20,479" in text and "1,115,394" in text
        assert f"{len(corpora.read('story')):,}" in text and str(corpora.find("story")) in text
        assert "npllm data fetch the-verdict" in text and "npllm data fetch tinyshakespeare" in text
        assert "npllm data fetch story" not in text
        order = [text.index(f"  {folder}\n") for folder in corpora.search_folders()]
        assert order == sorted(order)

    def test_an_available_corpus(self, register, cache):
        register("http://127.0.0.1:9/")
        cache.mkdir(parents=True)
        (cache / "text.txt").write_bytes(CONTENT)
        _, text = printed(list_corpora)
        assert f"{len(CONTENT):,}" in text and str(cache / "text.txt") in text
        assert "fetch text" not in text

    def test_other_content_is_reported(self, register, cache):
        register("http://127.0.0.1:9/")
        cache.mkdir(parents=True)
        (cache / "text.txt").write_bytes(b"something else")
        _, text = printed(list_corpora)
        assert "is not A Text: it has 14 of 200000 bytes" in text

    def test_the_shipped_text_is_missing(self, monkeypatch, tmp_path):
        monkeypatch.setattr(corpora, "data_folder", lambda: tmp_path)
        _, text = printed(list_corpora)
        assert "missing, although it is part of npllm: reinstall npllm" in text


class TestFetch:
    def test_a_line_without_a_terminal(self, register, server, cache):
        register(server.url)
        assert printed(fetch_corpus, "text") == (0, f"text was downloaded to {cache / 'text.txt'}\n")
        assert printed(fetch_corpus, "text") == (0, f"text already exists: {cache / 'text.txt'}\n")
        assert (cache / "text.txt").read_bytes() == CONTENT

    def test_a_bar_on_a_terminal(self, register, server, cache):
        register(server.url)
        status, text = printed(fetch_corpus, "text", terminal=True)
        assert status == 0
        assert "200.0/200.0 kB" in text
        assert "\x1b[2K" in text.rpartition("200.0 kB")[2]  # the bar is erased at the end
        assert text.endswith(f"text was downloaded to {cache / 'text.txt'}\n")

    def test_into_a_folder(self, register, server, tmp_path):
        register(server.url)
        assert printed(fetch_corpus, "text", tmp_path / "mine")[0] == 0
        assert os.listdir(tmp_path / "mine") == ["text.txt"]

    @pytest.mark.parametrize("terminal", [False, True])
    def test_errors_are_a_line_and_a_status(self, register, server, cache, terminal):
        register(server.url)
        server.serve(CONTENT[:1000])
        status, text = printed(fetch_corpus, "text", terminal=terminal)
        assert status == 1 and "it has 1000 of 200000 bytes; nothing was saved" in text
        assert not cache.exists()
        register(closed_port())
        status, text = printed(fetch_corpus, "text", terminal=terminal)
        assert status == 1 and "cannot download" in text and "Traceback" not in text

    def test_an_unknown_name(self):
        status, text = printed(fetch_corpus, "verdict")
        assert status == 1 and "'verdict'" in text and "the-verdict" in text and text.count("\n") == 1
