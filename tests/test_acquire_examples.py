"""The examples for acquisition programs run, and record what they say."""

import subprocess
import sys
from pathlib import Path

import npy2bdv

EXAMPLES = Path(__file__).parents[1] / "examples" / "acquire"


def test_micro_manager(tmp_path: Path) -> None:
    """A sequence of pymmcore-plus: 2 time points, 2 positions, 5 planes; the camera shows the number of the frame."""
    command = [sys.executable, str(EXAMPLES / "micro_manager.py"), str(tmp_path / "scan.xml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        found = [(view.id.time, view.attributes["tile"], view[:, 0, 0].tolist()) for view in dataset]
        assert found == [
            (time, str(tile), list(range(start, start + 5)))
            for time, tile, start in ((0, 0, 0), (0, 1, 5), (1, 0, 10), (1, 1, 15))
        ]
        places = [dataset.view(time=1, tile=tile).stage_position_xyz for tile in (0, 1)]
        assert places == [(0.0, 0.0, 96.0), (80.0, 0.0, 96.0)]
