"""Settings of the suite: Hypothesis profiles, and `pytest --impl MODULE` for your own implementations.

pytest                                    every test, each property on a few dozen fixed examples
pytest -n auto                            the same on all cores
pytest --hypothesis-profile=search        the same properties on thousands of random examples
pytest --hypothesis-profile=mutants       as quick, and a failing example is not made smaller
pytest --impl my_module                   the tests of the functions and classes that my_module defines,
                                          run on those instead of npllm's
"""

import importlib
import os
import sys
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # one worker a core: further threads would compete with the other workers
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, Phase, settings

SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("quick", max_examples=30, derandomize=True, deadline=None, suppress_health_check=SLOW_IS_FINE)
settings.register_profile("mutants", settings.get_profile("quick"), phases=[Phase.explicit, Phase.generate])
settings.register_profile("search", max_examples=3000, deadline=None, suppress_health_check=SLOW_IS_FINE)
settings.load_profile("quick")

FORMS = ("", "_forward", "_backward")


def pytest_addoption(parser):
    """Add --impl."""
    parser.addoption("--impl", metavar="MODULE", help="test the functions and classes of MODULE instead of npllm's")


def pytest_configure(config):
    """Import the module given to --impl before any test is collected."""
    name = config.getoption("--impl")
    if name:
        sys.path.insert(0, str(Path.cwd()))
        try:
            module = importlib.import_module(name.removesuffix(".py"))
        except ModuleNotFoundError as error:
            raise pytest.UsageError(f"--impl {name}: {error}; it must be a module importable from here") from error
        from tests.equivalence.lookup import set_candidate

        set_candidate(module)
    try:
        import torch
    except ModuleNotFoundError:
        return
    torch.set_num_threads(1)  # the arrays of the tests are small: a second thread makes them slower


def pytest_collection_modifyitems(config, items):
    """With --impl, keep the tests whose `covers` marker names something that the module defines."""
    name = config.getoption("--impl")
    if not name:
        return
    module = importlib.import_module(name.removesuffix(".py"))
    known = {covered for item in items for mark in item.iter_markers("covers") for covered in mark.args}
    written = {covered for covered in known if any(hasattr(module, covered + form) for form in FORMS)}
    if not written:
        raise pytest.UsageError(
            f"{name} defines none of the functions and classes that can be tested:\n  {', '.join(sorted(known))}"
        )
    keep = [item for item in items if any(written & set(mark.args) for mark in item.iter_markers("covers"))]
    config.hook.pytest_deselected(items=[item for item in items if item not in keep])
    items[:] = keep


def pytest_sessionfinish(session):
    """In an xdist worker: send what has been found equal to PyTorch to the main process."""
    record = sys.modules.get("tests.equivalence.record")
    if record is not None and hasattr(session.config, "workeroutput"):
        session.config.workeroutput["equal"] = record.everything()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """In the main process of xdist: take what a worker has found equal."""
    from tests.equivalence import record

    for kind, name, dtype in getattr(node, "workeroutput", {}).get("equal", []):
        record.add(kind, name, dtype)


def pytest_terminal_summary(terminalreporter, exitstatus):
    """After a run in which all tests passed: say in one line what it proved."""
    record = sys.modules.get("tests.equivalence.record")
    summary = record.summary(record.everything()) if record is not None else ""
    if exitstatus == 0 and summary:
        passed = len(terminalreporter.stats.get("passed", []))
        terminalreporter.write_line(f"{passed:,} tests: {summary}", green=True)


@pytest.fixture(scope="session")
def story():
    """The text that ships with the project."""
    from npllm.utils import corpora

    return corpora.read("story")
