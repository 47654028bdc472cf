"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest


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
