"""`plan`: a recording that is laid out before it is made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

import npy2bdv
from npy2bdv.cli import main
from npy2bdv.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TILE: dict[str, Any] = {"shape": (100, 2048, 1024), "voxel_size_xyz": (0.4, 0.4, 2.0), "unit": "um"}
PLACES = list(npy2bdv.grid(3, 2, shape=TILE["shape"], voxel_size_xyz=TILE["voxel_size_xyz"]))


def tiles(move: Callable[[float, float, float], tuple[float, float, float]]) -> list[dict[str, Any]]:
    return [{**TILE, "tile": n, "stage_position_xyz": move(*place)} for n, place in enumerate(PLACES)]


def stay(x: float, y: float, z: float) -> tuple[float, float, float]:
    return x, y, z


def test_overlaps_bytes_and_time() -> None:
    plan = npy2bdv.plan(tiles(stay), times=3, rate=40)
    assert plan.warnings == ()
    assert {(each.first, each.second): each.axis for each in plan.neighbours} == {
        (0, 1): "x", (1, 2): "x", (5, 4): "x", (4, 3): "x", (0, 5): "y", (1, 4): "y", (2, 3): "y",
    }  # fmt: skip
    for each in plan.neighbours:
        assert each.percent == pytest.approx(10)
        assert each.pixels == pytest.approx(102.4 if each.axis == "x" else 204.8)
        assert each.length == pytest.approx(0.4 * each.pixels)
    assert plan.nbytes == 3 * 6 * 100 * 2048 * 1024 * 2
    assert plan.nbytes_by_format["hdf5"] == plan.nbytes
    assert plan.seconds == 3 * 600 / 40
    assert npy2bdv.plan(tiles(stay), rate="40 frames/s").seconds == 15
    assert "overlaps along x: 10.0 to 10.0 percent\n" in str(plan)
    assert str(plan).endswith("takes 45.0 s at this rate")
    assert npy2bdv.plan(tiles(stay), rate="100 MB/s").seconds == pytest.approx(25.165824)
    np.testing.assert_allclose(plan.box.size_xyz, (0.4 * 1024 * 2.8, 0.4 * 2048 * 1.9, 200))


def test_channels_are_no_neighbours() -> None:
    both = [{**setup, "channel": channel} for channel in ("488", "561") for setup in tiles(stay)]
    plan = npy2bdv.plan(both)
    assert len(plan.neighbours) == 14
    assert plan.warnings == ()


@pytest.mark.parametrize("levels", [((1, 1, 1),), ((1, 1, 1), (1, 2, 2), (2, 4, 4))])
def test_bytes_are_those_of_the_file(tmp_path: Path, levels: Any) -> None:
    shape = (10, 300, 270)
    plan = npy2bdv.plan([{"shape": shape}], levels=levels)
    with npy2bdv.create(tmp_path / "scan.xml", levels=levels) as writer:
        writer.write(np.ones(shape, "uint16"), setup=writer.add_setup(shape=shape))
    with h5py.File(tmp_path / "scan.h5") as file:
        stored = sum(file[f"t00000/s00/{k}/cells"].id.get_storage_size() for k in range(len(levels)))
    assert plan.nbytes_by_format["hdf5"] == stored


@pytest.mark.parametrize(
    ("move", "said"),
    [
        (lambda x, y, z: (y, x, z), "x and y of the positions look swapped"),
        (lambda x, y, z: (x / 1000, y / 1000, z), "Say so by stage_unit='mm'"),
        (lambda x, y, z: (x * 1000, y * 1000, z), "more than 20 times their size away"),
        (lambda x, y, z: (1.2 * x, y, z), "there is a gap: '0' and '1' (-82 pixels along x)"),
        (lambda x, y, z: (x / 0.9, y, z), "overlap by less than 1 percent"),
        (lambda x, y, z: (x / 2, y, z), "overlap by more than 50 percent"),
        (lambda x, y, z: (1, 2, 3), "5 tiles lie exactly on another one: '0' and '1'"),
        (lambda x, y, z: (-x, y, z), "the first tile lies at the high end of x"),
        (lambda x, y, z: (x, y, 1e4 if (x, y) == (0, 0) else z), "1 tiles have no neighbour in a row with them: '0'"),
    ],
)  # fmt: skip
def test_what_looks_wrong_is_said(move: Any, said: str) -> None:
    warnings = npy2bdv.plan(tiles(move)).warnings
    assert any(said in warning for warning in warnings), warnings


def test_the_layout_is_that_of_the_dataset(tmp_path: Path) -> None:
    """Boxes of a plan are those of the dataset that is then written."""
    setups: list[dict[str, Any]] = [
        {
            "shape": (5, 20, 30), "voxel_size_xyz": (0.5, 0.4, 2), "tile": n, "stage_position_xyz": place,
            "flip_xyz": (True, False, False), "camera_rotation": 10,
        }
        for n, place in enumerate([(0, 0, 0), (13, 0, 0)])
    ]  # fmt: skip
    plan = npy2bdv.plan(setups)
    with npy2bdv.create(tmp_path / "scan.xml") as writer:
        for setup in setups:
            writer.write(np.ones((5, 20, 30), "uint16"), setup=writer.add_setup(**setup))
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        for view, planned in zip(dataset, plan.setups, strict=True):
            np.testing.assert_allclose(np.array(view.bounding_box()) * 0.4, planned.box, atol=1e-9)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"setups": []}, "no setup to plan"),
        ({"setups": [TILE], "times": 0}, "times=0 cannot be"),
        ({"setups": [TILE], "rate": "fast"}, "'40 frames/s' or '800 MB/s'"),
        ({"setups": [TILE], "rate": -3}, "frames per second"),
        ({"setups": [TILE], "rate": 800e6}, "for bytes per second give '800 MB/s'"),
        ({"setups": [TILE, {"shape": (1, 2)}]}, "setup 1 of the plan: a stack has three sizes"),
        ({"setups": [{**TILE, "colour": 3}]}, "setup 0 of the plan: .*colour"),
        ({"setups": [{"shape": (None, 20, 30)}]}, "has no number of planes"),
    ],
)
def test_plans_that_cannot_be(terms: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        npy2bdv.plan(**terms)


# -- the command -----------------------------------------------------------------------------------------------


def table(path: Path, text: str) -> str:
    path.write_text(text, "utf-8")
    return str(path)


SIZES = ["--shape", "100,2048,1024", "--voxel-size", "0.4,0.4,2", "--unit", "um"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"{x / 1000},{y / 1000},{z},tile {n}" for n, (x, y, z) in enumerate(PLACES)]
    positions = table(tmp_path / "a.csv", "\n".join(["x [mm],y [mm],z [mm],tile", *lines, ""]))
    picture = tmp_path / "layout.png"
    arguments = ["plan", positions, *SIZES, "--rate", "40", "-o", str(picture), "--disk", str(tmp_path)]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "tile 0, tile 1" in shown
    assert "2.5 GB of pixels" in shown
    assert "takes 0:00:15.0 at this rate" in shown
    assert "free on the disk" in shown
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main([*arguments, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["unit"] == "um"
    assert facts["setups"][1]["stage_position_xyz"] == pytest.approx(PLACES[1])
    assert facts["neighbours"][0]["percent"] == pytest.approx(10)


def test_the_command_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    positions = table(tmp_path / "a.csv", "x;y\n0;0\n0.3;0\n0.6;0\n")
    assert main(["plan", positions, *SIZES]) == 2
    assert "warning: all tiles lie on top of each other" in capsys.readouterr().out
    assert (
        main(["plan", positions, *SIZES, "--stage-unit", "mm", "--times", "1000000", "--disk", str(tmp_path)])
        == 2
    )
    assert "free, and the recording takes up to" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: there are no columns x and y; found nothing"),
        ("x,z\n1,2\n", "no columns x and y; found x, z"),
        ("x,y\n", "no line below its header"),
        ("x,y,colour\n1,2,3\n", "line 1: the column 'colour' is not known"),
        ("x,y\n1,2\n\n3,far\n", "line 4: 'far' is no number"),
        ("x,y\n1,2\n3\n", "line 3: 1 values, but 2 columns"),
        ("x [um],y [mm]\n1,2\n", "several units (mm, um)"),
        ("x [ells],y [ells]\n1,2\n", "the unit 'ells' is not known"),
        ("x,y,voxel_x\n1,2,3\n", "line 2: voxel_x without the rest"),
        ("x,y,x_um\n1,2,3\n", "the column 'x' is there twice"),
    ],
)
def test_tables_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    assert main(["plan", table(tmp_path / "a.csv", text), *SIZES, "-o", str(tmp_path / "a.png")]) == 1
    assert message in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]


def test_what_the_command_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    positions = table(tmp_path / "a.csv", "x,y\n1,2\n")
    for arguments, message in (
        ([positions], "give --shape Z,Y,X"),
        ([positions, "--shape", "1,2,3"], "give --voxel-size X,Y,Z"),
        ([positions, *SIZES, "--flip", "w"], "--flip 'w' is not known"),
        ([positions, *SIZES, "-o", "layout.doc"], "give NAME.png, NAME.svg, NAME.pdf"),
        ([str(tmp_path / "none.csv"), *SIZES], "does not exist"),
    ):
        assert main(["plan", *arguments]) == 1
        assert message in capsys.readouterr().err
