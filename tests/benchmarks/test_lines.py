"""The profile by line, with a clock that counts its readings, and its table."""

import json

from benchmarks import lines


def example(n):
    """Three statements, one of which is run n times, and one of which spans three lines."""
    total = 0
    for i in range(n):
        total = max(
            total + i,
            0,
        )
    return total


def test_every_statement_has_a_line():
    found = lines.profile(example, 4, repeats=2)
    assert [line.text for line in found] == ["total = 0", "total = max(", "return total"]
    assert all(line.seconds > 0 for line in found)


def test_the_repeated_statement_takes_longest():
    clock = iter(range(10**6))
    found = lines.profile(example, 50, repeats=1, clock=lambda: float(next(clock)))
    assert max(found, key=lambda line: line.seconds).text == "total = max("


def test_the_command_prints_and_writes(tmp_path, capsys, monkeypatch):
    small = lines.profiles(1, 8, 16, 2, repeats=1)
    monkeypatch.setattr(lines, "profiles", lambda length, repeats: small)
    assert lines.main(["--json", str(tmp_path / "lines.json"), "--length", "8"]) == 0
    out = capsys.readouterr().out
    assert "exponentials = np.exp(scores)" in out and "hidden = h @ p[" in out
    content = json.loads((tmp_path / "lines.json").read_text())
    text = lines.markdown(content)
    assert text.count("| all | ") == 4 and "| `exponentials = np.exp(scores)` | " in text
