import io

import numpy as np
import pytest
from rich.console import Console

from npllm import functional as F
from npllm.cli import verify
from npllm.cli.main import main
from npllm.cli.verify import equivalence_table, show_equivalence
from tests.equivalence.cases import CASES
from tests.equivalence.published import Row as ModelRow
from tests.equivalence.verify import Row, rows


def run(some_rows):
    out = io.StringIO()
    status = show_equivalence(Console(file=out, width=120), some_rows)
    return status, out.getvalue()


@pytest.fixture(scope="module")
def all_rows():
    return list(rows())


def test_every_case_is_within_tolerance(all_rows):
    status, text = run(all_rows)
    assert status == 0
    assert f"{len(CASES)} of {len(CASES)} functions, layers and models equal PyTorch" in text
    assert [row.name for row in all_rows[::2]] == list(CASES)
    assert {row.dtype for row in all_rows} == {"float32", "float64"}


def test_float64_is_far_closer_than_float32(all_rows):
    for single, double in zip(all_rows[::2], all_rows[1::2]):
        assert double.output <= 1e-12
        assert single.output <= 1e-4


def test_a_case_out_of_tolerance_fails(monkeypatch):
    monkeypatch.setattr(F, "gelu_backward", lambda dy, cache: dy)
    status, text = run(rows({name: CASES[name] for name in ("gelu", "relu")}))
    assert status == 1
    assert "differs" in text
    assert "1 of 2 functions" in text
    assert "times the tolerance" in text


def test_a_case_that_cannot_run_becomes_a_row_with_the_error(monkeypatch):
    def broken(x):
        raise RuntimeError("cannot run")

    monkeypatch.setattr(F, "relu", broken)
    status, text = run(rows({"relu": CASES["relu"]}))
    assert status == 1
    assert "RuntimeError: cannot run" in text


def test_the_table_in_markdown():
    some_rows = [Row("softmax", "float32", 1e-7, 2e-7, 0.1), Row("softmax", "float64", 0.0, None, 2.0)]
    header, _, line = equivalence_table(some_rows).split("\n")
    assert header.startswith("| function, layer or model | float32 output |")
    assert line == "| softmax | 1.0e-07 | 2.0e-07 | 0 | – | differs |"


def test_the_command(monkeypatch, capsys):
    monkeypatch.setattr("tests.equivalence.verify.rows", lambda: [Row("relu", "float32", 0.0, 0.0, 0.0)])
    assert main(["verify"]) == 0
    assert "1 of 1 functions, layers and models equal PyTorch" in capsys.readouterr().out.replace("\n", " ")


def test_the_command_with_a_model(monkeypatch, tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    state, text = ModelRow("logits", 1e-6, 10.0, 1e-4), ModelRow("greedy text", 0, 5, 0.0, "greedy text: 'Paris'")
    monkeypatch.setattr("tests.equivalence.published.rows", lambda path: [state, text])
    assert main(["verify", "--model", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert f"2 of 2 steps of {tmp_path} equal transformers within tolerance" in printed
    assert "greedy text: 'Paris'" in printed and "1.0e-07" in printed
    different = ModelRow("logits", 1e-6, 1e-3, 1e-4)
    monkeypatch.setattr("tests.equivalence.published.rows", lambda path: [different, text])
    assert main(["verify", "--model", str(tmp_path)]) == 1
    assert "1 of 2 steps" in (printed := capsys.readouterr().out) and "different: logits" in printed


def test_an_unknown_model_is_a_sentence(capsys):
    assert main(["verify", "--model", "no-such-model"]) == 1
    assert "model is 'no-such-model', which was not found" in capsys.readouterr().err.replace("--model", "model")


@pytest.mark.parametrize("package", ["transformers", "accelerate"])
def test_without_transformers_the_error_names_the_package_to_install(monkeypatch, tmp_path, capsys, package):
    monkeypatch.setattr(verify, "find_spec", lambda name: None if name == package else name)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert main(["verify", "--model", str(tmp_path / "model.gguf")]) == 1
    error = capsys.readouterr().err
    assert f"npllm verify needs {package}, which is not installed. In " in error and 'pip install -e ".[test]"' in error


def test_without_torch_the_error_names_the_package_to_install(monkeypatch, capsys):
    monkeypatch.setattr(verify, "find_spec", lambda name: None)
    assert main(["verify"]) == 1
    error = capsys.readouterr().err
    assert "npllm verify needs PyTorch, which is not installed. In " in error
    assert 'pip install -e ".[test]" -c .ci/constraints.txt' in error


def test_without_a_checkout_the_error_names_the_remedy(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(verify, "ROOT", tmp_path)
    assert main(["verify"]) == 1
    error = capsys.readouterr().err
    assert "npllm verify needs a checkout of npllm" in error
    assert 'pip install -e ".[test]" -c .ci/constraints.txt' in error


def test_a_row_is_ok_within_tolerance_only():
    assert Row("x", "float32", 0.0, None, 1.0).ok
    assert not Row("x", "float32", 0.0, None, 1.01).ok
    assert not Row("x", "float32", 0.0, None, np.nan).ok
    assert not Row("x", "float32", 0.0, None, 0.0, "broken").ok
