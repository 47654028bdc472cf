"""Flips, bins, levels, chunks and compression in place, alone and together; and the record of a pending edit."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.derived import Stored, derived
from npy2bdv.downsample import downsample
from npy2bdv.errors import FormatError, InvalidInputError, WriteError
from npy2bdv.model.pixeledits import Bin, Crop, Flip, PixelEdit, bin_of, crop_of, flip_of
from npy2bdv.storage.pending import Change, NewFile, PendingEdit, finish_or_undo, pending, record_path
from npy2bdv.storage.redo import PAGE, RedoFile

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = (9, 14, 11)


class Memory:
    """A stored level that lies in memory."""

    chunk = (4, 8, 8)

    def __init__(self, pixels: NDArray[Any]) -> None:
        self.pixels = pixels
        self.shape, self.dtype = pixels.shape, pixels.dtype

    def read(self, region: tuple[slice, slice, slice]) -> NDArray[Any]:
        return self.pixels[region]


def by_numpy(pixels: NDArray[Any], edit: PixelEdit) -> NDArray[Any]:
    if isinstance(edit, Crop):
        return pixels[tuple(map(slice, edit.start, edit.stop))]
    return downsample(pixels, edit.factors) if isinstance(edit, Bin) else np.flip(pixels, edit.number)


@st.composite
def edits(draw: st.DrawFn) -> list[PixelEdit]:
    found: list[PixelEdit] = []
    shape = SHAPE
    for kind in draw(st.lists(st.sampled_from("cfb"), min_size=1, max_size=4)):
        edit: PixelEdit
        if kind == "c":
            starts = [draw(st.integers(0, size - 1)) for size in shape]
            ranges = [
                (start, draw(st.integers(start + 1, size))) for start, size in zip(starts, shape, strict=True)
            ]
            edit = crop_of(ranges, shape)
        elif kind == "f":
            edit = flip_of(draw(st.sampled_from("xyz")))
        else:
            edit = bin_of([draw(st.integers(1, 3)) for _ in range(3)])
        found.append(edit)
        shape = edit.shape_after(shape)
    return found


@settings(max_examples=150, deadline=None)
@given(edits(), st.data())
def test_any_region_of_edited_images_equals_numpy(made: list[PixelEdit], data: st.DataObject) -> None:
    pixels = np.random.default_rng(0).integers(0, 60_000, SHAPE).astype("uint16")
    image = derived(Stored(Memory(pixels)), made)
    expected = pixels
    for edit in made:
        expected = by_numpy(expected, edit)
    assert image.shape == expected.shape
    bounds = [sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n)))) for n in expected.shape]
    z, y, x = (
        slice(a, max(b, a + 1) if a < n else b) for (a, b), n in zip(bounds, expected.shape, strict=True)
    )
    if all(part.start < part.stop for part in (z, y, x)):
        np.testing.assert_array_equal(image.read((z, y, x)), expected[z, y, x])


@settings(max_examples=100, deadline=None)
@given(edits())
def test_transforms_say_where_pixels_come_from(made: list[PixelEdit]) -> None:
    # an image whose pixels say where they lie: a linear ramp stays one under all edits but at repeated edges
    shape = SHAPE
    place = np.stack(np.meshgrid(*(np.arange(n, dtype=float) for n in shape[::-1]), indexing="ij"), -1)
    total = npy2bdv.Affine.identity()
    ramps = [place[..., axis].T for axis in range(3)]
    whole = True
    for edit in made:
        total = total @ edit.transform(shape)
        whole &= not isinstance(edit, Bin) or all(
            n % f == 0 for n, f in zip(shape, edit.factors, strict=True)
        )
        ramps = [by_numpy(ramp, edit) for ramp in ramps]
        shape = edit.shape_after(shape)
    if whole:
        indices = np.indices(shape).reshape(3, -1)[::-1].T
        np.testing.assert_allclose(total.apply(indices), np.stack([ramp.ravel() for ramp in ramps], -1))


@given(st.lists(st.booleans(), min_size=9, max_size=9), edits())
def test_missing_planes_follow(flags: list[bool], made: list[PixelEdit]) -> None:
    missing = np.array(flags)
    ranges = [(z, z + 1) for z in range(9) if flags[z]]
    shape, depth_runs = SHAPE, ranges
    expected = missing
    for edit in made:
        if isinstance(edit, Crop):
            expected = expected[edit.start[0] : edit.stop[0]]
        elif isinstance(edit, Flip):
            expected = expected[::-1] if edit.axis == "z" else expected
        else:
            factor = edit.factors[0]
            expected = np.array([expected[z : z + factor].all() for z in range(0, len(expected), factor)])
        edges = np.flatnonzero(np.diff(expected, prepend=False, append=False))
        merged = _merged(edit.planes(_merged(depth_runs), shape[0]))
        assert merged == list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
        depth_runs, shape = merged, edit.shape_after(shape)


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, stop in ranges:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found


# ---------------------------------------------------------------------------------------------- datasets

FORMATS: dict[str, dict[str, Any]] = {
    "HDF5": {"format": "hdf5", "compression": "gzip"},
    "N5": {"format": "n5"},
    "Zarr 2": {"format": "omezarr"},
    "Zarr 3": {"format": "omezarr", "zarr_version": 3},
}


@pytest.fixture
def pixels() -> NDArray[np.uint16]:
    return np.random.default_rng(1).integers(0, 60_000, SHAPE).astype("uint16")


@pytest.fixture(params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path: Path, pixels: NDArray[np.uint16]) -> Path:
    path = tmp_path / "scan.xml"
    with npy2bdv.create(
        path, levels=((1, 1, 1), (1, 2, 2)), chunks=(4, 8, 8), **FORMATS[request.param]
    ) as writer:
        writer.write(pixels, setup=writer.add_setup(shape=SHAPE, voxel_size_xyz=(0.3, 0.5, 2)))
    return path


def test_edits_together_are_written_once(path: Path, pixels: NDArray[np.uint16]) -> None:
    with npy2bdv.edit(path) as editor:
        editor.bin((1, 2, 3))
        editor.flip("z")
        editor.crop(zyx=((1, None), (0, -1), None))
        written = editor.preview().pixel_nbytes
        editor.set_levels(((1, 1, 1), (2, 2, 2), (4, 4, 4)))
        editor.rechunk((2, 4, 4))
        editor.recompress(None)
    expected = downsample(pixels, (1, 2, 3))[::-1][1:, :-1]
    assert written < 2 * expected.nbytes
    with npy2bdv.open(path) as dataset:
        view = dataset.view()
        assert view.voxel_size_xyz == (0.3 * 3, 1.0, 2.0)
        assert [each.name for each in view.transforms] == ["calibration", "bin", "flip z", "crop"]
        assert view.n_levels == 3
        assert view.chunks == (2, 4, 4)
        for level in view.levels():
            z, y, x = (int(factor) for factor in level.factors)
            assert level.factors == (2**level.index,) * 3
            assert level.compression == "none"
            np.testing.assert_array_equal(level[...], downsample(expected, (z, y, x)))


def test_levels_as_proposed(path: Path, pixels: NDArray[np.uint16]) -> None:
    with npy2bdv.edit(path) as editor:
        editor.set_levels("auto")
    with npy2bdv.open(path) as dataset:
        assert dataset.view().n_levels == 1  # small enough
        np.testing.assert_array_equal(dataset.view()[...], pixels)


def test_bad_values_are_refused(path: Path) -> None:
    with npy2bdv.edit(path) as editor:
        bad: list[tuple[Callable[[], None], str]] = [
            (lambda: editor.bin((0, 1, 1)), "at least 1"),
            (lambda: editor.bin((1, 2)), "three integers"),
            (lambda: editor.flip("t"), "no axis 't'"),  # type: ignore[arg-type]
            (lambda: editor.set_levels(((1, 2, 2),)), "put it first"),
            (lambda: editor.set_levels("many"), "not known"),
            (lambda: editor.rechunk(((1, 2, 2), (1, 2, 2), (1, 2, 2))), "2 levels need as many"),
            (lambda: editor.recompress("paq"), "not known"),
        ]
        for edit, message in bad:
            with pytest.raises(InvalidInputError, match=message):
                edit()
        assert not editor.changed


def test_pixels_in_another_folder_and_split_ones_are_refused(real_data: Path, tmp_path: Path) -> None:
    shutil.copytree(real_data / "bigstitcher", tmp_path / "xml")
    with (
        npy2bdv.edit(tmp_path / "xml" / "bigstitcher_0.xml") as editor,
        pytest.raises((FormatError, OSError)),
    ):
        editor.flip("x")


# --------------------------------------------------------------------------------------------- the record


def test_a_redo_file_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    old = np.random.default_rng(0).bytes(3 * PAGE + 100)
    path.write_bytes(old)
    file = RedoFile(path, tmp_path / "spill")
    expected = bytearray(old)
    for place, data in (
        (10, b"abc"),
        (PAGE - 2, b"12345"),
        (len(old) - 3, b"over the end"),
        (len(old) + 50, b"far"),
    ):
        file.seek(place)
        file.write(data)
        expected.extend(bytes(max(0, place + len(data) - len(expected))))
        expected[place : place + len(data)] = data
    file.seek(0)
    assert file.read(len(expected) + 10) == expected
    assert path.read_bytes()[: len(old)] == old
    pages = list(file.pages())
    size = file.size
    file.close()
    with path.open("r+b") as opened:
        for place, page in pages:
            opened.seek(place)
            opened.write(page)
        opened.truncate(size)
    assert path.read_bytes() == expected


def test_many_pages_are_spilled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npy2bdv.storage.redo._PAGES_IN_MEMORY", 2)
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(10 * PAGE + 5))
    file = RedoFile(path, tmp_path / "spill")
    file.write(b"x" * (10 * PAGE + 5))
    assert (tmp_path / "spill").is_file()
    assert b"".join(page for _, page in file.pages()) == b"x" * (10 * PAGE + 5)
    file.close()
    assert not (tmp_path / "spill").exists()
    assert path.read_bytes() == bytes(10 * PAGE + 5)


def test_a_record_that_leads_outside_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "data"
    inside.mkdir()
    pixels = inside / "a.h5"
    pixels.write_bytes(b"pixels")
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    edit = PendingEdit(pixels, inside, size=6)
    with pytest.raises(InvalidInputError, match="outside of the dataset's folder"):
        edit.commit(Change(removed=(victim,)))
    edit.undo()
    assert pending(pixels) == ""
    edit = PendingEdit(pixels, inside, size=6)
    edit.commit(Change(removed=(inside / "victim",)))
    # a forged record
    text = record_path(pixels).read_bytes()
    forged = tmp_path / "forged" / "a.h5"
    forged.parent.mkdir()
    forged.write_bytes(b"pixels")
    record_path(forged).write_bytes(text)
    (forged.parent / "victim").symlink_to(victim)
    with pytest.raises(InvalidInputError, match="outside"):
        finish_or_undo(forged)
    assert victim.read_bytes() == b"mine"


def test_an_edit_begins_only_when_the_last_has_ended(tmp_path: Path) -> None:
    pixels = tmp_path / "a.h5"
    pixels.write_bytes(b"pixels")
    first = PendingEdit(pixels, tmp_path, size=6)
    with pytest.raises(WriteError, match="interrupted"):
        PendingEdit(pixels, tmp_path, size=6)
    first.commit(Change(files=(NewFile(path=tmp_path / "a.xml", content=b"new", backup=True),)), size=6)
    assert pending(pixels) == "committed"
    assert finish_or_undo(pixels) == "finished"
    assert (tmp_path / "a.xml").read_bytes() == b"new"
    assert finish_or_undo(pixels) == ""


def test_open_says_that_an_edit_was_interrupted(
    path: Path, pixels: NDArray[np.uint16], caplog: pytest.LogCaptureFixture
) -> None:
    with npy2bdv.open(path) as dataset:
        place = dataset.container.path
    edit = PendingEdit(place, path.parent, size=place.stat().st_size if place.is_file() else None)
    edit._journal.close(remove=False)
    with npy2bdv.open(path) as dataset:
        assert "before it happened" in caplog.text
        assert f"npy2bdv recover {path}" in caplog.text
        np.testing.assert_array_equal(dataset.view()[...], pixels)
    with npy2bdv.edit(path) as editor:
        assert "has been undone" in caplog.text
        editor.flip("x")
    with npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view()[...], pixels[..., ::-1])


def test_partitions_get_new_images_in_the_master(tmp_path: Path, pixels: NDArray[np.uint16]) -> None:
    path = tmp_path / "scan.xml"
    with npy2bdv.create(path, format="hdf5") as writer:
        writer.write(pixels, setup=writer.add_setup(shape=SHAPE))
    (tmp_path / "scan.h5").rename(tmp_path / "part.h5")
    with h5py.File(tmp_path / "part.h5") as part, h5py.File(tmp_path / "scan.h5", "w") as master:
        part.copy("s00", master)
        master["t00000/s00/0/cells"] = h5py.ExternalLink("part.h5", "t00000/s00/0/cells")
    text = path.read_text("utf-8")
    partition = (
        '<partition><path type="relative">part.h5</path><timepoints>0</timepoints>'
        "<setups>7 0</setups><setupsMapped>1 0</setupsMapped></partition>"
    )
    path.write_text(text.replace("</hdf5>", f"</hdf5>{partition}"), "utf-8")
    before = (tmp_path / "part.h5").read_bytes()
    with npy2bdv.edit(path) as editor:
        editor.crop(zyx=(None, None, (2, None)))
    with npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view()[...], pixels[..., 2:])
    assert (tmp_path / "part.h5").read_bytes() == before
    (kept,) = ElementTree.parse(path).getroot().iter("partition")
    assert (kept.findtext("setups"), kept.findtext("setupsMapped")) == ("7", "1")


def test_blocks_larger_than_the_image_are_refused(tmp_path: Path, pixels: NDArray[np.uint16]) -> None:
    path = tmp_path / "scan.xml"
    with npy2bdv.create(path) as writer:
        writer.write(pixels, setup=writer.add_setup(shape=SHAPE))
    with npy2bdv.edit(path) as editor:
        with pytest.raises(InvalidInputError, match="are larger than the images of setup 0"):
            editor.bin((SHAPE[0] + 1, 1, 1))
        assert not editor.changed


def test_a_partition_that_is_not_there_is_refused(tmp_path: Path, pixels: NDArray[np.uint16]) -> None:
    path = tmp_path / "scan.xml"
    with npy2bdv.create(path, format="hdf5") as writer:
        writer.write(pixels, setup=writer.add_setup(shape=SHAPE))
    with h5py.File(tmp_path / "scan.h5", "r+") as master:
        del master["t00000/s00/0/cells"]
        master["t00000/s00/0/cells"] = h5py.ExternalLink("part.h5", "t00000/s00/0/cells")
    with (
        npy2bdv.edit(path) as editor,
        pytest.raises(InvalidInputError, match=r"part\.h5, which is not there"),
    ):
        editor.crop(zyx=(None, None, (2, None)))


def test_what_another_program_added_is_not_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(1000)
    edit = PendingEdit(path, tmp_path, size=path.stat().st_size)
    with path.open("ab") as opened:
        opened.write(b"what the edit wrote")
    with h5py.File(path, "r+") as file:
        file["b"] = np.arange(5000)
    size = path.stat().st_size
    edit.undo()
    assert "changed by another program" in caplog.text
    assert path.stat().st_size == size
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["b"][()], np.arange(5000))


def test_a_dataset_that_is_replaced_takes_the_record_with_it(path: Path, pixels: NDArray[np.uint16]) -> None:
    with npy2bdv.open(path) as dataset:
        place, card = dataset.container.path, dataset.container.card
    edit = PendingEdit(place, path.parent, size=1 if place.is_file() else None)
    edit._journal.close(remove=False)
    with npy2bdv.create(path, format=card.name, zarr_version=card.zarr_version, overwrite=True) as writer:
        writer.write(pixels, setup=writer.add_setup(shape=SHAPE))
    assert not record_path(place).exists()
