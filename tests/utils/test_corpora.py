import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.utils import corpora, files
from tests.utils.text_server import TextServer, closed_port

CONTENT = b"".join(b"Line %d of a text that is long enough to be cut.\n" % i for i in range(5000))
OTHER = CONTENT.replace(b"cut", b"put")
SIZE = len(CONTENT)
FOLDERS = corpora.folders()  # before the tests hide the user's own

KNOWN = replace(
    corpora.CORPORA["the-verdict"],
    name="text",
    title="A Text",
    file_name="text.txt",
    url="http://127.0.0.1:9/",
    size=SIZE,
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)


@pytest.fixture(scope="module")
def shared_server():
    with TextServer(CONTENT) as server:
        yield server


@pytest.fixture
def server(shared_server):
    shared_server.serve(CONTENT)
    return shared_server


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder of one's own, and a known text called `text`; returns the folder."""
    monkeypatch.delenv("NPLLM_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setitem(corpora.CORPORA, "text", KNOWN)
    return corpora.cache_folder()


def put(folder, content, name="text.txt"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def contents(folder):
    """The files in the folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


class TestFolders:
    def test_order(self, monkeypatch, cache, tmp_path):
        monkeypatch.setenv("NPLLM_DATA", os.pathsep.join(["one", "", str(tmp_path / "two"), "~/three"]))
        assert corpora.folders() == [
            Path("one"),
            tmp_path / "two",
            tmp_path / "home" / "three",
            cache,
            corpora.shipped_folder(),
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

    def test_shipped_folder_is_inside_an_installed_package(self, monkeypatch, tmp_path):
        monkeypatch.setattr(corpora, "__file__", str(tmp_path / "npllm" / "utils" / "corpora.py"))
        assert corpora.shipped_folder() == tmp_path / "data"
        (tmp_path / "npllm" / "data").mkdir(parents=True)
        assert corpora.shipped_folder() == tmp_path / "npllm" / "data"


class TestFindAndRead:
    def test_the_first_folder_that_has_it(self, monkeypatch, cache, tmp_path):
        monkeypatch.setenv("NPLLM_DATA", os.pathsep.join([str(tmp_path / "empty"), str(tmp_path / "mine")]))
        assert corpora.find("text") is None
        in_cache = put(cache, CONTENT)
        assert corpora.find("text") == in_cache
        assert corpora.find("text") != put(tmp_path, CONTENT)
        mine = put(tmp_path / "mine", CONTENT)
        assert corpora.find("text") == mine
        assert corpora.read("text") == CONTENT.decode()

    def test_a_missing_one_names_the_command(self):
        with pytest.raises(FileNotFoundError, match="npllm data fetch text"):
            corpora.read("text")

    def test_a_missing_shipped_one_names_no_command(self, monkeypatch, tmp_path):
        monkeypatch.setattr(corpora, "shipped_folder", lambda: tmp_path)
        with pytest.raises(FileNotFoundError, match="install") as error:
            corpora.read("story")
        assert "fetch" not in str(error.value)

    @pytest.mark.parametrize("function", [corpora.find, corpora.read, corpora.fetch])
    def test_an_unknown_name_lists_the_known(self, function):
        with pytest.raises(ValueError, match="'the-verdit'.*story, the-verdict, tinyshakespeare"):
            function("the-verdit")

    @pytest.mark.parametrize("function", [corpora.find, corpora.read])
    @pytest.mark.parametrize("wrong", [OTHER, CONTENT[:-1], CONTENT.replace(b"\n", b"\r\n"), b""])
    def test_other_content_is_never_used(self, monkeypatch, cache, tmp_path, function, wrong):
        put(cache, CONTENT)
        monkeypatch.setenv("NPLLM_DATA", str(tmp_path / "mine"))
        path = put(tmp_path / "mine", wrong)
        with pytest.raises(ValueError, match=f"{path} is not A Text: it has {len(wrong)} bytes.*rename it"):
            function("text")

    def test_other_content_in_the_cache_names_the_command(self, cache):
        put(cache, OTHER)
        with pytest.raises(ValueError, match="npllm data fetch text"):
            corpora.read("text")

    def test_the_shipped_text(self):
        path = corpora.find("story")
        assert path == corpora.shipped_folder() / corpora.SHIPPED.file_name
        assert corpora.read("story") == path.read_text(encoding="utf-8")
        assert corpora.fetch("story") == corpora.fetch("story", folder="elsewhere") == path

    @pytest.mark.parametrize("name", ["the-verdict", "tinyshakespeare"])
    def test_pinned_hashes_of_the_real_texts(self, monkeypatch, name):
        monkeypatch.setattr(corpora, "folders", lambda: FOLDERS)
        path = corpora.find(name)
        if path is None:
            pytest.skip(f"`npllm data fetch {name}` gets the text, or NPLLM_DATA names its folder")
        corpus = corpora.CORPORA[name]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == corpus.sha256
        assert len(corpora.read(name)) == path.stat().st_size == corpus.size  # ASCII: a byte is a character


class TestReadTextFile:
    @given(st.text().filter(lambda text: text.strip() and "\0" not in text), st.booleans())
    def test_equals_open(self, text, mark):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text.txt"
            path.write_bytes(text.encode("utf-8-sig" if mark else "utf-8"))
            with open(path, encoding="utf-8-sig") as file:
                expected = file.read()
            if expected.strip():
                assert corpora.read_text_file(path) == expected

    @pytest.mark.parametrize(
        "content, says",
        [
            (b"", "is empty"),
            (b"\xef\xbb\xbf", "is empty"),
            (b" \n\t\r\n", "only blanks"),
            (b"\x89PNG\r\n\x1a\n\0\0", "binary"),
            ("Wörter".encode("utf-16"), "UTF-16"),
            ("Wörter".encode("latin-1"), r"encoding \(byte 1 is 0xf6\); it must be text in UTF-8"),
            (b"cut in a letter \xc3", "byte 16 is 0xc3"),
        ],
    )
    def test_what_is_not_text(self, tmp_path, content, says):
        path = put(tmp_path, content)
        with pytest.raises(ValueError, match=says) as error:
            corpora.read_text_file(path)
        assert str(path) in str(error.value)

    def test_a_missing_file_and_a_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nothing.txt does not exist"):
            corpora.read_text_file(tmp_path / "nothing.txt")
        with pytest.raises(IsADirectoryError, match="is a folder"):
            corpora.read_text_file(str(tmp_path))


class TestFetch:
    def test_the_right_file(self, server, cache):
        steps = []
        path = corpora.fetch("text", url=server.url, progress=lambda done, total: steps.append((done, total)))
        assert path == cache / "text.txt" == corpora.find("text")
        assert contents(cache) == {"text.txt": CONTENT}
        assert server.requests == [None]
        assert steps[0] == (0, SIZE) and steps[-1] == (SIZE, SIZE) and steps == sorted(steps)

    def test_into_a_folder(self, server, cache, tmp_path):
        path = corpora.fetch("text", folder=str(tmp_path / "a" / "b"), url=server.url)
        assert path == tmp_path / "a" / "b" / "text.txt"
        assert contents(path.parent) == {"text.txt": CONTENT}
        assert not cache.exists()

    def test_what_is_here_costs_no_request(self, monkeypatch, server, cache, tmp_path):
        path = put(cache, CONTENT)
        assert corpora.fetch("text", url=server.url) == path
        assert corpora.fetch("text", folder=cache, url=server.url) == path
        monkeypatch.setenv("NPLLM_DATA", str(tmp_path / "mine"))
        mine = put(tmp_path / "mine", CONTENT)
        assert corpora.fetch("text", url=server.url) == mine
        assert server.requests == []

    def test_other_content_in_the_cache_is_replaced_when_the_right_one_is_there(self, server, cache):
        put(cache, OTHER)
        server.serve(OTHER)
        with pytest.raises(corpora.FetchError):
            corpora.fetch("text", url=server.url)
        assert contents(cache) == {"text.txt": OTHER}
        server.serve(CONTENT)
        corpora.fetch("text", url=server.url)
        assert contents(cache) == {"text.txt": CONTENT}

    def test_other_content_elsewhere_is_the_users(self, monkeypatch, server, cache, tmp_path):
        path = put(tmp_path / "mine", OTHER)
        with pytest.raises(corpora.FetchError, match="rename it"):
            corpora.fetch("text", folder=path.parent, url=server.url)
        monkeypatch.setenv("NPLLM_DATA", str(path.parent))  # where it would be found before the fetched one
        with pytest.raises(corpora.FetchError, match="rename it"):
            corpora.fetch("text", url=server.url)
        assert contents(path.parent) == {"text.txt": OTHER} and not cache.exists() and server.requests == []

    @pytest.mark.parametrize("framing", ["length", "chunked", "close"])
    @pytest.mark.parametrize("served", [OTHER, b"<html>Log in</html>", b""])
    def test_the_wrong_file(self, server, cache, framing, served):
        server.serve(served, framing=framing)
        with pytest.raises(corpora.FetchError, match="is not A Text|has answered in its place") as error:
            corpora.fetch("text", url=server.url)
        assert str(error.value).startswith(server.url)
        assert contents(cache) == {}

    @pytest.mark.parametrize("framing", ["chunked", "close"])
    def test_a_size_that_is_not_announced(self, server, cache, framing):
        server.serve(CONTENT, framing=framing)
        corpora.fetch("text", url=server.url)
        assert contents(cache) == {"text.txt": CONTENT}

    @pytest.mark.parametrize("status", [403, 404, 416, 500, 503])
    @pytest.mark.parametrize("part", [b"", CONTENT[:1000]])
    def test_an_error_of_the_server(self, server, cache, status, part):
        put(cache, part, "text.txt.part")
        server.serve(CONTENT, status=status)
        with pytest.raises(corpora.FetchError, match=rf"{status} .*127.0.0.1.*put the file into {cache} as text.txt"):
            corpora.fetch("text", url=server.url)
        assert contents(cache) == {"text.txt.part": part}

    def test_no_network(self, cache):
        with pytest.raises(corpora.FetchError, match="no connection"):
            corpora.fetch("text", url=closed_port())
        assert contents(cache) == {}

    def test_a_host_without_a_name(self, monkeypatch, cache):
        def unknown(*arguments):
            raise OSError("Name or service not known")

        monkeypatch.setattr("socket.getaddrinfo", unknown)
        with pytest.raises(corpora.FetchError, match="no connection.*Name or service not known"):
            corpora.fetch("text", url="https://text.invalid/text.txt")
        assert contents(cache) == {}

    def test_a_folder_that_cannot_be_written(self, server, tmp_path):
        put(tmp_path, b"", "file")
        with pytest.raises(corpora.FetchError, match="cannot write"):
            corpora.fetch("text", folder=tmp_path / "file", url=server.url)

    def test_a_full_disk_at_the_last_step(self, monkeypatch, server, cache):
        def full(*arguments):
            raise OSError("the disk is full")

        put(cache, OTHER)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full)
            with pytest.raises(corpora.FetchError, match="cannot write .*the disk is full"):
                corpora.fetch("text", url=server.url)
        assert contents(cache) == {"text.txt": OTHER, "text.txt.part": CONTENT}
        corpora.fetch("text", url=server.url)
        assert contents(cache) == {"text.txt": CONTENT}

    @pytest.mark.parametrize("url", ["file:///etc/hostname", "text.txt"])
    def test_a_url_of_another_kind(self, url):
        with pytest.raises(ValueError, match="url is"):
            corpora.fetch("text", url=url)

    def test_the_shipped_text_has_no_url(self, monkeypatch, tmp_path):
        monkeypatch.setattr(corpora, "shipped_folder", lambda: tmp_path)
        with pytest.raises(corpora.FetchError, match="install npllm again"):
            corpora.fetch("story")


class TestResume:
    @pytest.mark.parametrize("cut", [0, 1, 1000, corpora.CHUNK, SIZE // 2, SIZE - 1])
    def test_a_cut_keeps_the_part_and_the_next_call_asks_for_the_rest(self, server, cache, cut):
        server.serve(CONTENT, cuts=[cut])
        with pytest.raises(corpora.FetchError, match=f"cut after {cut} of {SIZE} bytes.*run the same command again"):
            corpora.fetch("text", url=server.url)
        assert contents(cache) == {"text.txt.part": CONTENT[:cut]}
        steps = []
        corpora.fetch("text", url=server.url, progress=lambda done, total: steps.append(done))
        assert contents(cache) == {"text.txt": CONTENT}
        assert server.requests == [None, f"bytes={cut}-" if cut else None]
        assert steps[0] == cut and steps[-1] == SIZE

    @given(st.lists(st.integers(0, SIZE), max_size=4).map(sorted))
    def test_cuts_anywhere(self, shared_server, cuts):
        shared_server.serve(CONTENT, cuts=cuts)
        with tempfile.TemporaryDirectory() as folder:
            for _ in cuts:
                try:
                    corpora.fetch("text", folder=folder, url=shared_server.url)
                except corpora.FetchError:
                    assert "text.txt" not in os.listdir(folder)
            path = corpora.fetch("text", folder=folder, url=shared_server.url)
            assert contents(path.parent) == {"text.txt": CONTENT}

    def test_a_reset(self, server, cache):
        server.serve(CONTENT, cuts=[1000], reset=True)
        with pytest.raises(corpora.FetchError, match="run the same command again"):
            corpora.fetch("text", url=server.url)
        part = contents(cache)["text.txt.part"]
        assert CONTENT.startswith(part) and len(part) <= 1000
        corpora.fetch("text", url=server.url)
        assert contents(cache) == {"text.txt": CONTENT}

    def test_a_silent_server(self, server, cache):
        server.serve(CONTENT, cuts=[1000], stall=True)
        with pytest.raises(corpora.FetchError, match="cut after 1000 .*timed out"):
            corpora.fetch("text", url=server.url, timeout=0.1)
        server.release.set()
        assert contents(cache) == {"text.txt.part": CONTENT[:1000]}

    @pytest.mark.parametrize("exception", [KeyboardInterrupt, ZeroDivisionError])
    def test_an_interruption_keeps_what_is_there(self, server, cache, exception):
        def interrupt(done, total):
            if done:
                raise exception

        with pytest.raises(exception):
            corpora.fetch("text", url=server.url, progress=interrupt)
        part = contents(cache)
        assert list(part) == ["text.txt.part"] and part["text.txt.part"]
        corpora.fetch("text", url=server.url)
        assert server.requests == [None, f"bytes={len(part['text.txt.part'])}-"]

    def test_a_server_that_does_not_know_range(self, server, cache):
        put(cache, CONTENT[:1000], "text.txt.part")
        server.serve(CONTENT, ranges=False)
        corpora.fetch("text", url=server.url)
        assert contents(cache) == {"text.txt": CONTENT}
        assert server.requests == ["bytes=1000-"]

    @pytest.mark.parametrize("part", [OTHER, CONTENT + b"more", OTHER * 2])
    def test_a_wrong_part_of_full_length_is_not_continued(self, server, cache, part):
        put(cache, part, "text.txt.part")
        corpora.fetch("text", url=server.url)
        assert contents(cache) == {"text.txt": CONTENT}
        assert server.requests == [None]

    def test_a_complete_part_costs_no_request(self, server, cache):
        put(cache, CONTENT, "text.txt.part")
        corpora.fetch("text", url=server.url)
        assert contents(cache) == {"text.txt": CONTENT}
        assert server.requests == []

    def test_a_wrong_part_is_dropped_and_the_next_call_starts_afresh(self, server, cache):
        put(cache, OTHER[:1000], "text.txt.part")
        with pytest.raises(corpora.FetchError, match="is not A Text.*start afresh"):
            corpora.fetch("text", url=server.url)
        assert contents(cache) == {}
        corpora.fetch("text", url=server.url)
        assert server.requests == ["bytes=1000-", None]

    @pytest.mark.parametrize("now", [OTHER + b"more", CONTENT[:2000]])
    def test_a_file_that_has_changed_its_size(self, server, cache, now):
        put(cache, CONTENT[:1000], "text.txt.part")
        server.serve(now)
        with pytest.raises(corpora.FetchError, match=f"has {len(now)} bytes, but A Text has {SIZE}"):
            corpora.fetch("text", url=server.url)
        assert contents(cache) == {"text.txt.part": CONTENT[:1000]}

    def test_a_file_now_shorter_than_the_part(self, server, cache):
        put(cache, CONTENT[:1000], "text.txt.part")
        server.serve(CONTENT[:500])
        with pytest.raises(corpora.FetchError, match="has 500 bytes"):
            corpora.fetch("text", url=server.url)
        assert server.requests == ["bytes=1000-", None]  # 416, then the whole

    @pytest.mark.parametrize("answer", [f"bytes 999-{SIZE - 1}/{SIZE}", f"bytes 0-{SIZE - 1}/{SIZE}", "nonsense"])
    def test_another_range_than_the_one_asked_for(self, server, cache, answer):
        put(cache, CONTENT[:1000], "text.txt.part")
        server.content_range = answer
        with pytest.raises(corpora.FetchError, match="start afresh"):
            corpora.fetch("text", url=server.url)
        assert contents(cache) == {}


class TestManyAtOnce:
    def test_threads_download_once(self, server, cache):
        server.serve(CONTENT, cuts=[SIZE], stall=True)  # the first answer ends only when released
        paths = []
        threads = [
            threading.Thread(target=lambda: paths.append(corpora.fetch("text", url=server.url))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        server.release.set()
        for thread in threads:
            thread.join()
        assert paths == [cache / "text.txt"] * 4
        assert contents(cache) == {"text.txt": CONTENT}
        assert server.requests == [None]

    def test_the_next_call_takes_over_from_a_killed_process(self, server, cache):
        """Killed without a chance to clean up: the lock is free again and the part is continued."""
        server.serve(CONTENT, cuts=[1000], stall=True)
        code = (
            "import dataclasses, sys; from npllm.utils import corpora\n"
            "url, size, sha256 = sys.argv[1:]\n"
            "known = dataclasses.replace(corpora.CORPORA['the-verdict'], file_name='text.txt', size=int(size))\n"
            "corpora.CORPORA['text'] = dataclasses.replace(known, sha256=sha256)\n"
            "corpora.fetch('text', url=url, progress=lambda done, total: print(done, flush=True))\n"
        )
        command = [sys.executable, "-c", code, server.url, str(SIZE), KNOWN.sha256]
        root = Path(corpora.__file__).parent.parent.parent
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
            assert [process.stdout.readline() for _ in range(2)] == [b"0\n", b"1000\n"]
            process.kill()
        server.release.set()
        assert contents(cache)["text.txt.part"] == CONTENT[:1000]
        corpora.fetch("text", url=server.url)
        assert contents(cache) == {"text.txt": CONTENT}
        assert server.requests == [None, "bytes=1000-"]

    def test_waiting_for_the_lock_outlives_its_removal(self, cache):
        """A lock file is removed by its holder; one who waited for it must not hold the removed file."""
        cache.mkdir(parents=True)
        inside, most = 0, 0

        def work():
            nonlocal inside, most
            for _ in range(50):
                with files.alone(cache / "lock"):
                    inside += 1
                    most = max(most, inside)
                    time.sleep(0)
                    inside -= 1

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == 1
        assert contents(cache) == {}
