import pytest
from rich.console import Console

from npllm import attention
from npllm.cli.attention import measure, show_family
from npllm.cli.main import main
from npllm.experiments.attention_variants import FORMS


def remembered(name, lengths=(64, 512)):
    """Bytes a token after both lengths."""
    return measure(next(form for form in FORMS if form.name == name), lengths)[1]


def test_what_each_remembers_by_hand():
    keys_and_values = 2 * 768 * 4
    assert remembered("multi-head") == [keys_and_values] * 2
    assert remembered("grouped-query, 4 key heads") == [keys_and_values / 3] * 2
    assert remembered("multi-query") == [keys_and_values / 12] * 2
    assert remembered("latent of 128") == [(128 + 32) * 4] * 2
    assert remembered("window of 256, 4 sinks") == [keys_and_values, keys_and_values * (255 + 4) / 512]
    assert remembered("linear, parallel") == [12 * 64 * 65 * 4 / length for length in (64, 512)]
    assert remembered("delta rule, chunks of 32") == [12 * 64 * 64 * 4 / length for length in (64, 512)]


def test_parameters():
    assert measure(FORMS[0], (16,))[0] == 4 * 768 * 768


def test_every_form_and_part_is_there():
    layers = {form.layer for form in FORMS}
    for name in ("ShawAttention", "DifferentialAttention", "MultiHeadLatentAttention", "LinearAttention",
                 "DeltaNet"):  # fmt: skip
        assert getattr(attention, name) in layers
    assert {form.part for form in FORMS} - {None} == set(attention.PARTS) - {"blocks"}, "a pattern of blocks is given"
    for form in FORMS:
        assert len(form.idea) > 10
        assert form.file.endswith(".py")


@pytest.mark.parametrize("readme", [False, True])
def test_command(tmp_path, readme, capsys, monkeypatch):
    monkeypatch.setattr("npllm.cli.attention.LENGTHS", (8, 16))
    monkeypatch.setattr(measure, "__defaults__", ((8, 16),))
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- family -->\n<!-- /family -->\nafter\n")
    if readme:
        assert show_family(Console(), path) == 0
    else:
        assert main(["attention"]) == 0
    out = capsys.readouterr().out
    for form in FORMS:
        assert form.name.split()[0] in out
    assert path.read_text().count("\n| ") == (len(FORMS) + 2 if readme else 0)
