"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of data that nobody on the project made; see CONTRIBUTING for where it is looked for."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("NPY2BDV_REAL_DATA") or beside)
    if not folder.is_dir():
        reason = f"no real data: NPY2BDV_REAL_DATA names no folder, and there is none at {beside}"
        if os.environ.get("NPY2BDV_REQUIRE_REAL_DATA") == "1":
            pytest.fail(f"{reason}; NPY2BDV_REQUIRE_REAL_DATA=1 asks for it")
        pytest.skip(reason)
    return folder
