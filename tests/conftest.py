"""Settings of the suite: Hypothesis profiles, and `pytest --impl MODULE` for a learner's own implementations.

pytest                                    every test, each property on a few dozen fixed examples
pytest --hypothesis-profile=search        the same properties on thousands of random examples
pytest --hypothesis-profile=mutants       as quick, but a failure is not made smaller: that it fails is enough
pytest --impl my_module                   the tests of the functions and classes that my_module defines,
                                          run on those instead of npllm's
"""

import importlib
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("quick", max_examples=30, derandomize=True, deadline=None, suppress_health_check=SLOW_IS_FINE)
settings.register_profile("mutants", settings.get_profile("quick"), phases=[Phase.explicit, Phase.generate])
settings.register_profile("search", max_examples=3000, deadline=None, suppress_health_check=SLOW_IS_FINE)
settings.load_profile("quick")


def pytest_addoption(parser):
    """Add --impl."""
    parser.addoption("--impl", metavar="MODULE", help="run the tests of the pieces that MODULE defines on MODULE's own")


def pytest_configure(config):
    """Import the learner's module before any test is collected."""
    name = config.getoption("--impl")
    if name:
        sys.path.insert(0, str(Path.cwd()))
        try:
            module = importlib.import_module(name.removesuffix(".py"))
        except ModuleNotFoundError as error:
            raise pytest.UsageError(f"--impl {name}: {error}; it must be a module importable from here") from error
        from tests.equivalence import harness as equivalence

        equivalence.use_implementation(module)
    try:
        import torch
    except ModuleNotFoundError:
        return
    torch.set_num_threads(1)  # the tests' arrays are small: a second thread only gets in the way


def pytest_collection_modifyitems(config, items):
    """With --impl, keep the tests whose `piece` marker names something that the learner's module defines."""
    name = config.getoption("--impl")
    if not name:
        return
    module = importlib.import_module(name.removesuffix(".py"))
    known = {piece for item in items for mark in item.iter_markers("piece") for piece in mark.args}
    written = {piece for piece in known if any(hasattr(module, piece + form) for form in ("", "_forward", "_backward"))}
    if not written:
        raise pytest.UsageError(f"{name} defines none of the pieces that can be tested:\n  {', '.join(sorted(known))}")
    keep = [item for item in items if any(written & set(mark.args) for mark in item.iter_markers("piece"))]
    config.hook.pytest_deselected(items=[item for item in items if item not in keep])
    items[:] = keep


@pytest.fixture(scope="session")
def story():
    """The text that ships with the project."""
    from npllm.utils import corpora

    return corpora.read("story")
