import json

import pytest

from npllm.training.log import StepLog


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))


def test_an_incomplete_last_line_is_dropped(tmp_path):
    log = StepLog(tmp_path / "log", 0)
    for step in range(5):
        log.add({"step": step, "loss": float(step)})
    with open(tmp_path / "log", "a") as file:
        file.write('{"step": 5, "lo')
    opened = StepLog(tmp_path / "log", 9)
    assert ([r["step"] for r in opened.records], opened.problem) == ([0, 1, 2, 3, 4], None)
    again = StepLog(tmp_path / "log", 3)
    assert [r["step"] for r in again.records] == [0, 1, 2]
    again.add({"step": 3, "loss": 9.0})
    assert again.recent_loss(2) == 5.5
    assert len((tmp_path / "log").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    "line",
    [
        "", "3", "[]", "{", "{}", '{"step": 1}', '{"step": "1", "loss": 1.0}', '{"step": 1, "loss": NaN}',
        '{"step": 1, "loss": null}', '{"step": 0, "loss": 1.0}', '{"step": true, "loss": 1.0}', "[" * 9999,
        '{"step": 1, "loss": 1.0, "tokens_per_second": 0}', '{"step": 1, "loss": 1.0, "sample": 3}',
    ],
)  # fmt: skip
def test_a_damaged_line_is_left_out_and_the_damaged_log_is_kept(tmp_path, line):
    good = [json.dumps({"step": step, "loss": 1.0}) for step in (0, 2)]
    write(tmp_path / "log.jsonl", good[0], line, good[1])
    log = StepLog(tmp_path / "log.jsonl", 9)
    assert [record["step"] for record in log.records] == [0, 2]
    assert "log.jsonl: line 2 " in log.problem
    assert log.problem.endswith("1 of 3 lines were left out; the damaged log is log.damaged.jsonl")
    assert (tmp_path / "log.damaged.jsonl").read_text().splitlines() == [good[0], line, good[1]]
    assert StepLog(tmp_path / "log.jsonl", 9).problem is None
