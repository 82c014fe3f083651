"""`npllm train` on token files, with vocabularies, and from a published model; the result opens in transformers."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from npllm.batching import open_token_file, write_token_file
from npllm.cli.main import main
from npllm.generation import complete
from npllm.models import from_pretrained
from npllm.tokenizers import load_tokenizer
from npllm.training import open_run, open_trained

TEXT = "the ferry left at nine.<|endoftext|>nobody on it spoke.<|endoftext|>she counted the lamps.<|endoftext|>\n" * 12
SMALL = [
    *("--num-steps", "4", "--num-layers", "1", "--num-heads", "2", "--d-model", "16", "--context-length", "16"),
    *("--eval-interval", "2", "--threads", "1"),
]
FEW = ["--num-steps", "3", "--context-length", "8", "--batch-size", "2", "--threads", "1"]


def npllm(*arguments):
    """Run a command, which must succeed."""
    assert main([*map(str, arguments)]) == 0


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with text.txt, a vocabulary of `npllm bpe train`, and text.bin of `npllm bpe encode`."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "text.txt").write_text(TEXT)
    options = ["--vocab-size", 280, "--special-token", "<|endoftext|>"]
    npllm("bpe", "train", folder / "text.txt", "--out", folder / "vocabulary", *options)
    options = ["--vocabulary", folder / "vocabulary", "--special-tokens", "as-tokens"]
    npllm("bpe", "encode", folder / "text.txt", "--out", folder / "text.bin", *options)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory, files):
    """The folder of a random Llama of transformers with the vocabulary of `files`, and 8 ids that have no token."""
    folder = tmp_path_factory.mktemp("llama")
    shutil.copy(files / "vocabulary" / "tokenizer.json", folder)
    content = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "chat_template": "{{ x }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=288, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, eos_token_id=279, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def check_in_transformers(folder):
    """The Auto classes give npllm's ids and greedy text, and stop where npllm stops."""
    ours, theirs = open_trained(folder), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    text = TEXT[:200]
    ids = ours.tokenizer.encode(text, allowed_special="all")
    assert AutoTokenizer.from_pretrained(folder)(text)["input_ids"] == ids
    prompt = torch.tensor([ids[:5]])
    found = theirs.generate(prompt, max_new_tokens=8, do_sample=False, pad_token_id=0)[0, 5:].tolist()
    assert found == complete(ours.model, ids[:5], 8, temperature=0, stop_ids=sorted(ours.stop_ids))
    assert theirs.generation_config.eos_token_id == ours.tokenizer.special_tokens["<|endoftext|>"]


def test_a_token_file_is_trained_on(files, tmp_path):
    options = ["--tokens", files / "text.bin", "--vocabulary", files / "vocabulary", *SMALL]
    npllm("train", "--out", tmp_path / "run", *options)
    run, ids = open_run(tmp_path / "run"), open_token_file(files / "text.bin")
    train, validation = (np.asarray(data.ids) for data in (run.trainer.batches.dataset, run.trainer.validation))
    np.testing.assert_array_equal(np.concatenate([train, validation]), ids)
    assert train[-1] == run.tokenizer.special_tokens["<|endoftext|>"], "the split is between two documents"
    check_in_transformers(tmp_path / "run")


def test_a_text_and_its_token_file_give_the_same_run(files, tmp_path):
    options = ["--vocabulary", files / "vocabulary", *SMALL]
    npllm("train", "--out", tmp_path / "text", "--text", files / "text.txt", *options)
    npllm("train", "--out", tmp_path / "tokens", "--tokens", files / "text.bin", *options)
    for name in ("train.tokens", "checkpoint.safetensors", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "text" / name).read_bytes() == (tmp_path / "tokens" / name).read_bytes(), name


@pytest.mark.parametrize("vocabulary", ["tokenizer.json", "vocabulary.json", "encoder.json"])
def test_the_run_has_its_vocabulary_and_can_be_moved(files, tmp_path, vocabulary):
    """A vocabulary may be one file or a folder; it is not needed after the run was created."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("encoder.json", "vocab.bpe") if vocabulary == "encoder.json" else (vocabulary,):
        shutil.copy(files / "vocabulary" / name, source)
    path = source if vocabulary == "encoder.json" else source / vocabulary
    npllm("train", "--out", tmp_path / "run", "--text", files / "text.txt", "--vocabulary", path, *SMALL)
    shutil.rmtree(source)
    shutil.move(tmp_path / "run", tmp_path / "moved")
    check_in_transformers(tmp_path / "moved")
    npllm("train", "--out", tmp_path / "moved", "--resume", "--num-steps", 6)


def test_a_published_model_is_fine_tuned(files, llama, tmp_path, capsys):
    npllm("train", "--out", tmp_path / "run", "--init-from", llama, "--tokens", files / "text.bin", *FEW)
    assert "context length 8, vocabulary 288" in " ".join(capsys.readouterr().out.split())
    run = open_run(tmp_path / "run")
    assert run.model.config.context_length == 32 and run.trainer.batches.dataset.max_length == 8
    assert run.config.training.learning_rate == 5e-5
    check_in_transformers(tmp_path / "run")
    assert (tmp_path / "run" / "tokenizer_config.json").read_bytes() == (llama / "tokenizer_config.json").read_bytes()
    assert open_trained(tmp_path / "run").chat_template == "{{ x }}"
    npllm("train", "--out", tmp_path / "again", "--init-from", tmp_path / "run", "--text", files / "text.txt", *FEW)
    check_in_transformers(tmp_path / "again")


def test_a_run_of_characters_is_fine_tuned(tmp_path, capsys):
    (tmp_path / "text.txt").write_text(TEXT)
    npllm("train", "--out", tmp_path / "run", "--text", tmp_path / "text.txt", *SMALL)
    npllm("train", "--out", tmp_path / "more", "--init-from", tmp_path / "run", "--text", tmp_path / "text.txt", *FEW)
    assert open_trained(tmp_path / "more").tokenizer.decode([0]) == "\n"
    (tmp_path / "other.txt").write_text(TEXT + "§")
    arguments = ["--init-from", tmp_path / "run", "--text", tmp_path / "other.txt", *FEW]
    assert main(["train", "--out", str(tmp_path / "new"), *map(str, arguments)]) == 1
    assert "the text cannot be encoded: '§' is not among" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_an_unfinished_run_and_its_best_weights_are_exported(files, llama, tmp_path, capsys):
    options = ["--init-from", llama, "--text", files / "text.txt", *FEW, "--eval-interval", 1, "--warmup-steps", 0]
    options += ["--learning-rate", 1]
    npllm("train", "--out", tmp_path / "run", *options)
    run, found = open_run(tmp_path / "run"), {}
    assert run.best[0] < run.trainer.steps_done, "the learning rate is too high, so the best weights are not the last"
    for name, flags in (("last", []), ("best", ["--best"])):
        npllm("export", "--model", tmp_path / "run", "--out", tmp_path / name, *flags)
        found[name] = load_tokenizer(tmp_path / name), from_pretrained(tmp_path / name)
        theirs = AutoTokenizer.from_pretrained(tmp_path / name)
        assert theirs("the lamps")["input_ids"] == found[name][0].encode("the lamps")
    np.testing.assert_array_equal(found["last"][1].lm_head.weight.data, run.model.lm_head.weight.data)
    run.trainer.model = found["best"][1]
    assert run.trainer.evaluate() == pytest.approx(run.best[1], rel=1e-6)
    assert main(["export", "--model", str(tmp_path / "run"), "--out", str(tmp_path / "best")]) == 1
    assert "choose another folder" in capsys.readouterr().err
    npllm("generate", "--model", tmp_path / "run", "--best", "--prompt", "the", "--max-new-tokens", 3, "--threads", 1)
    assert main(["generate", "--model", str(llama), "--best", "--prompt", "the"]) == 1
    assert "--best belongs to a run" in capsys.readouterr().err


def test_dropout_is_chosen_for_a_published_model(files, llama, tmp_path):
    options = ["--init-from", llama, "--tokens", files / "text.bin", "--dropout", 0.25, *FEW]
    npllm("train", "--out", tmp_path / "run", *options)
    assert open_run(tmp_path / "run").model.config.dropout == 0.25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tokens", "{}/text.bin"], "--tokens needs --vocabulary"),
        (["--tokens", "{}/text.bin", "--text", "{}/text.txt"], "not allowed with argument"),
        (["--vocabulary", "{}/vocabulary", "--tokenizer", "gpt2"], "--tokenizer has no effect with --vocabulary"),
        (["--init-from", "x", "--d-model", "64"], "--d-model has no effect with --init-from"),
        (["--init-from", "x", "--architecture", "llama"], "--architecture has no effect with --init-from"),
        (["--resume", "--init-from", "x"], "--init-from has no effect with --resume"),
    ],
)
def test_usage_errors(files, tmp_path, arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--out", str(tmp_path / "run"), *(argument.format(files) for argument in arguments)])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tokens", "{files}/text.bin", "--tokenizer", "gpt2"], "text.bin has ids of a vocabulary of size 280"),
        (["--tokens", "{files}/text.txt", "--tokenizer", "gpt2"], "text.txt is not a token file"),
        (["--tokens", "{tmp}/high.bin", "--vocabulary", "{files}/vocabulary"],
         "high.bin is damaged: it does not have the checksum"),
        (["--tokens", "{files}/text.bin", "--init-from", "{llama}", "--context-length", "33"],
         "--context-length is 33; it must be at most 32, the model's"),
        (["--text", "{files}/text.txt", "--init-from", "{tmp}/nowhere"], "nowhere"),
        (["--text", "{files}/text.txt", "--vocabulary", "{tmp}/nowhere"], "nowhere"),
    ],
)  # fmt: skip
def test_errors_leave_no_folder_behind(files, llama, tmp_path, arguments, message, capsys):
    write_token_file(tmp_path / "high.bin", np.full(99, 300), 301)
    content = bytearray((tmp_path / "high.bin").read_bytes())
    content[24:32] = (280).to_bytes(8, "little")  # the header of a smaller vocabulary
    (tmp_path / "high.bin").write_bytes(content)
    arguments = [argument.format(files=files, llama=llama, tmp=tmp_path) for argument in arguments]
    assert main(["train", "--out", str(tmp_path / "run"), *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "run").exists()
