"""Results with chosen means and a little spread over the seeds, to apply judges to."""

from npllm.experiments.experiment import Results


def made_up(keys, quantities, *rows, num_seeds=4):
    """Each row has the values of the keys and then of the quantities; seed s adds s · 0.1% to a quantity."""
    return Results(
        keys,
        [
            {"seed": seed}
            | dict(zip(keys, row))
            | {name: value * (1 + 0.001 * seed) for name, value in zip(quantities, row[len(keys) :])}
            for seed in range(num_seeds)
            for row in rows
        ],
    )
