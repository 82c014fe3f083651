"""`npllm train` and `npllm generate`, in this process; tests/training/test_run.py has what happens to processes."""

import json

import numpy as np
import pytest

from npllm.cli.generate import generate_and_show, load_model
from npllm.cli.main import main
from npllm.cli.train import training_report
from npllm.models import ARCHITECTURES, GPT, Decoder, GPTConfig
from npllm.tokenizers import GPT2Tokenizer
from npllm.training import open_run
from tests.fingerprint import fingerprint
from tests.utils.test_terminal import console

TEXT = "the ferry left at nine, and nobody on it spoke. she counted the lamps on the far side of the water.\n" * 12
SMALL = ["--steps", "12", "--num-layers", "1", "--num-heads", "2", "--d-model", "16", "--context-length", "16",
         "--eval-interval", "5"]  # fmt: skip


TWENTY = ["--max-new-tokens", "20", "--seed", "1"]


@pytest.fixture
def text_file(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    return str(tmp_path / "text.txt")


def train(out, *arguments):
    """Run the command."""
    return main(["train", "--out", str(out), *arguments])


@pytest.mark.parametrize("tokenizer", ["characters", "bpe"])
def test_train_then_generate(tmp_path, text_file, tokenizer, capsys):
    options = ["--vocab-size", "280"] if tokenizer == "bpe" else []
    assert train(tmp_path / "run", "--text", text_file, "--tokenizer", tokenizer, *SMALL, *options) == 0
    out = capsys.readouterr().out
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(12))
    assert [r["step"] for r in records if "validation_loss" in r] == [0, 5, 10]
    for record in records:
        assert record["loss"] > 0 and record["tokens_per_second"] > 0 and record["grad_norm"] > 0
        assert ("sample" in record) == ("validation_loss" in record)
    assert f"validation loss {records[5]['validation_loss']:.4f}" in out
    assert "loss on the whole validation text" in out
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")

    arguments = [
        "generate",
        "--model",
        str(tmp_path / "run"),
        "--prompt",
        "the",
        "--max-new-tokens",
        "20",
        "--seed",
        "1",
    ]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert first.startswith("the")
    assert main(arguments) == 0
    assert capsys.readouterr().out == first, "the seed decides"
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    assert main(arguments) == 0
    assert capsys.readouterr().out == first, "the model alone is the same"


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "gpt"])
def test_other_architectures_train_resume_and_write(tmp_path, text_file, name, capsys):
    assert (
        train(tmp_path / "run", "--text", text_file, "--architecture", name, *SMALL, "--checkpoint-interval", "4") == 0
    )
    assert "parameters: 1 layers, " in capsys.readouterr().out
    arguments = [
        "generate",
        "--model",
        str(tmp_path / "run"),
        "--prompt",
        "the",
        "--max-new-tokens",
        "30",
        "--seed",
        "1",
    ]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert first.startswith("the")
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    assert main(arguments) == 0
    assert capsys.readouterr().out == first, "the model alone is the same"
    assert isinstance(load_model(tmp_path / "run")[0], Decoder)


def test_resume(tmp_path, text_file, capsys):
    assert train(tmp_path / "run", "--text", text_file, *SMALL, "--checkpoint-interval", "4") == 0
    done = fingerprint(tmp_path / "run" / "checkpoint.safetensors")
    assert train(tmp_path / "run", "--resume") == 0, "nothing is left to do"
    assert fingerprint(tmp_path / "run" / "checkpoint.safetensors") == done
    assert "goes on after step 12" in capsys.readouterr().out


def test_the_report_of_a_training(tmp_path, text_file):
    assert train(tmp_path / "run", "--text", text_file, *SMALL) == 0
    run = open_run(tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    text = training_report(run, records, 1.5)
    assert f"| 5 | {records[5]['loss']:.3f} | {records[5]['validation_loss']:.3f} |\n" in text
    assert "1 layers, 2 heads, 16 channels, context 16" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "there is no run.json"),
        (["--corpus", "hamlet"], "hamlet"),
        (["--num-heads", "3"], "--d-model is 128 and --num-heads 3; --num-heads must divide --d-model"),
        (["--context-length", "100000"], "must have at least 100001"),
        (["--text", "nowhere.txt"], "nowhere.txt does not exist"),
    ],
)
def test_errors_of_train(tmp_path, arguments, message, capsys):
    assert train(tmp_path / "run", *arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume", "--steps", "5"], "--steps cannot be changed by --resume"),
        (["--steps", "0"], "argument --steps: it is 0; it must be at least 1"),
        (["--checkpoint-interval", "0"], "argument --checkpoint-interval: it is 0"),
        (["--seed", "-3"], "argument --seed: it is -3; it must be at least 0"),
        (["--learning-rate", "-1"], "argument --learning-rate: it is -1; it must be at least 0"),
        (["--tokenizer", "bpe", "--vocab-size", "100"], "argument --vocab-size: it is 100; it must be at least 256"),
        (["--vocab-size", "300"], "--vocab-size has no effect with --tokenizer characters"),
    ],
)
def test_wrong_usage_of_train(tmp_path, arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path / "run", *arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_training_that_blows_up_says_so(tmp_path, text_file, capsys):
    with np.errstate(all="ignore"):
        assert (
            train(tmp_path / "run", "--text", text_file, *SMALL, "--learning-rate", "1e30", "--warmup-steps", "0") == 1
        )
    error = capsys.readouterr().err
    assert "smaller learning rate" in error or "overflowed" in error
    assert "Traceback" not in error


def test_a_folder_with_a_run_is_not_overwritten(tmp_path, text_file, capsys):
    assert train(tmp_path / "run", "--text", text_file, *SMALL) == 0
    before = fingerprint(tmp_path / "run" / "checkpoint.safetensors")
    assert train(tmp_path / "run", "--text", text_file, *SMALL) == 1
    assert "already has a run" in capsys.readouterr().err
    assert fingerprint(tmp_path / "run" / "checkpoint.safetensors") == before


def test_an_unfinished_run_speaks_with_its_last_checkpoint(tmp_path, text_file):
    assert train(tmp_path / "run", "--text", text_file, *SMALL) == 0
    run = open_run(tmp_path / "run")
    run.model.wte.weight.data += 1
    run.save()
    model, _ = load_model(tmp_path / "run")
    np.testing.assert_array_equal(model.wte.weight.data, run.model.wte.weight.data)


def test_gpt2_weights_speak_with_gpt2s_tokenizer(tmp_path):
    GPT(GPTConfig(50257, 16, 8, 1, 2), rng=np.random.default_rng(0)).save_pretrained(tmp_path)
    shown = console()
    generate_and_show(shown, tmp_path, "Every effort", 5, seed=0)
    assert shown.file.getvalue().startswith("Every effort")
    model, tokenizer = load_model(tmp_path)
    assert isinstance(tokenizer, GPT2Tokenizer)
    GPT(GPTConfig(11, 16, 8, 1, 2), rng=np.random.default_rng(0)).save_pretrained(tmp_path / "small")
    with pytest.raises(ValueError, match="has no vocabulary.json, and its model has 11 ids"):
        load_model(tmp_path / "small")


def test_streamed_text_is_the_text_and_ends_at_the_end(tmp_path, monkeypatch):
    GPT(GPTConfig(50257, 16, 8, 1, 2), rng=np.random.default_rng(0)).save_pretrained(tmp_path)
    ids = [*GPT2Tokenizer.load().encode(" 日本 naïve"), 50256]
    monkeypatch.setattr("npllm.cli.generate.generate", lambda *a, **k: ([i] for i in ids))
    shown = console()
    generate_and_show(shown, tmp_path, "x", 9)
    assert shown.file.getvalue() == "x 日本 naïve\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "the §"], "the prompt cannot be encoded: '§'"),
        (["--prompt", ""], "is empty; it must have at least one id"),
        (["--top-p", "2"], "--top-p is 2.0"),
        (["--repetition-penalty", "0"], "--repetition-penalty is 0"),
    ],
)
def test_errors_of_generate(tmp_path, text_file, arguments, message, capsys):
    assert train(tmp_path / "run", "--text", text_file, *SMALL) == 0
    capsys.readouterr()
    assert main(["generate", "--model", str(tmp_path / "run"), "--prompt", "the", *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "-1"], "argument --temperature: it is -1; it must be at least 0"),
        (["--top-k", "0"], "argument --top-k: it is 0; it must be at least 1"),
        (["--max-new-tokens", "-1"], "argument --max-new-tokens: it is -1"),
        (["--seed", "-1"], "argument --seed: it is -1"),
        (["--temperature", "0", "--top-k", "3"], "--top-k has no effect with --temperature 0"),
    ],
)
def test_wrong_usage_of_generate(tmp_path, arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["generate", "--model", str(tmp_path), *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_no_model(tmp_path, capsys):
    assert main(["generate", "--model", str(tmp_path)]) == 1
    assert "config.json" in capsys.readouterr().err
