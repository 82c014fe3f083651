"""`npllm generate` with published models: tokenizer, end tokens, padded ids, candidates, rates, stop strings."""

import json
import re

import numpy as np
import pytest

from npllm.cli.generate import encode_prompt, generate_and_show
from npllm.cli.main import main
from npllm.cli.text_generation import open_model, stop_ids_of
from npllm.generation import complete
from npllm.models import GPT, GPTConfig, from_pretrained
from npllm.tokenizers import GPT2Tokenizer
from tests.cli.published import make_folder, make_tokenizer
from tests.utils.test_terminal import console

PROMPT = "The capital of France"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The folder of a small published model, which tests do not change."""
    return make_folder(tmp_path_factory.mktemp("published"))


def generate(folder, *arguments):
    """Run the command."""
    return main(["generate", "--model", str(folder), "--threads", "1", *arguments])


def expected_ids(folder, num_tokens, **options):
    """The greedy ids, by the tokenizer of the tokenizers library."""
    tokenizer = make_tokenizer()
    model = from_pretrained(folder)
    padded = range(tokenizer.get_vocab_size(), model.config.vocab_size)
    prompt = tokenizer.encode(PROMPT).ids
    return complete(model, prompt, num_tokens, temperature=0, excluded_ids=padded, **options)


def test_the_ids_are_those_of_the_models_own_tokenizer(published, capsys):
    ids = expected_ids(published, 20, stop_ids=[make_tokenizer().token_to_id("<|im_end|>")])
    assert generate(published, "--prompt", PROMPT, "--temperature", "0", "--max-new-tokens", "20") == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(PROMPT)
    decoded = make_tokenizer().decode(ids, skip_special_tokens=True)
    assert re.sub(r"\\x\w\w|�", "", captured.out) == re.sub(r"[^\x20-\x7e\n]", "", PROMPT + decoded) + "\n"


def test_the_rates_are_printed_on_standard_error(published, capsys):
    assert generate(published, "--prompt", PROMPT, "--temperature", "0", "--max-new-tokens", "3") == 0
    error = capsys.readouterr().err
    assert re.search(r"prompt: \d+ tokens, [\d.]+ tokens/s; generated: 3 tokens, [\d.]+ tokens/s\n$", error)
    assert generate(published, "--prompt", PROMPT, "--temperature", "0", "--max-new-tokens", "1") == 0
    assert capsys.readouterr().err.endswith("generated: 1 token\n")


def test_generation_ends_at_every_end_token_of_the_configuration(published, tmp_path, capsys):
    folder = make_folder(tmp_path)
    first = expected_ids(folder, 1)[0]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [302, first]}))
    pretrained = open_model(folder)
    assert stop_ids_of(pretrained) >= {302, first}
    assert generate(folder, "--prompt", PROMPT, "--temperature", "0") == 0
    assert capsys.readouterr().out == PROMPT + "\n"


def test_padded_ids_are_never_drawn(published, capsys):
    num_tokens = make_tokenizer().get_vocab_size()
    biases = [f"--logit-bias={token_id}=1000" for token_id in range(num_tokens, num_tokens + 5)]
    plain = generate(published, "--prompt", PROMPT, "--seed", "1", "--max-new-tokens", "9"), capsys.readouterr().out
    assert (generate(published, "--prompt", PROMPT, "--seed", "1", "--max-new-tokens", "9", *biases)) == 0
    assert capsys.readouterr().out == plain[1]


def test_candidates(published, capsys):
    options = ["--prompt", PROMPT, "--temperature", "0", "--max-new-tokens", "4"]
    assert generate(published, *options) == 0
    text = capsys.readouterr().out
    assert generate(published, *options, "--show-candidates", "3") == 0
    out = capsys.readouterr().out
    head, *lines = out.split("\n\n")[0].split("\n")
    assert head.startswith("drawn") and len(lines) == 4
    model = from_pretrained(published)
    logits = model(np.array(make_tokenizer().encode(PROMPT).ids))[-1].astype(np.float64)
    largest = np.exp(logits.max()) / np.exp(logits).sum()
    assert re.search(rf"{largest:.1%} │ .*{largest:.1%}", lines[0])
    assert lines[0].count("%") == 4, "of the token that was drawn, and of three candidates"
    assert out.endswith("\n\n" + text)


def test_stop_strings_end_the_text_before_them(published, capsys):
    assert generate(published, "--prompt", PROMPT, "--seed", "3", "--max-new-tokens", "30") == 0
    text = capsys.readouterr().out.removeprefix(PROMPT).rstrip("\n")
    stop = text[5:8]
    assert generate(published, "--prompt", PROMPT, "--seed", "3", "--max-new-tokens", "30", "--stop", stop) == 0
    assert capsys.readouterr().out == PROMPT + text[: text.index(stop)] + "\n"


@pytest.mark.parametrize("files", [["tokenizer.json"], ["vocab.json", "merges.txt"], ["tokenizer.model"], []])
def test_a_models_text_is_never_encoded_with_gpt2s_ids(files, tmp_path):
    folder = make_folder(tmp_path, num_padded=50300)
    make_tokenizer().model.save(str(folder))
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    for path in folder.iterdir():
        if path.name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model") and path.name not in files:
            path.unlink()
    try:
        ids = open_model(folder).tokenizer.encode("the quick fox")
    except ValueError as error:
        assert str(folder) in str(error)
        assert files != ["tokenizer.json"]
    else:
        assert ids == make_tokenizer().encode("the quick fox").ids


def test_a_model_without_a_tokenizer_needs_a_vocabulary(tmp_path, capsys):
    GPT(GPTConfig(50257, 16, 8, 1, 2), rng=np.random.default_rng(0)).save_pretrained(tmp_path)
    assert generate(tmp_path) == 1
    assert "has no tokenizer" in capsys.readouterr().err
    pretrained = open_model(tmp_path, "gpt2")
    assert isinstance(pretrained.tokenizer, GPT2Tokenizer)
    shown = console()
    generate_and_show(shown, pretrained, "Every effort", 5, rng=np.random.default_rng(0))
    assert shown.file.getvalue().startswith("Every effort")
    assert generate(tmp_path, "--vocabulary", "gpt2", "--prompt", "a", "--max-new-tokens", "1") == 0


def test_ids_before_a_text_are_part_of_the_prompt():
    tokenizer = GPT2Tokenizer.load()
    tokenizer.prefix_ids = (50256,)
    assert encode_prompt(tokenizer, "a<|endoftext|>") == [50256, 64, 50256]
    with pytest.raises(ValueError, match="prompt is empty"):
        encode_prompt(tokenizer, "")


def test_a_folder_without_a_model(tmp_path, capsys):
    assert generate(tmp_path) == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert generate(tmp_path / "missing") == 1
    error = capsys.readouterr().err
    assert "which was not found" in error and "npllm models" in error
