"""`python -m benchmarks` as a user runs it, once through all jobs: every contender must agree with npllm."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import attention_variants, bpe_training, smollm2, tokenizing
from benchmarks.__main__ import JOBS, main
from benchmarks.measure import measure
from benchmarks.report import markdown, write_json
from npllm.models import architecture, build

ROOT = Path(__file__).parent.parent.parent


def benchmarks(*arguments):
    """Run the command and return (status, standard output, standard error)."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONUTF8": "1"},
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


def test_every_job_once(tmp_path):
    small = ["embedding", "softmax", "attention", "transformer_block"]  # the others have tests of their own
    status, out, error = benchmarks(*small, "--rounds", 1, "--min-time", 0, "--results", tmp_path / "new")
    assert (status, error) == (0, "")
    jobs = json.loads((tmp_path / "new" / "results.json").read_text())["jobs"]
    assert (tmp_path / "new" / "results.png").stat().st_size > 10_000
    for job in jobs:
        assert job["job"] in out
    names = " ".join(job["job"] for job in jobs)
    for word in ("embedding backward", "softmax forward + backward", "SimplifiedSelfAttention",
                 "SelfAttentionV1", "SelfAttentionV2", "CausalAttention", "MultiHeadAttentionWrapper",
                 "MultiHeadAttention", "TransformerBlock forward + backward"):  # fmt: skip
        assert word in names
    assert sum("plain loops" in job["seconds"] for job in jobs) >= 10


def test_every_variant_of_attention_gives_the_result_of_its_reference():
    for job in attention_variants.jobs(lengths=(16,)):
        measured = measure(job, rounds=1, min_time=0)
        assert measured.peaks.keys() == measured.seconds.keys()
        assert min(measured.peaks.values()) > 16 * 48 * 4, "the result alone is that large"


def test_every_encoder_gives_the_same_ids():
    small = tokenizing.jobs(("story",), sizes=(3000,), hard=4000, sources=40_000, strings=2)
    names = [measure(job, rounds=1, min_time=0).name for job in small]
    assert {"encode to list, cold", "encode_batch, warm", "decode a list", "encode one pre-token to array"} <= set(
        names
    )


def test_every_trainer_learns_the_same_vocabulary():
    measured = [measure(job, rounds=1, min_time=0) for job in bpe_training.jobs(("story",), (300, 2000), 40_000)]
    assert {name for m in measured for name in m.others} == {"tiktoken's educational", "plain loops", "Hugging Face"}
    assert len(measured) == 1 + 2 + 2


def test_every_file_with_jobs_is_run():
    with_jobs = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "def jobs(" in path.read_text("utf-8")}
    assert set(JOBS) == with_jobs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sorting"], "unknown job sorting; it must be one of tokenizing"),
        (["--rounds", "0"], "--rounds is 0; it must be at least 1"),
        (["--min-time", "nan"], "--min-time is nan"),
    ],
)
def test_usage_errors(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_missing_package_is_named(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main([]) == 1
    assert 'PyTorch, which is not installed. In a checkout of npllm:\n  python -m pip install -e ".[test]"' in (
        capsys.readouterr().err
    )


def test_different_results_end_the_run(monkeypatch, capsys, tmp_path):
    from npllm import functional

    monkeypatch.setattr(functional, "softmax", lambda x: x)
    assert main(["softmax", "--results", str(tmp_path)]) == 1
    assert "PyTorch and npllm give different results" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_jobs_of_a_published_model_agree_with_transformers(tmp_path, monkeypatch):
    find = smollm2.importlib.util.find_spec  # llama.cpp needs a GGUF file
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda n, *p: None if n == "llama_cpp" else find(n, *p))
    model = build(architecture("llama", 50, 32, 24, 2, 2), rng=np.random.default_rng(0))
    model.save_pretrained(tmp_path)
    measured = [measure(job, 1, 0.0) for job in smollm2.jobs(tmp_path, [*range(20)], 16, 4, 12, 8)]
    assert [m.name.removeprefix("smollm2 ") for m in measured] == ["prefill", "generation", "training step"]
    assert [m.tokens for m in measured] == [16, 12, 8]
    assert [m.others for m in measured] == [["transformers"], ["transformers", "read the weights"], ["transformers"]]
    write_json(tmp_path / "results.json", {}, {}, measured)
    text = markdown(json.loads((tmp_path / "results.json").read_text()))
    assert text.count("tokens/s") == 3 and text.count("llama.cpp not installed") == 2


def test_a_model_that_is_not_at_hand_is_left_out_unless_its_job_is_chosen(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("NPLLM_MODELS", "")
    monkeypatch.setattr("npllm.models.catalog.cache_folder", lambda: tmp_path)
    assert main(["smollm2", "--results", str(tmp_path / "results")]) == 1
    assert "npllm models fetch smollm2" in capsys.readouterr().err
    monkeypatch.setattr("benchmarks.__main__.JOBS", ["smollm2"])
    monkeypatch.setattr("benchmarks.report.draw", lambda *arguments: None)  # there is nothing to draw
    assert main(["--results", str(tmp_path / "results")]) == 0
    assert "smollm2 is left out: " in capsys.readouterr().out
