"""What a file is: the vocabulary formats by their content, other files by name in the message."""

import pickle
import zipfile

import pytest

from npllm.tokenizers import load_tokenizer, train_bpe
from npllm.tokenizers.formats.file_kind import file_kind

# the beginning of a SentencePiece model: the token <unk> with score 0 and type unknown, then <s>
SENTENCEPIECE = b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02\n\x0c\n\x03<s>\x15\0\0\0\0\x18\x03"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("model.gguf", b"GGUF\x03\0\0\0", "gguf"),
        ("without_ending", b"GGUF\x03\0\0\0", "gguf"),
        ("tokenizer.model", SENTENCEPIECE, "sentencepiece"),
        ("tokenizer.model", b"\n\x0e\n\x05<unk>", "sentencepiece"),
        ("tokenizer.model", b"IQ== 0\nIg== 1\n", "tiktoken"),
        ("without_ending", b"IQ== 0\nIg== 1\n", "tiktoken"),
        ("tokenizer.json", b' \n{"model": {}}', "json"),
        ("list.json", b"[1]", "json"),
        ("merges.txt", b"#version: 0.2\na b\n", "merges"),
        ("merges.txt", b"{ {\n", "merges"),
        ("vocab.bpe", b"\xc4\xa0 t\n", "merges"),
        ("without_ending", b"#version: 0.2\na b\n", "merges"),
    ],
)
def test_the_content_decides(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    assert file_kind(tmp_path / name) == kind


def zip_archive():
    import io

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.pkl", b"x")
    return file.getvalue()


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json", "v.tiktoken", "merges.txt", "any"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "placeholder of Git LFS"),
        (b"<!DOCTYPE html><html></html>", "HTML or XML page"),
        (b"\n  <html>", "HTML or XML page"),
        (zip_archive(), "ZIP archive"),
        (pickle.dumps([1], protocol=2), "Python pickle"),
        (pickle.dumps([1], protocol=4), "Python pickle"),
        (b"\x1f\x8b\x08\0", "compressed with gzip"),
        ("{}".encode("utf-16"), "UTF-16"),
        (b'\x10\0\0\0\0\0\0\0{"a": 1}', "safetensors"),
    ],
)
def test_other_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is .*{message}"):
        load_tokenizer(tmp_path / name)


def test_text_of_no_format_is_refused(tmp_path):
    (tmp_path / "notes").write_text("some notes about a vocabulary")
    with pytest.raises(ValueError, match=r"notes begins with b'some notes about a v'; it must be tokenizer.json"):
        load_tokenizer(tmp_path / "notes")


def test_a_deeply_nested_file_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text("[" * 200_000)
    with pytest.raises(ValueError, match="tokenizer.json is not"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_every_saved_format_is_recognized(tmp_path):
    tokenizer = train_bpe("low lower lowest", 262)
    for name in ("own.json", "tokenizer.json", "v.tiktoken", "folder"):
        tokenizer.save(tmp_path / name)
    kinds = [file_kind(tmp_path / name) for name in ("own.json", "tokenizer.json", "v.tiktoken", "folder/vocab.bpe")]
    assert kinds == ["json", "json", "tiktoken", "merges"]
