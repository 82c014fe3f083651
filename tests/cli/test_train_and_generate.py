"""`npllm train` and `npllm generate`, in this process; tests/training/test_run.py tests runs that are killed."""

import json
import shutil

import numpy as np
import pytest

from npllm.cli.main import main
from npllm.cli.text_generation import open_model
from npllm.cli.training_progress import training_report
from npllm.models import ARCHITECTURES, Decoder
from npllm.training import open_run
from tests.fingerprint import fingerprint

TEXT = "the ferry left at nine, and nobody on it spoke. she counted the lamps on the far side of the water.\n" * 12
SMALL = [
    *("--num-steps", "12", "--num-layers", "1", "--num-heads", "2", "--d-model", "16"),
    *("--context-length", "16", "--eval-interval", "5"),
]
PROMPT = ["--prompt", "the", "--max-new-tokens", "20", "--seed", "1"]


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, text_file):
    """The folder of a finished run, which tests do not change."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert train(folder, "--text", text_file, *SMALL, "--threads", "1", "--checkpoint-interval", "4") == 0
    return folder


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of the finished run, for tests that change it."""
    return shutil.copytree(trained, tmp_path / "copy")


def train(out, *arguments):
    """Run the command."""
    return main(["train", "--out", str(out), *arguments])


def generate(folder, *arguments):
    """Run the command."""
    return main(["generate", "--model", str(folder), *arguments])


def records(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("tokenizer", ["characters", "bpe"])
def test_train_then_generate(tmp_path, text_file, tokenizer, capsys):
    options = ["--vocab-size", "280"] if tokenizer == "bpe" else []
    assert train(tmp_path / "run", "--text", text_file, "--tokenizer", tokenizer, *SMALL, *options) == 0
    out, log = capsys.readouterr().out, records(tmp_path / "run")
    assert [record["step"] for record in log] == list(range(12))
    assert [record["step"] for record in log if "validation_loss" in record] == [0, 5, 10]
    for record in log:
        assert record["loss"] > 0 and record["tokens_per_second"] > 0 and record["grad_norm"] > 0
        assert ("sample" in record) == ("validation_loss" in record)
    assert f"validation loss {log[5]['validation_loss']:.4f}" in out
    assert "loss on the whole validation text" in out
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")

    assert generate(tmp_path / "run", *PROMPT) == 0
    first = capsys.readouterr().out
    assert first.startswith("the")
    assert generate(tmp_path / "run", *PROMPT) == 0
    assert capsys.readouterr().out == first, "the same seed gives the same text"
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    assert generate(tmp_path / "run", *PROMPT) == 0
    assert capsys.readouterr().out == first, "the exported model equals the checkpoint"


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "gpt"])
def test_other_architectures_train_and_generate(tmp_path, text_file, name, capsys):
    options = ["--architecture", name, *SMALL, "--num-steps", "3"]
    assert train(tmp_path / "run", "--text", text_file, *options) == 0
    assert "parameters: 1 layers, " in capsys.readouterr().out
    assert generate(tmp_path / "run", *PROMPT) == 0
    first = capsys.readouterr().out
    assert first.startswith("the")
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    assert generate(tmp_path / "run", *PROMPT) == 0
    assert capsys.readouterr().out == first, "the exported model equals the checkpoint"
    assert isinstance(open_model(tmp_path / "run").model, Decoder)


def test_resuming_a_finished_run_changes_nothing(copy, capsys):
    before = fingerprint(copy / "checkpoint.safetensors")
    assert train(copy, "--resume") == 0
    assert fingerprint(copy / "checkpoint.safetensors") == before
    assert "resumed after step 12" in capsys.readouterr().out


def test_a_finished_run_is_prolonged(copy, capsys):
    assert train(copy, "--resume", "--num-steps", "11") == 1
    assert "--num-steps is 11; it must be at least 12, the number of steps done" in capsys.readouterr().err
    assert train(copy, "--resume", "--num-steps", "16") == 0
    assert [record["step"] for record in records(copy)] == list(range(16))
    assert open_run(copy).trainer.config.num_steps == open_run(copy).trainer.steps_done == 16
    assert open_run(copy).best[1] <= min(r["validation_loss"] for r in records(copy) if "validation_loss" in r)


def test_a_run_records_its_number_of_threads_and_resumes_with_it(copy, capsys):
    assert json.loads((copy / "run.json").read_text())["num_threads"] == 1
    assert train(copy, "--resume") == 0
    assert "BLAS threads: 1\n" in capsys.readouterr().out
    assert train(copy, "--resume", "--threads", "2") == 0
    assert "BLAS threads: 2; the run began with 1, so results may differ" in capsys.readouterr().out.replace("\n", " ")


def test_the_report_of_a_training(trained):
    text = training_report(open_run(trained))
    record = records(trained)[5]
    assert f"| 5 | {record['loss']:.3f} | {record['validation_loss']:.3f} |\n" in text
    assert "1 layers, 2 heads, d_model 16, context length 16" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "there is no run.json"),
        (["--corpus", "hamlet"], "hamlet"),
        (["--num-heads", "3"], "--d-model is 128 and --num-heads 3; --num-heads must divide --d-model"),
        (["--context-length", "100000"], "with --context-length 100000 it must have at least 100001"),
        (["--batch-size", "2", "--grad-accum-steps", "3"], "--grad-accum-steps is 3; it must be at most --batch-size"),
        (["--dropout", "1.5"], "--dropout is 1.5; it must be at least 0 and less than 1"),
        (["--text", "nowhere.txt"], "nowhere.txt does not exist"),
        (["--batch-size", "1000000"], "--batch-size is 1000000; it must be at least 1 and at most"),
    ],
)
def test_errors_of_train(tmp_path, arguments, message, capsys):
    assert train(tmp_path / "run", *arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume", "--text", "a.txt"], "--text has no effect with --resume"),
        (["--text", "a.txt", "--corpus", "story"], "argument --corpus: not allowed with argument --text"),
        (["--num-steps", "0"], "argument --num-steps/--steps: it is 0; it must be at least 1"),
        (["--num-steps", "x"], "argument --num-steps/--steps: 'x' is not an integer"),
        (["--checkpoint-interval", "0"], "argument --checkpoint-interval: it is 0"),
        (["--seed", "-3"], "argument --seed: it is -3; it must be at least 0"),
        (["--learning-rate", "-1"], "argument --learning-rate: it is -1; it must be at least 0"),
        (["--learning-rate", "nan"], "argument --learning-rate: it is nan; it must be at least 0"),
        (["--tokenizer", "bpe", "--vocab-size", "100"], "argument --vocab-size: it is 100; it must be at least 256"),
        (["--vocab-size", "300"], "--vocab-size has no effect with --tokenizer characters"),
        (["--threads", "0"], "argument --threads: it is 0; it must be at least 1"),
    ],
)
def test_usage_errors_of_train(tmp_path, arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path / "run", *arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_loss_that_diverges_is_an_error_without_traceback(tmp_path, text_file, capsys):
    with np.errstate(all="ignore"):
        options = [*SMALL, "--learning-rate", "1e30", "--warmup-steps", "0"]
        assert train(tmp_path / "run", "--text", text_file, *options) == 1
    error = capsys.readouterr().err
    assert "smaller learning rate" in error or "overflowed" in error
    assert "Traceback" not in error


def test_a_folder_with_a_run_is_not_overwritten(copy, capsys):
    before = fingerprint(copy / "checkpoint.safetensors")
    assert train(copy, "--text", "nowhere.txt", *SMALL) == 1
    assert f"--out is {copy}, which has a run; add --resume" in capsys.readouterr().err
    assert fingerprint(copy / "checkpoint.safetensors") == before


def test_out_must_be_a_folder(tmp_path, text_file, capsys):
    for out in ("", text_file, f"{text_file}/run"):
        assert train(out, "--text", text_file, *SMALL) == 1
        assert "it must be a folder" in capsys.readouterr().err


def test_generate_uses_the_last_checkpoint_of_an_unfinished_run(copy):
    run = open_run(copy)
    run.model.wte.weight.data += 1
    run.save()
    model = open_model(copy).model
    np.testing.assert_array_equal(model.wte.weight.data, run.model.wte.weight.data)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "the §"], "--prompt is 'the §', which cannot be encoded: '§'"),
        (["--prompt", ""], "--prompt is empty; it must have at least one character"),
        (["--top-p", "2"], "--top-p is 2.0"),
        (["--min-p", "1.5"], "--min-p is 1.5"),
        (["--repetition-penalty", "0"], "--repetition-penalty is 0"),
        (["--logit-bias", "999=1"], "--logit-bias[0] is 999; it must be in [0, "),
    ],
)
def test_errors_of_generate(trained, arguments, message, capsys):
    assert generate(trained, "--prompt", "the", *arguments) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "-1"], "argument --temperature: it is -1; it must be at least 0"),
        (["--top-k", "0"], "argument --top-k: it is 0; it must be at least 1"),
        (["--max-new-tokens", "-1"], "argument --max-new-tokens: it is -1"),
        (["--seed", "-1"], "argument --seed: it is -1"),
        (["--temperature", "0", "--top-k", "3"], "--top-k has no effect with --temperature 0"),
        (["--temperature", "0", "--min-p", "0.1"], "--min-p has no effect with --temperature 0"),
        (["--logit-bias", "x"], "argument --logit-bias: 'x' is not ID=X, such as 198=-100"),
        (
            ["--logit-bias", "5=inf"],
            "argument --logit-bias: it is 5=inf; ID must be at least 0 and X",
        ),
        (["--presence-penalty", "nan"], "argument --presence-penalty: it is nan; it must be finite"),
        (["--show-candidates", "0"], "argument --show-candidates: it is 0; it must be at least 1"),
    ],
)
def test_usage_errors_of_generate(tmp_path, arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        generate(tmp_path, *arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_number_of_threads_is_not_part_of_the_text(trained, capsys):
    assert generate(trained, *PROMPT, "--threads", "1") == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("BLAS threads: 1\nprompt: 3 tokens")
    assert "BLAS" not in captured.out


def test_ctrl_c_skips_the_last_evaluation(tmp_path, capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("npllm.cli.training_progress.evaluate", interrupted)
    arguments = ["--steps", "1", "--d-model", "8", "--context-length", "8", "--eval-batches", "1", "--threads", "1"]
    assert main(["train", *arguments, "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "the model is in" in out
    assert "whole validation text" not in out
