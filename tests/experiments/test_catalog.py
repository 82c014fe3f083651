import json
import math
from dataclasses import asdict

import pytest

from npllm.experiments import catalog, figure, results_file
from npllm.experiments.experiment import SCALES


@pytest.fixture(scope="module", params=catalog.NAMES)
def run(request):
    experiment = catalog.load(request.param)
    return experiment, experiment.run("miniature")


def test_the_experiment_reads_as_its_method_section(run):
    experiment, _ = run
    assert tuple(experiment.scales) == SCALES
    for text in (experiment.claim, experiment.question, experiment.setting, experiment.measure, experiment.rule):
        assert len(text) > 20 and text[0].isupper() and text[-1] in ".?"
    assert all(experiment.scales[scale].num_seeds >= 3 for scale in ("default", "full"))


def test_rows_are_numbers_and_the_same_in_every_run(run):
    experiment, results = run
    scale = experiment.scales["miniature"]
    for row, again in zip(experiment.rows(scale, 0), experiment.rows(scale, 0), strict=True):
        assert row.keys() == again.keys()
        for column, value in row.items():
            if column.endswith("peak bytes"):  # the interpreter's own objects are counted with the arrays
                assert again[column] == pytest.approx(value, rel=0.05)
            elif not column.endswith("seconds"):  # a time is never the same
                assert again[column] == value, column
    for row in results.rows:
        assert all(not isinstance(value, float) or math.isfinite(value) for value in row.values()), row
    assert len(results.table()) == len({tuple(row[key] for key in experiment.keys) for row in results.rows})


def test_the_verdict_follows_and_is_written(run, tmp_path):
    experiment, results = run
    verdict = experiment.judge(results)
    assert verdict.outcome in ("supported", "not supported", "depends")
    assert "nan" not in verdict.because and len(verdict.because) > 20
    path = tmp_path / "results.json"
    results_file.write(path, results_file.as_content(experiment, "miniature", results, verdict, 1.0))
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["verdict"] == asdict(verdict)
    assert content["seeds"] == results.distinct("seed")
    assert len(content["table"]) == len(results.table())


def test_the_figure_has_a_line_for_each_series(run):
    experiment, results = run
    axes = [axis for axis in figure.draw(experiment, results).axes if axis.get_visible()]
    assert len(axes) >= len(experiment.plots)
    for axis in axes:
        assert axis.get_xlabel() and axis.get_ylabel()
        assert len(axis.get_legend().get_texts()) == len(results.distinct(experiment.plots[0].series))


def test_shipped_results_belong_to_the_experiment(run):
    experiment, _ = run
    content = results_file.shipped(experiment.name)
    if content is None:
        pytest.skip("no full run ships with the project")
    assert content["scale"] == "full"
    assert (content["claim"], content["rule"]) == (experiment.claim, experiment.rule)
    assert content["settings"] == json.loads(json.dumps(asdict(experiment.scales["full"])))
    from npllm.experiments.experiment import Results

    assert asdict(experiment.judge(Results(experiment.keys, content["rows"]))) == content["verdict"]


def test_unknown_names():
    with pytest.raises(ValueError, match="there is no experiment 'x'; there are"):
        catalog.load("x")
