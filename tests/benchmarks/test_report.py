import io
import json
import os
from unittest.mock import Mock

import pytest
from rich.console import Console

from benchmarks import report
from benchmarks.limits import Limit
from benchmarks.machine import keep_freed_memory, machine
from benchmarks.measure import Measurement

MACHINE = {"processor": "an abacus", "npllm": "NumPy by hand"}
SETTINGS = {"rounds": 3, "min_time": 0.0}
MEASUREMENTS = [
    Measurement(
        "softmax forward",
        "3 × 4",
        {"npllm": [1e-3, 1.1e-3, 1.2e-3], "PyTorch": [5e-4, 5.5e-4, 6e-4], "plain loops": [1.0, 1.1, 1.2]},
        {"npllm": 30, "PyTorch": 60, "plain loops": 1},
    ),
    Measurement("decode", "9 ids", {"npllm": [2e-5] * 3, "tiktoken": [5e-5] * 3}, {"npllm": 1, "tiktoken": 1}),
]


def test_a_line_for_each_contender():
    out = io.StringIO()
    report.show(Console(file=out, width=60), MEASUREMENTS[0])
    lines = [" ".join(line.split()) for line in out.getvalue().split("\n")]
    assert lines[1:5] == [
        "softmax forward 3 × 4",
        "npllm 1.10 ms (1.05 ms – 1.15 ms)",
        "PyTorch 550 µs (525 µs – 575 µs) × 0.50 (0.50 – 0.50)",
        "plain loops 1.10 s (1.05 s – 1.15 s) × 1,000 (1,000 – 1,000)",
    ]


def test_json_has_every_number(tmp_path):
    report.write_json(tmp_path / "results.json", MACHINE, SETTINGS, MEASUREMENTS)
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["machine"] == MACHINE
    assert content["settings"] == SETTINGS
    first, second = content["jobs"]
    assert (first["job"], first["size"]) == ("softmax forward", "3 × 4")
    assert first["seconds"] == MEASUREMENTS[0].seconds
    assert first["calls"] == MEASUREMENTS[0].calls
    assert first["times_npllm"]["PyTorch"]["median"] == pytest.approx(0.5)
    assert second["times_npllm"] == {"tiktoken": {"low": 2.5, "median": 2.5, "high": 2.5}}


def test_plot(tmp_path):
    alone = Measurement("alone", "1", {"npllm": [1.0]}, {"npllm": 1})
    only_loops = Measurement("loops", "1", {"npllm": [1.0], "plain loops": [2.0]}, {"npllm": 1, "plain loops": 1})
    report.draw(tmp_path / "results.png", [*MEASUREMENTS, alone, only_loops])
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_the_markdown_table(tmp_path):
    report.write_json(tmp_path / "results.json", MACHINE, SETTINGS, MEASUREMENTS)
    text = report.markdown(json.loads((tmp_path / "results.json").read_text()))
    assert text.startswith("| job | size | npllm | baseline, relative to npllm | plain loops |")
    assert "| softmax forward | 3 × 4 | 1.10 ms | PyTorch **0.50** | 1,000 |\n" in text
    assert text.endswith("| decode | 9 ids | 20.0 µs | tiktoken 2.50 |  |")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (12.34, "12.3 s"),
        (1.0, "1.00 s"),
        (0.5, "500 ms"),
        (0.00999999, "10.0 ms"),
        (1.5e-6, "1.50 µs"),
        (5e-8, "0.05 µs"),
    ],
)
def test_durations(seconds, text):
    assert report._duration(seconds) == text


def test_the_machine_is_named(monkeypatch):
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    monkeypatch.delenv("OPENBLAS_L2_SIZE", raising=False)
    found = machine()
    names = ["processor", "system", "npllm", "PyTorch", "others", "allocator"]
    assert [name for name in found if name != "load"] == names
    assert "NumPy" in found["npllm"] and "thread" in found["npllm"]
    assert "thread" in found["PyTorch"]
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    assert "OPENBLAS_CORETYPE=Prescott is set" in machine()["warning"]


def test_the_machine_names_the_allocator(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    monkeypatch.setattr("npllm.utils.allocator.glibc_version", lambda: "glibc 2.36")
    monkeypatch.setattr("npllm.utils.allocator._State.is_kept", False)
    assert machine()["allocator"] == "glibc 2.36 with its own thresholds, GLIBC_TUNABLES=glibc.malloc.check=0"
    monkeypatch.setattr("npllm.utils.allocator.ctypes.CDLL", lambda name: Mock(mallopt=lambda option, value: 1))
    keep_freed_memory()
    assert machine()["allocator"].startswith("glibc 2.36 keeps freed memory, M_TRIM_THRESHOLD = ")
    for_children = "glibc.malloc.trim_threshold=2147483647:glibc.malloc.mmap_threshold=33554432"
    assert os.environ["GLIBC_TUNABLES"] == f"glibc.malloc.check=0:{for_children}"
    out = io.StringIO()
    report.show_machine(Console(file=out, width=60), machine())
    assert "allocator glibc 2.36 keeps freed memory" in out.getvalue()


STEP = Measurement(
    "GPT training step",
    "2 layers of 8, 1 × 4",
    {"npllm": [2.0] * 3, "PyTorch": [1.0] * 3},
    {"npllm": 1, "PyTorch": 1},
    peaks={"npllm": 3 * 2**20, "PyTorch": 6 * 2**20},
    skipped={"PyTorch compiled": "no compiler"},
    limit=Limit("bandwidth", 0.5),
)


def quadratic(length):
    """A row of a series whose time is quadratic and whose memory is linear."""
    seconds = {"npllm": [1e-6 * length**2] * 3, "PyTorch": [1e-3 * length] * 3}
    return Measurement(
        "attention",
        f"{length}",
        seconds,
        {"npllm": 1, "PyTorch": 1},
        {"npllm": 8 * length},
        growth=("attention", "T", length),
    )


IDEA = Measurement(
    "idea: GELU",
    "3 × 4",
    {"npllm": [1.0], "the formula": [8.0], "in blocks": [2.0], "PyTorch": [4.0]},
    dict.fromkeys(["npllm", "the formula", "in blocks", "PyTorch"], 1),
)


def content_of(tmp_path, measurements):
    """The results.json of measurements."""
    report.write_json(tmp_path / "results.json", MACHINE, SETTINGS, measurements)
    return report.read_json(tmp_path / "results.json")


def test_shares_of_the_limit(tmp_path):
    assert STEP.share("npllm") == 0.25 and STEP.share("PyTorch") == 0.5
    text = report.speed_table(content_of(tmp_path, [STEP, *MEASUREMENTS]))
    assert text.endswith("| GPT training step | 2 layers of 8, 1 × 4 | 2.00 s | 25% of bandwidth | PyTorch **0.50** |")
    out = io.StringIO()
    report.show(Console(file=out, width=60), STEP)
    assert "25% of the limit" in out.getvalue() and "50% of the limit" in out.getvalue()
    assert "left out: no compiler" in out.getvalue() and "limit: bandwidth, 500 ms" in out.getvalue()


def test_growth_has_the_slopes_of_time_and_memory(tmp_path):
    content = content_of(tmp_path, [quadratic(length) for length in (4, 1, 2, 16, 8)])
    rows = report.growth_table(content).split("\n")[2:]
    assert rows == [
        "| attention | T = 1 … 16 | npllm | 2.00 | 1.00 |",
        "| attention | T = 1 … 16 | PyTorch | 1.00 |  |",
    ]
    assert report.growth_table(content_of(tmp_path, [quadratic(4)])).count("\n") == 1


def test_memory_relative_to_npllm_and_what_is_left_out(tmp_path):
    content = content_of(tmp_path, [STEP])
    assert report.memory_table(content).endswith("| 3.00 MiB | PyTorch 6.00 MiB (2.00) |")
    assert report.left_out(content) == "- PyTorch compiled: no compiler"


def test_ideas_gain_over_the_row_above(tmp_path):
    rows = report.ideas_table(content_of(tmp_path, [IDEA])).split("\n")[2:]
    assert rows == [
        "| GELU, 3 × 4 | the formula | 8.00 s |  |",
        "|  | in blocks | 2.00 s | 4.00 |",
        "|  | npllm: times as fast as the first | 1.00 s | 8.00 |",
        "|  | PyTorch: times as fast as the first | 4.00 s | 2.00 |",
    ]


def test_limits_in_words():
    found = {"bandwidth": 2e10, "product_rates": {"2 × 3 × 4": 1.5e11}}
    assert report.limits_lines(found) == ["read bandwidth 20.0 GB/s", "product 2 × 3 × 4: 150 GFLOP/s"]
    assert report.limits_lines({"bandwidth": None, "product_rates": {}}) == []
