"""Many files as one source: patterns of names, folders of planes, .npz."""

import re
import zipfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.errors import BdvError, FormatError, InvalidInputError, MissingKeyError, NotFoundError
from npy2bdv.sources import files, open_source
from npy2bdv.sources.pattern import PLACEHOLDERS, Pattern, natural

rng = np.random.default_rng(8)


def stack(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    return rng.integers(0, 250, shape or (3, 5, 7)).astype(dtype)


def write(path: Path, pixels: NDArray[Any], **how: Any) -> NDArray[Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        tifffile.imwrite(path, pixels, photometric="minisblack", **how)
    return pixels


def state(folder: Path) -> set[str]:
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*")}


# Patterns


LETTERS = "ab1_"


@st.composite
def patterns(draw: st.DrawFn) -> str:
    names = draw(st.lists(st.sampled_from(PLACEHOLDERS), min_size=1, max_size=3, unique=True))
    texts = [draw(st.text(LETTERS, max_size=2)) for _ in range(len(names) + 1)]
    assume(all(texts[1:-1]))
    return "".join(f"{text}{{{name}}}" for text, name in zip(texts, names, strict=False)) + texts[-1]


def all_readings(pattern: str, name: str) -> list[dict[str, str]]:
    """Every way to cut a name into what a pattern asks for, tried one by one."""
    head, *rest = re.split(r"\{(\w+)\}", pattern)
    if not name.startswith(head):
        return []
    found: list[tuple[dict[str, str], str]] = [({}, name[len(head) :])]
    for label, text in zip(rest[::2], rest[1::2], strict=True):
        kind = "0123456789" if label in ("time", "z") else None
        found = [
            ({**labels, label: left[:n]}, left[n + len(text) :])
            for labels, left in found
            for n in range(1, len(left) + 1)
            if left[n:].startswith(text) and (kind is None or set(left[:n]) <= set(kind))
        ]
    return [labels for labels, left in found if not left]


@given(patterns(), st.text(LETTERS, max_size=9))
def test_a_name_is_read_if_there_is_one_way_and_refused_if_there_are_several(pattern: str, name: str) -> None:
    expected = all_readings(pattern, name)
    if len(expected) > 1:
        with pytest.raises(InvalidInputError, match="can be read in several ways"):
            Pattern(pattern).match(name)
    else:
        assert Pattern(pattern).match(name) == (expected[0] if expected else None)


@given(patterns(), st.data())
def test_labels_filled_into_a_pattern_are_found_again(pattern: str, data: st.DataObject) -> None:
    labels = {
        name: str(data.draw(st.integers(0, 99)))
        if name in ("time", "z")
        else data.draw(st.text(LETTERS, min_size=1, max_size=4))
        for name in Pattern(pattern).names
    }
    name = pattern.format(**labels)
    assert labels in all_readings(pattern, name)
    try:
        assert Pattern(pattern).match(name) == labels
    except InvalidInputError:
        assert len(all_readings(pattern, name)) > 1


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a{}.tif", "in braces there may be time, z, channel"),
        ("a{camera}.tif", "in braces there may be"),
        ("a{time.tif", "in braces there may be"),
        ("a{time}}.tif", "in braces there may be"),
        ("a{time:03d}.tif", "in braces there may be"),
        ("{time}_{time}.tif", "{time} twice"),
        ("t{time}{channel}.tif", "two placeholders touch each other"),
        ("t{time}.ims", "have to be .tif, "),
    ],
)
def test_patterns_that_cannot_be(tmp_path: Path, pattern: str, message: str) -> None:
    write(tmp_path / "in" / "t0.tif", stack())
    before = state(tmp_path)
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        npy2bdv.resave(tmp_path / "in" / pattern, tmp_path / "scan.xml")
    assert state(tmp_path) == before


@given(st.lists(st.integers(0, 10**6), unique=True), st.sampled_from(["", "z", "a1_"]))
def test_names_are_sorted_by_their_numbers(numbers: list[int], before: str) -> None:
    names = [f"{before}{number}.tif" for number in numbers]
    assert sorted(names, key=natural) == [f"{before}{number}.tif" for number in sorted(numbers)]


# A file for each stack


def test_time_channel_and_tile_are_read_from_names(tmp_path: Path) -> None:
    expected = {}
    for t, c, x in product((1, 2, 10), ("GFP", "561"), (0, 3)):
        pixels = stack()
        write(tmp_path / f"t{t:0{t % 3 + 1}d}_c{c}_x{x:02d}.tif", pixels)
        expected[t, c, x] = pixels
    path = npy2bdv.resave(tmp_path / "t{time}_c{channel}_x{tile}.tif", tmp_path / "scan.xml")
    with npy2bdv.open(path) as dataset:
        assert len(dataset) == 12
        assert list(dataset.times) == list(
            range(1, 11)
        )  # gaps are missing views, and none comes before the first
        assert sorted(dataset.labels("channel").values()) == ["561", "GFP"]
        assert dataset.labels("tile") == {0: "0", 3: "3"}
        for (t, c, x), pixels in expected.items():
            np.testing.assert_array_equal(dataset.view(time=t, channel=c, tile=x)[:], pixels)


def test_angles_and_illuminations_in_names_of_folders(tmp_path: Path) -> None:
    views = {
        (a, i): write(tmp_path / f"a{a}" / f"{i}.tif", stack()) for a in (0, 45, 315) for i in ("L", "R")
    }
    write(tmp_path / "b0" / "L.tif", stack())
    path = npy2bdv.resave(f"{tmp_path}/a{{angle}}/{{illumination}}.tif", tmp_path / "scan.xml")
    with npy2bdv.open(path) as dataset:
        assert len(dataset) == 6
        for (angle, side), pixels in views.items():
            np.testing.assert_array_equal(dataset.view(angle=angle, illumination=side)[:], pixels)


def test_channels_inside_of_files_are_taken_with_their_calibration(tmp_path: Path) -> None:
    both = [stack(3, 2, 5, 7) for _ in range(2)]
    for t, pixels in enumerate(both):
        metadata = {"axes": "ZCYX", "spacing": 2.0, "unit": "um"}
        tifffile.imwrite(tmp_path / f"t{t}.tif", pixels, imagej=True, resolution=(2, 2), metadata=metadata)
    with open_source(tmp_path / "t{time}.tif") as source:
        assert [(view.time, view.channel) for view in source.views] == [
            (0, "0"),
            (0, "1"),
            (1, "0"),
            (1, "1"),
        ]
        for view in source.views:
            assert (view.voxel_size_xyz, view.unit) == ((0.5, 0.5, 2.0), "micrometer")
            np.testing.assert_array_equal(source.read(view, 1, 3), both[view.time][1:3, int(view.channel)])


def test_gaps_are_missing_views_and_what_does_not_match_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for t, c in ((0, 0), (0, 1), (1, 1), (4, 0), (4, 1)):
        write(tmp_path / f"t{t}_c{c}.npy", stack())
    (tmp_path / "t2_cx.txt").write_text("notes")
    (tmp_path / ".hidden").write_text("of the system")
    path = npy2bdv.resave(tmp_path / "t{time}_c{channel}.npy", tmp_path / "out.xml")
    with npy2bdv.open(path) as dataset:
        missing = {(0 if view.setup == 0 else 1, view.time) for view in dataset.spimdata.missing or ()}
        assert missing == {(0, 1), (0, 2), (1, 2), (0, 3), (1, 3)}
    assert "1 files do not match the pattern and are left out: t2_cx.txt." in caplog.text
    assert "1 views have no file and become missing views: time 1, channel 0, tile 0" in caplog.text
    assert "2 time points between 0 and 4 have no file at all." in caplog.text


# A file for each plane


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_planes_as_files(tmp_path: Path, suffix: str) -> None:
    pixels = stack(2, 12, 5, 7)
    for t, z in product(range(2), range(12)):
        write(tmp_path / f"t{t}_z{z}{suffix}", pixels[t, z])
    with open_source(tmp_path / f"t{{time}}_z{{z}}{suffix}") as source:
        assert [view.shape for view in source.views] == [(12, 5, 7)] * 2
        assert source.notes == ()
        for view in source.views:
            np.testing.assert_array_equal(source.read(view), pixels[view.time])
            np.testing.assert_array_equal(source.read(view, 9, 11), pixels[view.time, 9:11])


def test_a_folder_of_planes_is_a_stack(tmp_path: Path) -> None:
    pixels = stack(12, 5, 7)
    for z in range(12):
        write(tmp_path / "planes" / f"scan_{z + 1}.tif", pixels[z])
    (tmp_path / "planes" / "readme.txt").write_text("notes")
    with open_source(tmp_path / "planes", voxel_size_xyz=(1, 1, 3)) as source:
        (view,) = source.views
        np.testing.assert_array_equal(source.read(view), pixels)
        assert view.voxel_size_xyz == (1.0, 1.0, 3.0)
        assert any("from scan_1.tif to scan_12.tif" in note for note in source.notes)
        assert any("readme.txt" in note for note in source.notes)


def test_planes_that_are_absent_are_zeros_and_told(tmp_path: Path) -> None:
    """Numbers may be places of the stage: what counts is that their steps are equal."""
    pixels = stack(2, 6, 5, 7)
    for t, z in product(range(2), range(6)):
        if (t, z) != (1, 3) and z != 2:
            write(tmp_path / f"t{t}_z{1000 + 250 * z}.tif", pixels[t, z])
    pixels[1, 3] = 0
    pixels[:, 2] = 0
    with open_source(tmp_path / "t{time}_z{z}.tif") as source:
        for view in source.views:
            np.testing.assert_array_equal(source.read(view), pixels[view.time])
        assert source.notes == ("3 planes are in no file and are read as zeros.",)


def test_few_files_are_open_at_a_time(tmp_path: Path) -> None:
    for z in range(40):
        write(tmp_path / f"z{z}.tif", stack(5, 7))
    with open_source(tmp_path / "z{z}.tif") as source:
        assert isinstance(source, files.FilesSource)
        assert len(source._opened) <= 8
        source.read(source.views[0])
        assert len(source._opened) <= 8
        opened = source._opened
    assert len(opened) == 0


def test_files_are_looked_into_once_as_long_as_they_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for z in range(20):
        write(tmp_path / f"z{z}.npy", stack(5, 7))
    opened: list[Path] = []
    once = files.FilesSource._file

    def noting(self: files.FilesSource, path: Path) -> Any:
        opened.append(path)
        return once(self, path)

    monkeypatch.setattr(files.FilesSource, "_file", noting)
    for _ in range(3):
        with open_source(tmp_path / "z{z}.npy") as source:
            assert [view.shape for view in source.views] == [(20, 5, 7)]
        assert len(opened) == 20
    write(tmp_path / "z3.npy", stack(6, 7))
    with pytest.raises(InvalidInputError, match="have to be alike"):
        open_source(tmp_path / "z{z}.npy")


# Refusals


def _two(folder: Path, first: NDArray[Any], second: NDArray[Any]) -> None:
    write(folder / "t0_c0.tif", first)
    write(folder / "t1_c0.tif", second)


def _cut(folder: Path) -> None:
    _two(folder, stack(), stack())
    path = folder / "t1_c0.tif"
    path.write_bytes(path.read_bytes()[:-50])


@pytest.mark.parametrize(
    ("make", "pattern", "error", "message"),
    [
        (lambda folder: _two(folder, stack(), stack(3, 5, 8)), "t{time}_c{channel}.tif", InvalidInputError,
         "holds (3, 5, 8) pixels (z, y, x) of uint16, t0_c0.tif (3, 5, 7) of uint16; all time points"),
        (lambda folder: _two(folder, stack(), stack(dtype="uint8")), "t{time}_c{channel}.tif", InvalidInputError,
         "of uint8, t0_c0.tif (3, 5, 7) of uint16"),
        (_cut, "t{time}_c{channel}.tif", FormatError, "cut short"),
        (lambda folder: _two(folder, stack(), stack()), "t{time}_x{channel}.tif", NotFoundError,
         "matches the pattern"),
        (lambda folder: _two(folder, stack(), stack()), "{time}.tif", NotFoundError, "t0_c0.tif, t1_c0.tif"),
        (lambda folder: _two(folder, stack(), write(folder / "t01_c0.tif", stack())),
         "t{time}_c{channel}.tif", InvalidInputError, "hold the same: time 1, channel 0"),
        (lambda folder: _two(folder, stack(), stack()), "t{z}_c{channel}.tif", InvalidInputError,
         "is a stack of 3 planes, and was to be one plane"),
        (lambda folder: _two(folder, stack(), stack()), "", InvalidInputError, "was to be one plane"),
        (lambda folder: [write(folder / f"z{z}.tif", stack(5, 7)) for z in (0, 1, 10)], "z{z}.tif",
         InvalidInputError, "numbers of planes are not regular: there are 3 between 0 and 10"),
        (lambda folder: [write(folder / f"{name}.tif", stack()) for name in ("a_b_c", "a_b")],
         "{tile}_{channel}.tif", InvalidInputError, "a_b_c.tif can be read in several ways"),
        (lambda folder: [write(folder / f"a{s}", stack(5, 7)) for s in (".tif", ".npy")], "",
         InvalidInputError, "several kinds"),
        (lambda folder: tifffile.imwrite(folder / "c0.tif", stack(2, 3, 5, 7), imagej=True,
                                         metadata={"axes": "ZCYX"}),
         "c{channel}.tif", InvalidInputError, "channels itself, and its name says channel 0"),
    ],
)  # fmt: skip
def test_files_that_make_no_dataset(
    tmp_path: Path, make: Any, pattern: str, error: type[BdvError], message: str
) -> None:
    (tmp_path / "in").mkdir()
    make(tmp_path / "in")
    before = state(tmp_path)
    with pytest.raises(error, match=re.escape(message)):
        npy2bdv.resave(tmp_path / "in" / pattern if pattern else tmp_path / "in", tmp_path / "scan.xml")
    assert state(tmp_path) == before


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no folder"):
        open_source(tmp_path / "absent" / "t{time}.tif")


# .npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    ("axes", "shape"),
    [("tczyx", (2, 2, 5, 4, 6)), ("zyx", (5, 4, 6)), ("yx", (4, 6)), ("zcyx", (5, 2, 4, 6))],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz(tmp_path: Path, save: Any, axes: str, shape: tuple[int, ...], order: Any) -> None:
    pixels = np.asarray(stack(*shape), order=order)
    save(tmp_path / "a.npz", pixels)
    letters = [a for a in "tczyx" if a in axes]
    expected = pixels.transpose([axes.index(a) for a in letters])
    full = expected[tuple(slice(None) if a in letters else None for a in "tczyx")]
    with open_source(tmp_path / "a.npz", axes=axes) as source:
        for view in reversed(source.views):
            there = full[view.time, int(view.channel)]
            np.testing.assert_array_equal(source.read(view), there)
            np.testing.assert_array_equal(
                source.read(view, len(there) // 2, len(there)), there[len(there) // 2 :]
            )


def test_one_of_several_arrays_in_npz(tmp_path: Path) -> None:
    first, second = stack(), stack()
    np.savez(tmp_path / "a.npz", first=first, second=second)
    with open_source(tmp_path / "a.npz" / "second") as source:
        np.testing.assert_array_equal(source.read(source.views[0]), second)
    for name in ("a.npz", "a.npz/third"):
        with pytest.raises(
            MissingKeyError, match=r"holds the arrays first, second; give one of them: a\.npz/NAME"
        ):
            open_source(tmp_path / name)


def test_npz_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, stack())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FormatError, match=r"cannot be read as \.npz"):
        open_source(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"no array")
    with pytest.raises(FormatError, match="no array of numbers"):
        open_source(path)
    path.unlink()
