"""The files of a model folder: links and special files are refused, and files are replaced together."""

import os
import socket

import numpy as np
import pytest

from npllm.models import GPT, GPTConfig
from npllm.models.presets import from_pretrained
from npllm.utils.file_errors import FileError
from npllm.weights import safetensors
from npllm.weights.folder_files import as_path, check_folder, replacing


def small_gpt(seed, **changes):
    return GPT(GPTConfig(11, 8, 8, 1, 2, **changes), rng=np.random.default_rng(seed))


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    small_gpt(0).save_pretrained(path)
    return path


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json"])
def test_a_link_out_of_the_folder_is_refused(folder, name):
    outside = folder.parent / "outside"
    (folder / name).rename(outside) if (folder / name).exists() else outside.write_text("{}")
    (folder / name).symlink_to(outside)
    with pytest.raises(FileError, match=f"{name} is a link to {outside}; it must be a file in the folder"):
        from_pretrained(folder)


def test_a_link_within_the_folder_and_a_link_to_the_folder_are_followed(folder):
    (folder / "model.safetensors").rename(folder / "weights.data")
    (folder / "model.safetensors").symlink_to("weights.data")
    (folder.parent / "link").symlink_to(folder)
    assert from_pretrained(folder.parent / "link").config.vocab_size == 11


def test_a_link_to_nothing_is_named(folder):
    (folder / "generation_config.json").symlink_to(folder / "lost")
    with pytest.raises(FileNotFoundError, match="generation_config.json"):
        from_pretrained(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"])
def test_special_files_and_folders_are_refused(folder, name):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(FileError, match=f"{name} is a pipe, a socket or a device"):
        from_pretrained(folder)
    (folder / name).unlink()
    with socket.socket(socket.AF_UNIX) as server:
        directory = os.getcwd()
        os.chdir(folder)  # the path of a socket is short
        server.bind(name)
        os.chdir(directory)
    with pytest.raises(FileError, match=f"{name} is a pipe, a socket or a device"):
        check_folder(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(IsADirectoryError, match=name):
        from_pretrained(folder)


@pytest.mark.parametrize("path", [5, None, True, b"model", ["model"]])
def test_what_is_no_path_is_a_type_error(path):
    with pytest.raises(TypeError, match="path is .*; it must be a path"):
        from_pretrained(path)


def test_a_path_with_a_null_character_is_refused():
    with pytest.raises(ValueError, match="null character"):
        as_path("folder", "a\0b")


def test_an_error_while_writing_leaves_the_old_model(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(path, *arguments):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors, "save", full)
    with pytest.raises(OSError, match="No space left on device.*model"):
        small_gpt(1, d_hidden=5).save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("stop", [1, 2])
def test_two_models_are_never_mixed(folder, monkeypatch, stop):
    replace, calls = os.replace, []

    def interrupted(source, target):
        if os.path.dirname(target) == str(folder):
            calls.append(target)
            if len(calls) == stop:
                raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small_gpt(1, d_hidden=5).save_pretrained(folder)
    with pytest.raises(FileNotFoundError, match="there is no .*config.json"):
        from_pretrained(folder)


def test_the_names_of_others_are_removed(tmp_path):
    for name in ("config.json", "old.json", "kept.json"):
        (tmp_path / name).write_text("old")
    with replacing(tmp_path, others=("old.json",)) as temporary:
        (temporary / "config.json").write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "kept.json"]
    assert (tmp_path / "config.json").read_text() == "new"


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="file"):
        small_gpt(0).save_pretrained(tmp_path / "file")
