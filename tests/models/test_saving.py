"""A model saved with its tokenizer: transformers' Auto classes open the folder, and stop where npllm stops."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from npllm.generation import complete
from npllm.models import GPT, GPTConfig, architecture, build
from npllm.models.pretrained import Pretrained
from npllm.models.saving import save_pretrained
from npllm.tokenizers import CharacterTokenizer, train_bpe

TEXT = "the ferry left at nine, and naïve people — 12 of them — waited.\n\tIt's 日本.  \r\n" * 8
END = "<|endoftext|>"
TOKENIZERS = {
    "characters": CharacterTokenizer.from_text(TEXT),
    "bpe": train_bpe(TEXT, 300, special_tokens=[END]),
    "bpe without end token": train_bpe(TEXT, 280),
}


def pretrained(tokenizer, name="gpt", end=END, path="", seed=0):
    """A random model with large weights, so that greedy text does not depend on rounding."""
    model = build(architecture(name, tokenizer.vocab_size, 32, 16, 1, 2), rng=np.random.default_rng(seed))
    for _, parameter in model.named_parameters():
        parameter.data *= 30
    stop_ids = {tokenizer.special_tokens[end]} if end in tokenizer.special_tokens else set()
    return Pretrained(Path(path), model, tokenizer, frozenset(stop_ids), None, end if stop_ids else None, None)


@pytest.fixture(scope="module", params=TOKENIZERS)
def saved(request, tmp_path_factory):
    """(npllm's tokenizer, the folder, transformers' tokenizer)."""
    tokenizer, folder = TOKENIZERS[request.param], tmp_path_factory.mktemp("saved")
    save_pretrained(pretrained(tokenizer), folder)
    return tokenizer, folder, AutoTokenizer.from_pretrained(folder)


@settings(max_examples=60)
@given(st.text(alphabet=sorted(set(TEXT)), max_size=60))
def test_the_ids_of_transformers_are_those_of_npllm(saved, text):
    tokenizer, _, theirs = saved
    ids = tokenizer.encode(text)
    assert theirs(text)["input_ids"] == ids
    assert theirs.decode(ids, clean_up_tokenization_spaces=False) == tokenizer.decode(ids) == text


def test_the_end_token_is_the_tokenizers_or_null(saved):
    tokenizer, folder, theirs = saved
    expected = tokenizer.special_tokens.get(END)
    for name in ("config.json", "generation_config.json"):
        assert json.loads((folder / name).read_text())["eos_token_id"] == expected
    assert theirs.eos_token_id == expected
    assert theirs.model_max_length == 32
    if expected is not None:
        assert theirs(f"the{END}it")["input_ids"] == tokenizer.encode(f"the{END}it", allowed_special="all")


@pytest.mark.parametrize("name", ["gpt", "llama", "qwen"])
@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
def test_greedy_text_is_equal_to_the_stop(tmp_path, name, tokenizer):
    ended = 0
    for seed in range(3):
        ours = pretrained(tokenizer, name, seed=seed)
        if ours.stop_ids:  # an end token that this model generates
            ids = complete(ours.model, [1], 12, temperature=0)
            stop = ids[5]
            ours = Pretrained(ours.path, ours.model, tokenizer, frozenset({stop, *ours.stop_ids}), None, END, None)
        save_pretrained(ours, tmp_path / str(seed))
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path / str(seed), dtype=torch.float32)
        found = theirs.generation_config.eos_token_id
        assert (found if isinstance(found, list) else [found] * (found is not None)) == sorted(ours.stop_ids)
        found = theirs.generate(torch.tensor([[1]]), max_new_tokens=20, do_sample=False, pad_token_id=0)[0, 1:].tolist()
        assert found == complete(ours.model, [1], 20, temperature=0, stop_ids=sorted(ours.stop_ids))
        ended += len(found) < 20
    assert ended == (3 if END in tokenizer.special_tokens else 0)


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_a_model_saved_alone_has_no_end_token(tmp_path, name):
    build(architecture(name, 9, 8, 16, 1, 2), rng=np.random.default_rng(0)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["eos_token_id"] is config["bos_token_id"] is None


def test_the_files_of_a_published_tokenizer_are_copied(tmp_path):
    source = tmp_path / "published"
    source.mkdir()
    tokenizer = TOKENIZERS["bpe"]
    tokenizer.save(source / "tokenizer.json")
    (source / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "x"}')
    (source / "chat_template.jinja").write_text("{{ messages }}")
    save_pretrained(pretrained(tokenizer, path=source), tmp_path / "copy")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "copy" / name).read_bytes() == (source / name).read_bytes()


def test_a_tokenizer_that_the_format_cannot_hold_is_refused_after_the_model_is_written(tmp_path):
    tokenizer = CharacterTokenizer("ab\ud800")
    with pytest.raises(ValueError, match="tokenizer.json cannot hold"):
        save_pretrained(pretrained(tokenizer), tmp_path)
    assert isinstance(GPT.from_pretrained(tmp_path).config, GPTConfig)
    assert not (tmp_path / "tokenizer.json").exists()


def test_a_character_tokenizer_reads_its_tokenizer_json(tmp_path):
    tokenizer = TOKENIZERS["characters"]
    tokenizer.save(tmp_path / "tokenizer.json")
    assert CharacterTokenizer.load(tmp_path / "tokenizer.json").characters == tokenizer.characters
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["model"]["vocab"]["t"] = 99
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(
        ValueError,
        match="tokenizer.json is not a vocabulary that npllm can read: model.vocab must assign the ids 0, 1, 2",
    ):
        CharacterTokenizer.load(tmp_path / "tokenizer.json")
