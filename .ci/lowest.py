"""Print the lowest versions that pyproject.toml allows, as constraints for pip: those that CI tests, too.

python .ci/lowest.py [EXTRA ...] > lowest.txt
python -m pip install --constraint lowest.txt ".[zarr,lazy]"
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
REQUIREMENT = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?\s*>=\s*([0-9][0-9a-z.]*)")


def lowest(*extras: str) -> list[str]:
    """Return `name==version` for what the package needs, and for those of these extras (all, if none is named)."""
    project = tomllib.loads(PROJECT.read_text("utf-8"))["project"]
    optional = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(each for name in extras or optional for each in optional[name])]
    found = [REQUIREMENT.match(each) for each in wanted]
    return sorted({f"{match[1].lower()}=={match[2]}" for match in found if match})


if __name__ == "__main__":
    print(*lowest(*sys.argv[1:]), sep="\n")
