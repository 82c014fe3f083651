"""The jobs of the network at the sizes of `--quick`: every contender that can run agrees with npllm."""

import importlib
import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from benchmarks import torch_variants
from benchmarks.__main__ import JOBS
from benchmarks.limits import Work
from benchmarks.measure import OURS, Job, Rough, close, measure
from benchmarks.quick import QUICK
from benchmarks.steps import example, products_of_forward, products_of_step
from benchmarks.worker import Worker
from npllm.core.threads import limit_threads
from npllm.inspect.cost import count_operations
from npllm.models import GPTConfig

ROWS = {
    "kernels": ["matrix product", "GELU tanh forward", "GELU erf forward", "SiLU forward", "sigmoid forward",
                "softmax forward", "layer norm forward + backward", "RMS norm forward + backward",
                "cross-entropy forward + backward"],
    "optimizers": ["AdamW step", "gradient clipping"],
    "gpt2": ["GPT forward"],
    "decoding": ["GPT generation", "GPT generation, batch", "decoder generation", "decoder generation, batch"],
    "weight_forms": ["x Wᵀ, 1 row", "x Wᵀ, 2 rows", "x Wᵀ, 8 rows"],
    "ideas": [f"idea: {name}" for name in ("x³ in GELU", "GELU tanh", "sigmoid", "softmax", "causal attention",
                                           "embedding backward", "AdamW")],
    "causal_attention": ["causal attention forward"] * 3 + ["causal attention forward + backward"] * 3,
}  # fmt: skip
SMALL = GPTConfig(vocab_size=50, context_length=16, d_model=24, num_layers=2, num_heads=3)


@pytest.fixture(autouse=True)
def one_thread():
    with limit_threads(1):  # two threads wait for each other while other tests run
        yield


@pytest.fixture(autouse=True)
def nothing_compiled_or_unlocked(monkeypatch):
    monkeypatch.setattr(torch_variants, "why_not_compiled", lambda: "not in this test")
    monkeypatch.setattr(torch_variants, "why_not_unlocked", lambda: "not in this test")


@pytest.mark.parametrize("name", ROWS)
def test_contenders_agree(name):
    jobs = importlib.import_module(f"benchmarks.{name}").jobs(**QUICK[name])
    measured = [measure(job, rounds=1, min_time=0) for job in jobs]
    assert [m.name for m in measured] == ROWS[name]
    assert all(m.others for m in measured)


def test_training_steps_agree_and_have_peaks():
    from benchmarks import training_steps

    jobs = training_steps.jobs(SMALL, (2, 16), small=SMALL, small_batch=(1, 8), quick=True)
    first, second = (measure(job, rounds=1, min_time=0) for job in jobs)
    assert first.others == ["PyTorch", "PyTorch bf16"] and second.others == [*first.others, "transformers"]
    assert set(second.skipped) == {"PyTorch compiled", "PyTorch, MKL unlocked", "PyTorch compiled, MKL unlocked"}
    assert set(second.peaks) == {OURS, "PyTorch"} and min(second.peaks.values()) > 2**20


def test_growth_agrees():
    from benchmarks import growth

    measured = [measure(job, 1, 0.0) for job in growth.jobs((1, 2), (32, 64), 8, (130,))]
    assert [m.growth[2] for m in measured] == [1, 2, 12 * 4 * 32**2, 12 * 4 * 64**2, 130, 130]


def test_quick_has_every_job():
    assert set(QUICK) == set(JOBS)


def test_operations_of_the_products_equal_those_of_the_cost():
    config = GPTConfig.gpt2("124M")
    cost = count_operations(config, 2, 256)
    expected = cost["forward"] - cost["scores and context"] / 2  # the mask leaves a half
    assert Work(products_of_forward(config, 2, 256)).operations == pytest.approx(expected)
    assert Work(products_of_step(config, 2, 256)).operations == pytest.approx(3 * expected)


def test_a_worker_gives_the_result_once_and_ends():
    worker = Worker("benchmarks.training_steps:torch_step", {"fields": asdict(SMALL), "batch_size": 1, "length": 8}, {})
    try:
        loss, _ = worker()
        model, inputs, targets = example(asdict(SMALL), 1, 8)
        assert loss == pytest.approx(model.loss(inputs, targets), rel=1e-4)
        assert worker() is None
    finally:
        worker.close()
    assert worker.process is None


def test_a_worker_that_fails_is_named(capfd):
    with pytest.raises(OSError, match="the process of benchmarks.training_steps:nothing has ended with status 1"):
        Worker("benchmarks.training_steps:nothing", {}, {})()


def test_peak_memory_prints_bytes():
    arguments = {"fields": asdict(SMALL), "batch_size": 1, "length": 8}
    command = [sys.executable, "-m", "benchmarks.peak_memory", OURS, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and int(done.stdout) > 10 * 2**20


def test_rough_results_are_compared_roughly():
    import numpy as np

    close(Rough(np.array([1.02])), np.array([1.0]))
    with pytest.raises(AssertionError):
        close(Rough(np.array([1.2])), np.array([1.0]))


def test_a_job_with_work_has_a_limit():
    class Fixed:
        def of(self, work):
            return work

    job = Job("j", "s", lambda: 1, work=Work(traffic=1.0))
    assert measure(job, 1, 0.0, limits=Fixed()).limit == Work(traffic=1.0)
    assert measure(job, 1, 0.0).limit is None
