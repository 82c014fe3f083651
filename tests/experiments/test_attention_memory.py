import numpy as np
import pytest

from npllm.attention.paths import attention_path
from npllm.experiments.attention_memory import EXPERIMENT, forward_and_backward, judge, peak_bytes
from npllm.experiments.experiment import Results


def test_the_plain_form_keeps_the_weights_and_the_tiles_do_not():
    kept = {}
    for length in (256, 512):
        arrays = np.random.default_rng(0).standard_normal((4, 1, 2, length, 16), dtype=np.float32)
        weights = 4 * 2 * length * length
        with attention_path("plain"):
            assert forward_and_backward(*arrays).nbytes >= arrays[:3].nbytes + weights
            assert peak_bytes(arrays) >= weights
        with attention_path("tiled"):
            kept[length] = forward_and_backward(*arrays).nbytes - arrays[:3].nbytes
        assert kept[length] < weights / 4
    assert kept[512] == 2 * kept[256]


@pytest.mark.parametrize(
    ("plain", "tiled", "outcome"),
    [(2.0, 1.0, "supported"), (2.0, 1.4, "depends"), (2.0, 2.0, "not supported")],
)
def test_the_rule(plain, tiled, outcome):
    rows = [
        {"seed": seed, "path": path, "T": T, "peak bytes": T**power + seed, "kept bytes": 1, "seconds": T}
        for seed in range(3)
        for path, power in (("plain", plain), ("tiled", tiled))
        for T in (256, 1024)
    ]
    assert judge(Results(EXPERIMENT.keys, rows)).outcome == outcome
