"""What has been found equal to PyTorch since the program started, for the last line that the suite prints."""

_equal = set()  # ("function", "softmax", "float32"), ("layer", "Linear", "float64"), ("model", "GPT", "float32"), …


def add(kind, name, dtype):
    """Note that a function, layer or model equals its reference in this dtype."""
    _equal.add((kind, name, str(dtype)))


def everything():
    """All that has been noted, as a sorted list of (kind, name, dtype)."""
    return sorted(_equal)


def summary(equal):
    """One sentence on a list of (kind, name, dtype): how many of each kind are equal in both dtypes."""
    equal = {tuple(item) for item in equal}
    both = {(kind, name) for kind, name, _ in equal if {(kind, name, d) for d in ("float32", "float64")} <= equal}
    counts = [(sum(found == kind for found, _ in both), kind) for kind in ("function", "layer", "model")]
    parts = [f"{number} {kind}{'s' if number != 1 else ''}" for number, kind in counts if number]
    if not parts:
        return ""
    named = " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    verb = "equals" if len(both) == 1 else "equal"
    return f"{named} {verb} PyTorch (value, gradients, dtype) in float32 and float64"
