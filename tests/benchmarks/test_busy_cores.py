import json

import numpy as np

from benchmarks import busy_cores
from npllm.core import matrix_product


def test_the_forms_compute_the_same_product(monkeypatch):
    results = []
    monkeypatch.setattr(matrix_product, "MIN_OPERATIONS", 0.0)
    original = np.matmul

    def recorded(a, b, out=None):
        results.append(original(a, b, out=out))
        return results[-1]

    monkeypatch.setattr(np, "matmul", recorded)
    for form in busy_cores.forms((33, 40, 20)).values():
        form()
    one, blas, *pieces = results
    np.testing.assert_array_equal(one, blas)
    assert len(pieces) == 2
    np.testing.assert_allclose(np.concatenate(pieces), one, rtol=1e-5, atol=1e-5)


def test_the_table_of_a_measurement(tmp_path, monkeypatch, capsys):
    measure = busy_cores.measure
    monkeypatch.setattr(busy_cores, "measure", lambda rounds: measure(rounds, shape=(8, 8, 8), busy_processes=(0, 1)))
    assert busy_cores.main(["--rounds", "2", "--json", str(tmp_path / "busy.json")]) == 0
    assert "softmax directly after" in capsys.readouterr().out
    content = json.loads((tmp_path / "busy.json").read_text())
    assert set(content["products"]) == {"0", "1"}
    names, rows = busy_cores.rows(content)
    assert names == ["one thread", "BLAS's threads", "pieces (npllm)"]
    assert [row[0] for row in rows] == [
        "product, 0 other processes compute",
        "product, 1 other processes compute",
        "softmax directly after the product",
    ]
    assert all(len(row) == 4 for row in rows)
