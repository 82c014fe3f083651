from benchmarks import plots
from benchmarks.report import read_json, write_json
from tests.benchmarks.test_report import MACHINE, MEASUREMENTS, SETTINGS, STEP, quadratic


def test_the_plots_are_svg_and_reproducible(tmp_path):
    write_json(tmp_path / "results.json", MACHINE, SETTINGS, [STEP, *map(quadratic, (1, 2, 4))])
    content = read_json(tmp_path / "results.json")
    assert plots.draw_all(tmp_path, content) == ["ratios.svg", "growth.svg", "shares.svg"]
    first = {name: (tmp_path / name).read_bytes() for name in ("ratios.svg", "growth.svg", "shares.svg")}
    assert all(b"<svg" in text for text in first.values())
    assert b"slope 2.00" in first["growth.svg"]
    plots.draw_all(tmp_path, content)
    assert first == {name: (tmp_path / name).read_bytes() for name in first}


def test_only_what_has_data_is_drawn(tmp_path):
    write_json(tmp_path / "results.json", MACHINE, SETTINGS, MEASUREMENTS)
    assert plots.draw_all(tmp_path, read_json(tmp_path / "results.json")) == []
