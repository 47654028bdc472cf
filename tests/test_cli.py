"""The command, as people type it."""

import importlib
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest

import npy2bdv
from npy2bdv.cli import main
from npy2bdv.sample import Recording

STACK = np.arange(3 * 12 * 15, dtype="uint16").reshape(3, 12, 15)


class Result(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def small_recording(monkeypatch: pytest.MonkeyPatch) -> Recording:
    """Let the demo record small tiles."""
    monkeypatch.setattr("npy2bdv.sample.Recording", partial(Recording, shape=(6, 40, 48)))
    return Recording(shape=(6, 40, 48))


class Run:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *argv: str | Path) -> Result:
        try:
            status = main([str(each) for each in argv])
        except SystemExit as refused:  # how cyclopts refuses arguments
            status = int(refused.code or 0)
        return Result(status, *self._capsys.readouterr())


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


@pytest.fixture
def npy(tmp_path: Path) -> Path:
    np.save(tmp_path / "stack.npy", STACK)
    return tmp_path / "stack.npy"


# -- the command itself ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "program", [[sys.executable, "-m", "npy2bdv"], [str(Path(sys.executable).with_name("npy2bdv"))]]
)
def test_both_ways_to_start_it(program: list[str]) -> None:
    if program[0] != sys.executable and not any(Path(program[0]).parent.glob("npy2bdv*")):
        pytest.skip("npy2bdv is not installed as a command in this environment")
    done = subprocess.run([*program, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == f"npy2bdv {npy2bdv.__version__}"
    failed = subprocess.run(
        [*program, "info", "nix.xml"], capture_output=True, text=True, timeout=60, check=False
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith(
        "npy2bdv: there is no XML nix.xml; a dataset is opened by its XML: check "
    )
    assert failed.stderr.count("\n") == 1


def test_help_lists_the_commands_and_their_options(run: Run) -> None:
    shown = run("--help")
    assert shown.status == 0
    for text in ("demo", "convert", "info", "--version", "--debug"):
        assert text in shown.out
    shown = run("convert", "--help")
    for text in (
        "SOURCE",
        "OUT",
        "--levels",
        "--chunks",
        "--compression",
        "--axes",
        "--voxel-size",
        "--unit",
    ):
        assert text in shown.out
    assert "--no-overwrite" not in shown.out


def test_unknown_commands_and_options_are_refused(run: Run, tmp_path: Path) -> None:
    for argv in (["convolve"], ["convert", "a.tif"], ["info", "--what", "a.xml"]):
        assert run(*argv).status != 0
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="there is no XML"):
        run("info", "nix.xml", "--debug")
    monkeypatch.setenv("NPY2BDV_DEBUG", "1")
    with pytest.raises(FileNotFoundError, match="there is no XML"):
        run("info", "nix.xml")


def test_ctrl_c_is_one_line(run: Run, npy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("npy2bdv.reading.Reading.planes", interrupted)
    assert run("convert", npy, tmp_path / "out.xml") == (130, "", "npy2bdv: interrupted\n")
    assert list(tmp_path.iterdir()) == [npy]


def test_errors_of_the_system_are_one_line(run: Run, npy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importlib.import_module("npy2bdv.resave"), "resave", full)
    assert run("convert", npy, "out.xml") == (1, "", "npy2bdv: [Errno 28] No space left on device\n")


# -- convert ---------------------------------------------------------------------------------------------


def test_convert_with_all_options(run: Run, tmp_path: Path) -> None:
    stack = np.stack([STACK, STACK + 1])
    np.save(tmp_path / "two.npy", stack)
    out = tmp_path / "o u t.xml"
    options = (
        "--levels", "1,1,1 1,2,3", "--chunks", "2,8,8 3,4,4", "--compression", "gzip:3", "--axes", "czyx",
        "--voxel-size", "0.5,0.25,2", "--unit", "nm",
    )  # fmt: skip
    shown = run("convert", tmp_path / "two.npy", out, *options)
    assert (shown.status, shown.err) == (0, "")
    assert str(out) in shown.out
    assert "Plugins > BigDataViewer > Open XML/HDF5" in shown.out
    assert "Views: 2; time points: 1; setups: 2; channels: 2 (0, 1)\n" in shown.out
    assert "Size z,y,x: 3,12,15; voxel size x,y,z: 0.5,0.25,2 nanometer\n" in shown.out
    assert "gzip 3" in run("info", out).out
    with npy2bdv.open(out) as dataset:
        view = dataset.view(channel=1)
        np.testing.assert_array_equal(view[...], STACK + 1)
        assert (view.voxel_size_xyz, view.unit) == ((0.5, 0.25, 2), "nanometer")
        assert [level.factors for level in view.levels()] == [(1, 1, 1), (1, 2, 3)]
        assert [level.chunks for level in view.levels()] == [(2, 8, 8), (3, 4, 4)]
    with h5py.File(out.with_suffix(".h5")) as file:
        assert file["t00000/s01/1/cells"].compression_opts == 3
    refused = run("convert", tmp_path / "two.npy", out, "--axes", "czyx")
    assert refused.status == 1
    assert "already exists" in refused.err
    assert "--overwrite" in refused.err
    four_axes = run("convert", tmp_path / "two.npy", tmp_path / "other.xml")
    assert "pass --axes czyx or --axes tzyx" in four_axes.err
    assert run("convert", tmp_path / "two.npy", out, "--axes", "czyx", "--overwrite").status == 0


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--levels", "1,1", "--levels '1,1' is not understood; write integers z,y,x"),
        ("--levels", "many", "write integers z,y,x"),
        ("--levels", "", "write integers z,y,x"),
        ("--levels", "1,1,1 0,2,2", "at least 1"),
        ("--chunks", "4,a,256", "--chunks '4,a,256' is not understood"),
        ("--voxel-size", "0.4", "write three numbers x,y,z"),
        ("--voxel-size", "0.4,0.4,nan", "three finite sizes above 0"),
        ("--compression", "zip", "compression 'zip' is not known"),
        ("--compression", "gzip:x", "write none, gzip, gzip:6 or lzf"),
        ("--compression", "gzip:12", "gzip has the levels 0 to 9"),
        ("--axes", "zy", "names 2 axes, the array has 3"),
    ],
)
def test_convert_refuses(run: Run, npy: Path, tmp_path: Path, option: str, value: str, message: str) -> None:
    shown = run("convert", npy, tmp_path / "out.xml", option, value)
    assert (shown.status, shown.out) == (1, "")
    assert message in shown.err
    assert shown.err.startswith("npy2bdv: ")
    assert shown.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [npy]


@pytest.mark.parametrize(
    ("out", "options", "where"),
    [
        ("b.n5", [], "Plugins > BigDataViewer > Open XML/HDF5"),
        ("b.zarr", [], "Plugins > BigStitcher."),
        ("b.xml", ["--zarr-version", "3"], "Plugins > BigStitcher, version 3.0 or later"),
    ],
)
def test_convert_says_where_it_opens(
    run: Run, npy: Path, tmp_path: Path, out: str, options: list[str], where: str
) -> None:
    shown = run("convert", str(npy), str(tmp_path / out), *options)
    assert shown.status == 0, shown.err
    assert f"Open it in Fiji: {where}" in shown.out
    assert run("info", str(tmp_path / "b.xml")).status == 0


def test_convert_by_workers_with_all_that_it_takes(run: Run, tmp_path: Path) -> None:
    array = np.arange(2 * 2 * 8 * 9 * 10).reshape(2, 2, 8, 9, 10).astype("uint16")
    np.save(tmp_path / "a.npy", array)
    words = (
        tmp_path / "a.npy", tmp_path / "a.xml", "--time", "1", "--channel", "1",
        "--crop", "2:-1,:,1:9",
        "--dtype", "uint8", "--casting", "scale", "--value-range", "0,2879", "--partition", "1,1",
        "--max-memory", "1000000",
    )  # fmt: skip
    dry = run("convert", *words, "--dry-run")
    assert (dry.status, dry.err) == (0, "")
    assert "Views: 1; format: hdf5, none\nTasks: 1; files of pixels: 2\nRead: 0.0 MB" in dry.out
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
    shown = run("resave", *words)
    assert (shown.status, shown.err) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-00-00.h5", "a.h5", "a.npy", "a.xml"]
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        expected = np.rint(array[1, 1, 2:-1, :, 1:9] / 2879 * 255).astype("uint8")
        np.testing.assert_array_equal(dataset.view(time=1)[...], expected)
    again = run(
        "convert", tmp_path / "a.xml", tmp_path / "b.n5", "--channel", "1", "--workers", "2", "--resume"
    )
    assert again.status == 0, again.err
    with npy2bdv.open(tmp_path / "b.xml") as dataset:
        np.testing.assert_array_equal(dataset.view(time=1)[...], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--crop", "1,2,3"], "--crop '1,2,3' is not understood; write START:STOP of z,y,x"),
        (["--partition", "1"], "--partition '1' is not understood; write two numbers"),
        (["--format", "n5", "--partition", "1,1"], "is for HDF5"),
        (["--dtype", "uint8", "--casting", "wrap"], "there are 'refuse', 'clip' and 'scale'"),
        (["--casting", "clip"], "give --dtype"),
        (["--workers", "0"], "--workers 0 cannot be"),
        (["--dask", "nix"], "addresses of a scheduler of dask"),
        (["--channel", "7"], "channel='7' selects nothing"),
        (["--skip-zeros"], "--skip-zeros is for the formats"),
    ],
)
def test_convert_refuses_what_cannot_be(
    run: Run, npy: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    shown = run("convert", npy, tmp_path / "out.xml", *options)
    assert (shown.status, shown.out) == (1, "")
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [npy]


def test_progress_elsewhere_than_on_a_terminal_is_lines(
    npy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from npy2bdv.cli import progress

    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    with progress.Bar() as bar:
        npy2bdv.resave(npy, tmp_path / "a.xml", progress=bar)
    assert capsys.readouterr().err.startswith("npy2bdv: views 1/1, 0 of 0 MB, ")


def test_a_warning_is_one_line(npy: Path, tmp_path: Path) -> None:
    """In a process of its own: here warnings are errors."""
    words = ["convert", str(npy), str(tmp_path / "b.n5"), "--compression", "zstd"]
    done = subprocess.run(
        [sys.executable, "-m", "npy2bdv", *words], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("npy2bdv: compression 'zstd' in N5 is read by BigStitcher and tensorstore")


def test_convert_names_options_of_the_command(run: Run, npy: Path, tmp_path: Path) -> None:
    refused = run("convert", npy, tmp_path / "scan.xml", "--format", "n5", "--zarr-version", "3")
    assert "--zarr-version 3 is for the format 'omezarr'" in refused.err


def test_convert_says_that_the_voxel_size_is_unknown(run: Run, npy: Path, tmp_path: Path) -> None:
    assert "unknown; give --voxel-size x,y,z" in run("convert", npy, tmp_path / "out.xml").out


# -- demo ------------------------------------------------------------------------------------------------


def test_demo(run: Run, tmp_path: Path, small_recording: Recording) -> None:
    folder = tmp_path / "new" / "folder"
    shown = run("demo", folder)
    assert (shown.status, shown.err) == (0, "")
    assert {path.name for path in folder.iterdir()} == {"demo.xml", "demo.h5"}
    for text in (
        "15",
        "1,2,2",
        "MB/s",
        "every pixel",
        "time 1, channel 561, tile 3",
        "Open XML/HDF5",
        "BigStitcher",
    ):
        assert text in shown.out
    views = list(small_recording.views())
    assert len(views) == 15
    with h5py.File(folder / "demo.h5") as file, npy2bdv.open(folder / "demo.xml") as dataset:
        assert dataset.missing_views == ((1, 7),)
        for each in views:
            view = dataset.view(time=each.time, channel=each.channel, tile=each.tile)
            stored = file[f"t{each.time:05d}/s{view.id.setup:02d}/0/cells"]
            np.testing.assert_array_equal(stored[()].view("uint16"), each.stack)
            # neighbours overlap in the world as they do in the scene: in pixels along x and y
            assert view.transform.translation_xyz == tuple(map(float, each.tile_origin_xyz))
            np.testing.assert_allclose(np.asarray(view.transform)[:, :3], np.diag([1, 1, 3]), rtol=1e-12)


def test_demo_replaces_its_own_dataset_only(run: Run, tmp_path: Path, small_recording: Recording) -> None:
    assert run("demo", tmp_path).status == 0
    assert run("demo", tmp_path).status == 0
    assert {path.name for path in tmp_path.iterdir()} == {"demo.xml", "demo.h5"}

    npy2bdv.resave(STACK, tmp_path / "demo.xml", overwrite=True)
    before = (tmp_path / "demo.h5").read_bytes()
    refused = run("demo", tmp_path)
    assert refused.status == 1
    assert "is there already and not of this demo; give another folder" in refused.err
    (tmp_path / "demo.xml").unlink()
    assert run("demo", tmp_path).status == 1
    assert (tmp_path / "demo.h5").read_bytes() == before


def test_demo_finds_a_wrong_pixel(
    run: Run, tmp_path: Path, small_recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    from npy2bdv.dataset import Level

    read = Level.__getitem__

    def changed(self: Level, index: slice) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
        pixels = read(self, index)
        if (self.index, self.view.id) == (2, (1, 5)):
            pixels[0, 0, 0] ^= 1
        return pixels

    monkeypatch.setattr(Level, "__getitem__", changed)
    shown = run("demo", tmp_path)
    assert shown.status == 1
    assert "is not what was written" in shown.err


# -- info ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 120 setups at three times, none of which was recorded at the second."""
    path = tmp_path_factory.mktemp("scan") / "scan.xml"
    with npy2bdv.create(
        path, levels=((1, 1, 1), (1, 2, 2)), microscope="mesoSPIM", user="Ann [lab]"
    ) as writer:
        for tile in range(60):
            for channel in ("488", "561"):
                setup = writer.add_setup(
                    shape=STACK.shape,
                    channel=channel,
                    tile=f"tile {tile}",
                    voxel_size_xyz=(0.4, 0.4, 1.2),
                    camera="Flash4",
                    exposure_time=12.5,
                    exposure_unit="ms",
                )
                for time in (0, 2) if setup != 119 else (2,):
                    writer.write(STACK, setup=setup, time=time)
    return path


@pytest.fixture
def scan(recorded: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(recorded.parent, tmp_path / "scan")
    return tmp_path / "scan" / recorded.name


def test_info(run: Run, scan: Path) -> None:
    shown = run("info", scan)
    assert (shown.status, shown.err) == (0, "")
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["time", "points", "3:", "0", "to", "2"] in lines
    assert ["setups", "120:", "0", "to", "119"] in lines
    assert ["views", "239"] in lines
    assert ["microscope", "mesoSPIM,", "version", "0.0"] in lines
    assert ["user", "Ann", "[lab]"] in lines
    assert ["camera", "Flash4,", "12.5", "ms"] in lines
    assert ["voxel", "x,y,z", "0.4,0.4,1.2", "micrometer"] in lines
    assert ["pixels", "uint16"] in lines
    assert ["39", "setup", "39", "561", "tile", "19", "2"] in lines
    assert "... and 80 more; --all lists them" in shown.out
    assert "121: time 0 of setup 119, time 1 of setup 0," in shown.out
    assert ["1", "1,2,2", "3,6,8"] in [line[:3] for line in lines]
    assert ["0", "0", "3", "0"] in lines  # the calibration's last row
    assert len(lines) < 80


def test_info_all(run: Run, scan: Path) -> None:
    lines = [line.split() for line in run("info", scan.with_suffix(".h5"), "--all").out.splitlines()]
    assert ["119", "setup", "119", "561", "tile", "59", "1"] in lines


def test_info_of_other_formats_shows_what_the_xml_says(run: Run, scan: Path) -> None:
    text = scan.read_text("utf-8")
    text = (
        text.replace('format="bdv.hdf5"', 'format="bdv.ims"')
        .replace("hdf5 type", "ims type")
        .replace("/hdf5", "/ims")
    )
    other = scan.with_name("other.xml")
    other.write_text(text, "utf-8")
    shown = run("info", other)
    assert (shown.status, shown.err) == (0, "")
    for expected in (
        "bdv.ims (cannot be read by this version)",
        "120: 0 to 119",
        "tile 19",
        "3,12,15",
        "calibration",
    ):
        assert expected in shown.out


def test_info_without_pixels_shows_the_xml_then_the_error(run: Run, scan: Path) -> None:
    scan.with_suffix(".h5").unlink()
    shown = run("info", scan)
    assert shown.status == 1
    assert "120: 0 to 119" in shown.out
    assert "bdv.hdf5 (which cannot be opened, see below)" in shown.out
    assert "which is not there" in shown.err


def test_info_of_views_with_different_images(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mixed.xml"
    with npy2bdv.create(path) as writer:
        for number, dtype in enumerate(("uint8", "float32")):
            shape = (3, 4, 5 + number)
            setup = writer.add_setup(shape=shape, dtype=dtype, tile=number)
            writer.write(np.zeros(shape, dtype), setup=setup)
    shown = run("info", path).out
    assert "Levels of setup 0 " in shown
    assert "Levels of setup 1 " in shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["1", "setup", "1", "1", "3,4,6", "float32"] in lines
    # without compression whole blocks are stored, which are four planes deep
    assert ["80", "bytes", "for", "60", "bytes,", "raw"] in [line[-6:] for line in lines]


def test_info_shows_where_tiles_lie(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "tiles.xml"
    with npy2bdv.create(path) as writer:
        for tile in range(2):
            place = npy2bdv.Affine.translation((13.5 * tile, 0, 0))
            writer.write(STACK, setup=writer.add_setup(shape=STACK.shape, tile=tile, transform=place))
    shown = run("info", path).out
    assert "position x,y,z" in shown
    assert "13.5,0,0" in shown


def test_info_tells_of_a_recording_that_was_interrupted(run: Run, scan: Path) -> None:
    scan.with_name("scan.h5.journal").write_bytes(b"left by a kill")
    assert f"npy2bdv recover {scan}" in run("info", scan).out
