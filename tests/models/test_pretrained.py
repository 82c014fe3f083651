"""open_pretrained: the tokenizer, end tokens and chat template of folders as published, and of GGUF files."""

import json

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from npllm.models import GPT, GPTConfig
from npllm.models.pretrained import Pretrained, open_pretrained
from npllm.tokenizers import GPT2Tokenizer
from npllm.tokenizers.byte_pair.bytes_to_unicode import BYTE_TO_UNICODE
from tests.weights.gguf_files import random_model, write_model

SPECIAL = ["<|begin|>", "<|end_of_text|>", "<|eot_id|>", "<|im_end|>"]  # ids 256 to 259
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|eot_id|>{% endfor %}"


def make_tokenizer(special=tuple(SPECIAL)):
    """A tokenizer of single bytes, with these special tokens behind them."""
    vocabulary = {symbol: byte for byte, symbol in BYTE_TO_UNICODE.items()}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


@pytest.fixture
def folder(tmp_path):
    """A model folder; a function that changes a JSON file in it is its second part."""
    path = tmp_path / "model"
    model = random_model("llama", vocab_size=264, eos_token_id=257, bos_token_id=256)
    model.generation_config.eos_token_id = [257, 258]
    model.save_pretrained(path)
    make_tokenizer().save(str(path / "tokenizer.json"))

    def change(name, **fields):
        file = path / name
        content = json.loads(file.read_text()) if file.is_file() else {}
        content = {key: value for key, value in (content | fields).items() if value != "REMOVE"}
        file.write_text(json.dumps(content))

    change("tokenizer_config.json", bos_token="<|begin|>", eos_token="<|end_of_text|>", chat_template=TEMPLATE)
    return path, change


def test_everything_of_a_folder(folder):
    path, _ = folder
    found = open_pretrained(path)
    assert isinstance(found, Pretrained) and found.path == path
    assert found.tokenizer.encode("<|begin|>Hi", allowed_special="all") == [256, 72, 105]
    assert (found.bos_token, found.eos_token, found.chat_template) == ("<|begin|>", "<|end_of_text|>", TEMPLATE)
    assert found.stop_ids == {257, 258}
    assert found.model.config.vocab_size == 264


def test_end_tokens_come_from_every_file(folder):
    path, change = folder
    change("generation_config.json", eos_token_id="REMOVE")
    change("config.json", eos_token_id=[259, 256])
    change("tokenizer_config.json", eos_token={"content": "<|end_of_text|>", "lstrip": False}, chat_template="REMOVE")
    assert open_pretrained(path).stop_ids == {259, 256, 257}
    assert open_pretrained(path).eos_token == "<|end_of_text|>"
    change("tokenizer_config.json", eos_token="REMOVE")
    change("config.json", eos_token_id=None)
    assert open_pretrained(path).stop_ids == frozenset()
    change("special_tokens_map.json", eos_token="<|im_end|>")
    assert open_pretrained(path).stop_ids == {259}
    change("tokenizer_config.json", chat_template=TEMPLATE)  # its messages end with <|eot_id|>
    assert open_pretrained(path).stop_ids == {258, 259}


def test_ids_that_the_model_does_not_have_never_stop_it(folder):
    path, change = folder
    change("config.json", eos_token_id=[257, 264, 100000, -1])
    change("generation_config.json", eos_token_id="REMOVE")
    assert open_pretrained(path).stop_ids == {257, 258}


def test_tokens_without_a_tokenizer_config_have_their_texts_from_the_ids(folder):
    path, _ = folder
    (path / "tokenizer_config.json").unlink()
    found = open_pretrained(path)
    assert (found.bos_token, found.eos_token, found.chat_template) == ("<|begin|>", "<|end_of_text|>", None)


def test_the_forms_of_a_chat_template(folder):
    path, change = folder
    change("tokenizer_config.json", chat_template=[{"name": "tool_use", "template": "x"},
                                                   {"name": "default", "template": "y"}])  # fmt: skip
    assert open_pretrained(path).chat_template == "y"
    change("tokenizer_config.json", chat_template=[{"name": "tool_use", "template": "x"}])
    assert open_pretrained(path).chat_template is None
    change("chat_template.json", chat_template="z")
    assert open_pretrained(path).chat_template == "z"
    (path / "chat_template.jinja").write_text("ünï", encoding="utf-8")
    assert open_pretrained(path).chat_template == "ünï"


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("llama", ["tokenizer.json"]),
        ("gpt2", ["tokenizer.json"]),
        ("gpt2", ["vocab.json", "merges.txt"]),
    ],
)
def test_the_ids_are_those_of_the_folder(tmp_path, kind, files):
    """Never those of GPT-2's tokenizer, which are other tokens to this model."""
    tokenizer = make_tokenizer(())
    random_model(kind, vocab_size=50300, num_hidden_layers=1, eos_token_id=0).save_pretrained(tmp_path)
    tokenizer.save(str(tmp_path / "tokenizer.json")) if "tokenizer.json" in files else tokenizer.model.save(
        str(tmp_path)
    )
    assert open_pretrained(tmp_path).tokenizer.encode("the quick fox") == tokenizer.encode("the quick fox").ids


def test_merges_without_the_pattern_of_a_llama_are_refused(tmp_path):
    """vocab.json and merges.txt do not hold the pattern, and Llama's is not GPT-2's."""
    random_model("llama", vocab_size=50300, num_hidden_layers=1, eos_token_id=0).save_pretrained(tmp_path)
    make_tokenizer(()).model.save(str(tmp_path))
    with pytest.raises(ValueError, match=r"does not hold the pattern .* give a tokenizer\.json, or pass pattern"):
        open_pretrained(tmp_path)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_folder_without_a_tokenizer_is_refused_unless_a_vocabulary_is_named(tmp_path, kind):
    random_model(kind, vocab_size=50300, num_hidden_layers=1, eos_token_id=0).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has no tokenizer: .*Put the model's tokenizer.json") as error:
        open_pretrained(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert isinstance(open_pretrained(tmp_path, vocabulary="gpt2").tokenizer, GPT2Tokenizer)
    make_tokenizer().save(str(tmp_path.with_name("other.json")))
    assert open_pretrained(tmp_path, vocabulary=tmp_path.with_name("other.json")).tokenizer.encode("a") == [97]


def test_a_tokenizer_of_a_larger_vocabulary_is_refused(tmp_path):
    GPT(GPTConfig(200, 8, 12, 1, 2)).save_pretrained(tmp_path)
    make_tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(
        ValueError, match="a model of vocab_size 200 and a tokenizer with the id 255; they do not belong"
    ):
        open_pretrained(tmp_path)
    GPT(GPTConfig(258, 8, 12, 1, 2)).save_pretrained(tmp_path)  # special tokens alone may lie above
    assert open_pretrained(tmp_path).tokenizer.vocab_size == 260


INVALID = [
    ("config.json", {"eos_token_id": "x"}, 'config.json has eos_token_id "x"; it must be an id or a list of ids'),
    ("generation_config.json", {"eos_token_id": [1, "x"]}, "generation_config.json has eos_token_id"),
    ("generation_config.json", {"eos_token_id": True}, "has eos_token_id true"),
    ("generation_config.json", {"eos_token_id": 1.5}, "has eos_token_id 1.5"),
    (
        "tokenizer_config.json",
        {"eos_token": 7},
        "tokenizer_config.json has eos_token 7; it must be a text, or an object",
    ),
    ("tokenizer_config.json", {"bos_token": {"content": [1]}}, "has bos_token"),
    ("tokenizer_config.json", {"chat_template": 7}, "tokenizer_config.json has chat_template 7; it must be a text"),
    ("tokenizer_config.json", {"chat_template": ["x"]}, "has chat_template"),
    ("tokenizer_config.json", {"chat_template": [{"name": "default"}]}, "has chat_template"),
    ("chat_template.json", {"chat_template": {"default": 7}}, 'has chat_template {"default": 7}'),
]


@pytest.mark.parametrize(("name", "fields", "message"), INVALID)
def test_invalid_fields_are_named(folder, name, fields, message):
    path, change = folder
    if name == "chat_template.json":
        change("tokenizer_config.json", chat_template="REMOVE")
    change(name, **fields)
    with pytest.raises(ValueError, match=message.replace("(", r"\(")) as error:
        open_pretrained(path)
    assert str(path / name) in str(error.value)


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'"x"'])
def test_damaged_files_are_named(folder, name, content):
    path, change = folder
    change("tokenizer_config.json", bos_token="REMOVE", eos_token="REMOVE")
    (path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        open_pretrained(path)


def test_a_damaged_template_and_other_paths(folder, tmp_path):
    path, _ = folder
    (path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="chat_template.jinja is not UTF-8"):
        open_pretrained(path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match="a.txt is neither a folder nor a GGUF file"):
        open_pretrained(tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError, match="which was not found"):
        open_pretrained(tmp_path / "none")


def write_gguf(path, **metadata):
    """A llama with the same tokenizer in its metadata."""
    symbols = [symbol for _, symbol in sorted(BYTE_TO_UNICODE.items())]
    fields = {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": [*symbols, *SPECIAL],
        "tokenizer.ggml.token_type": [1] * 256 + [3] * 4, "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": 256, "tokenizer.ggml.eos_token_id": 257, "tokenizer.chat_template": TEMPLATE,
    }  # fmt: skip
    fields["tokenizer.ggml.tokens"][255] = "ab"
    fields["tokenizer.ggml.tokens"].append(symbols[255])
    fields["tokenizer.ggml.token_type"].append(1)
    fields |= {name.replace("__", "."): value for name, value in metadata.items()}
    write_model(path, "llama", random_model("llama", vocab_size=264), metadata=fields)
    return path


def test_everything_of_a_gguf_file(tmp_path):
    found = open_pretrained(write_gguf(tmp_path / "a.gguf"))
    assert found.tokenizer.encode("<|begin|>Hi", allowed_special="all") == [256, 72, 105]
    assert (found.bos_token, found.eos_token, found.chat_template) == ("<|begin|>", "<|end_of_text|>", TEMPLATE)
    assert found.stop_ids == {257, 258}  # messages end with <|eot_id|>
    without = {
        "tokenizer__chat_template": None,
        "tokenizer__ggml__eot_token_id": 259,
        "tokenizer__ggml__eos_token_id": None,
    }
    found = open_pretrained(write_gguf(tmp_path / "b.gguf", **without))
    assert (found.eos_token, found.chat_template, found.stop_ids) == (None, None, {259})


def test_invalid_metadata_of_a_gguf_file_is_named(tmp_path):
    for name, value in {"ggml.eot_token_id": "x", "ggml.bos_token_id": 1.5, "chat_template": 7}.items():
        path = write_gguf(tmp_path / "a.gguf", **{f"tokenizer.{name}": value})
        with pytest.raises(ValueError, match=f"tokenizer.{name}") as error:
            open_pretrained(path)
        assert str(path) in str(error.value)
    write_model(tmp_path / "b.gguf", "llama", random_model("llama"))
    with pytest.raises(ValueError, match="b.gguf"):
        open_pretrained(tmp_path / "b.gguf")
