"""Fixtures for all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import windows_rules


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `windows_rules` explains."""
    parser.addoption(
        "--as-on-windows", action="store_true", help="let the library believe that it runs there"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Keep the rules of Windows."""
    windows_rules.install()
    if config.getoption("as_on_windows"):
        windows_rules.pretend()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Keep them in all tests but those that do what Windows does not allow."""
    windows_rules.kept = item.get_closest_marker("posix") is None
    try:
        return (yield)
    finally:
        windows_rules.kept = False


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave those out where they cannot be run."""
    pretends = item.config.getoption("as_on_windows")
    if item.get_closest_marker("posix") and (pretends or os.name == "nt"):
        pytest.skip("Windows does not allow it")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of data that nobody on the project made; looked for where NPY2BDV_REAL_DATA says, then beside."""
    places = [Path(__file__).parents[2] / "shared" / "data"]
    if named := os.environ.get("NPY2BDV_REAL_DATA"):
        places.insert(0, Path(named))
    for place in places:
        if place.is_dir():
            return place
    reason = f"no real data in {' or '.join(map(str, places))}; NPY2BDV_REAL_DATA may name their folder"
    if os.environ.get("NPY2BDV_REQUIRE_REAL_DATA") == "1":
        pytest.fail(f"{reason}; NPY2BDV_REQUIRE_REAL_DATA=1 asks for them")
    pytest.skip(reason)
