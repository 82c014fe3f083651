import pytest

from npllm import attention
from npllm.cli.main import main
from npllm.experiments.attention_variants import VARIANTS, measure_cache


def bytes_per_token(name, lengths=(64, 512)):
    """After both lengths."""
    return measure_cache(next(variant for variant in VARIANTS if variant.name == name), lengths)[1]


def test_cache_sizes_by_hand():
    keys_and_values = 2 * 768 * 4
    assert bytes_per_token("multi-head") == [keys_and_values] * 2
    assert bytes_per_token("grouped-query, 4 key heads") == [keys_and_values / 3] * 2
    assert bytes_per_token("multi-query") == [keys_and_values / 12] * 2
    assert bytes_per_token("MLA, latent of 128") == [(128 + 32) * 4] * 2
    assert bytes_per_token("window of 256, 4 sinks") == [keys_and_values, keys_and_values * (255 + 4) / 512]
    assert bytes_per_token("linear, parallel") == [12 * 64 * 65 * 4 / length for length in (64, 512)]
    assert bytes_per_token("delta rule, chunks of 32") == [12 * 64 * 64 * 4 / length for length in (64, 512)]


def test_number_of_parameters():
    assert measure_cache(VARIANTS[0], (16,))[0] == 4 * 768 * 768


@pytest.mark.parametrize(
    "name", ["ShawAttention", "DifferentialAttention", "MultiHeadLatentAttention", "LinearAttention", "DeltaNet"]
)
def test_every_layer_is_a_variant(name):
    assert any(isinstance(variant.build(8), getattr(attention, name)) for variant in VARIANTS)


def test_the_command_prints_a_row_for_every_variant(capsys, monkeypatch):
    monkeypatch.setattr("npllm.cli.attention.LENGTHS", (8, 16))
    assert main(["attention"]) == 0
    out = capsys.readouterr().out
    for variant in VARIANTS:
        assert variant.name.split()[0] in out
