"""Growth: the slope of time over size on two logarithmic axes; 1 is linear, 2 quadratic growth."""

import numpy as np


def fit_slope(sizes, numbers):
    """The slope of ln number over ln size by least squares: number ≈ c · size^slope. None for fewer than two sizes."""
    if len(set(sizes)) < 2:
        return None
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(numbers, float))
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())


def series(jobs):
    """The rows of results.json that belong to a series, by (series, name of the size), in order of the size."""
    found = {}
    for job in jobs:
        if job.get("growth"):
            name, axis, _ = job["growth"]
            found.setdefault((name, axis), []).append(job)
    return {key: sorted(rows, key=lambda job: job["growth"][2]) for key, rows in found.items()}


def points(rows, contender, of):
    """Sizes and numbers of one contender in a series; `of(job, contender)` is None where there is no number."""
    pairs = [(job["growth"][2], of(job, contender)) for job in rows]
    pairs = [(size, number) for size, number in pairs if number]
    return [size for size, _ in pairs], [number for _, number in pairs]


def upper_half(sizes, numbers):
    """The larger half of the sizes, at least three: there the term that grows fastest decides."""
    keep = max(3, (len(sizes) + 1) // 2)
    return sizes[-keep:], numbers[-keep:]
