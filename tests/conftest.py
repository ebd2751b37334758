"""Shared fixtures, and what a run may decide: the long tests and the effort of the property tests."""

import os
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests import KERNEL_CACHE, workers

ROOT = Path(__file__).resolve().parent.parent
LONGEST = ("bench", "chaos", "live", "sim", "tour")

# Compiled and plain kernels take very different times, so that no deadline for an example fits both. The `ci` profile
# is the same run every time; `long` looks further, and a failure prints the blob that repeats it.
hypothesis.settings.register_profile(
    "ci", derandomize=True, print_blob=True, deadline=None, max_examples=50, database=None
)
hypothesis.settings.register_profile("long", print_blob=True, deadline=None, max_examples=2_000, database=None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-long", action="store_true", help="run the tests marked `long` too, and look further")


def pytest_configure(config: pytest.Config) -> None:
    assert os.environ["NUMBA_CACHE_DIR"] == str(KERNEL_CACHE), "the kernel cache is configured before numba is imported"
    hypothesis.settings.load_profile("long" if config.getoption("--run-long") else "ci")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Who runs what, where nothing else is asked for."""
    return workers.by_folder(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    """Give each worker a kernel cache of its own."""
    terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
    homes = workers.cache_homes([spec.id for spec in specs], KERNEL_CACHE.name, terminal.write_line)
    for spec in specs:
        spec.env["XDG_CACHE_HOME"] = str(homes[spec.id])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # So that in the end no worker is left alone with what takes long.
    items.sort(key=lambda item: item.path.parent.name not in LONGEST)
    if config.getoption("--run-long"):
        return
    long_items = [item for item in items if item.get_closest_marker("long")]
    if long_items:
        config.hook.pytest_deselected(items=long_items)
        items[:] = [item for item in items if not item.get_closest_marker("long")]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the recordings and vectors that are shared beside the repository; tests skip where it is absent."""
    shared = Path(os.environ.get("CAMBIST_SHARED") or ROOT.parent / "shared")
    if not (shared / "data").is_dir():
        pytest.skip(f"no recordings in {shared}: name the folder that holds `data` with CAMBIST_SHARED")
    return shared
