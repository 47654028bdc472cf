"""Writing through `create`: setups, labels, transforms, XML, backups, what is left after an error."""

import shutil
import threading
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import npy2bdv
from npy2bdv import location, xml
from npy2bdv.downsample import downsample
from npy2bdv.errors import ExistsError, InvalidInputError, MissingKeyError, WriteError
from npy2bdv.model.affine import Affine
from npy2bdv.model.spimdata import Camera, Hdf5Loader, PathRef, SpimData, ViewId, ViewTransform
from npy2bdv.npy2bdv import BdvWriter
from npy2bdv.storage.hdf5level import Hdf5Level

SHAPE = (4, 5, 6)
STACK = np.arange(120, dtype="uint16").reshape(SHAPE)
SHIFT = Affine.translation((10.0, -2.5, 0.125))


def described(path: Path) -> SpimData:
    return xml.parse(path.read_bytes())


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# ---------------------------------------------------------------------------------------- labels and ids


def test_labels_are_given_ids_and_ids_are_their_own_labels(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        given: list[tuple[int | str, int | str]] = [
            ("488", "left"),
            ("561", "left"),
            (" 488 ", 1),
            (5, "left"),
            ("5", 1),
        ]
        for channel, tile in given:
            writer.write(STACK, setup=writer.add_setup(shape=SHAPE, channel=channel, tile=tile))
    data = described(tmp_path / "a.xml")
    used = [(s.attributes["channel"], s.attributes["tile"]) for s in data.setups.values()]
    assert used == [(0, 0), (1, 0), (0, 1), (5, 0), (5, 1)]
    labels = {name: {e.id: e.name for e in g.entities.values()} for name, g in data.attributes.items()}
    assert labels == {
        "illumination": {0: "0"},
        "channel": {0: "488", 1: "561", 5: "5"},
        "angle": {0: "0"},
        "tile": {0: "left", 1: "1"},
    }


def test_labels_that_are_set_afterwards(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        writer.write(STACK, setup=writer.add_setup(shape=SHAPE, channel=0))
        writer.set_labels("channel", {0: "GFP", 3: "RFP"})
        with pytest.raises(InvalidInputError, match="cannot be written as XML"):
            writer.set_labels("channel", {0: "\x00"})
        writer.save()
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert dataset.labels("channel") == {0: "GFP", 3: "RFP"}
        assert dataset.view(channel="GFP").id == ViewId(0, 0)


def test_further_attributes_come_in_the_order_given(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        for well in ("B2", "A1"):
            setup = writer.add_setup(shape=SHAPE, attributes={"well": well, "embryo": 3, "drug": "none"})
            writer.write(STACK, setup=setup)
    data = described(tmp_path / "a.xml")
    assert list(data.attributes) == ["illumination", "channel", "angle", "tile", "well", "embryo", "drug"]
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert dataset.view(well="A1", embryo=3).id.setup == 1


def test_next_free_id_follows_the_highest(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        assert writer.add_setup(shape=SHAPE, channel=0, id=1) == 1
        assert writer.add_setup(shape=SHAPE, channel=1) == 2
        assert writer.add_setup(shape=SHAPE, channel=2, id=0) == 0
        assert writer.add_setup(shape=SHAPE, channel=3) == 3


def test_metadata_of_setup_and_dataset(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml", microscope="M", microscope_version="2", user="ü") as writer:
        setup = writer.add_setup(
            shape=SHAPE,
            name="my <setup>",
            unit="µm",
            voxel_size_xyz=(0.1, 0.2, 0.3),
            camera="C",
            exposure_time=1e-300,
            exposure_unit="ms",
        )
        writer.write(STACK, setup=setup)
    data = described(tmp_path / "a.xml")
    value = data.setups[0]
    assert (value.name, value.size_xyz) == ("my <setup>", (6, 5, 4))
    assert value.voxel_size is not None
    assert (value.voxel_size.size_xyz, value.voxel_size.unit) == ((0.1, 0.2, 0.3), "µm")
    assert value.camera == Camera(name="C", exposure_time=1e-300, exposure_unit="ms")
    assert data.generated_by is not None
    assert (data.generated_by.microscope, data.generated_by.microscope_version, data.generated_by.user) == (
        "M",
        "2",
        "ü",
    )
    assert data.generated_by.library_version == npy2bdv.__version__
    assert data.loader == Hdf5Loader(path=PathRef(text="a.h5"))


# -------------------------------------------------------------------------------------------- transforms


def test_transforms_per_view_and_time(tmp_path: Path) -> None:
    named = (
        ViewTransform(affine=SHIFT, name="drift"),
        ViewTransform(affine=Affine.scale((1, 2, 3)), name="s"),
    )
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        setup = writer.add_setup(shape=SHAPE, transform=SHIFT, voxel_size_xyz=(1, 1, 2))
        bare = writer.add_setup(shape=SHAPE, channel=1, calibration=None, voxel_size_xyz=(1, 1, 2))
        fixed = writer.add_setup(shape=SHAPE, channel=2, calibration=np.diag([1, 2, 3, 1])[:3])
        writer.write(STACK, setup=setup, time=0)
        writer.write(STACK, setup=setup, time=1, transform=named)
        writer.write(STACK, setup=setup, time=2, transform=np.asarray(SHIFT) * 2)
        writer.write(STACK, setup=bare)
        writer.write(STACK, setup=fixed)
    calibration = ("calibration", Affine.scale((1, 1, 2)))

    def listed(time: int, setup: int) -> list[tuple[str | None, Affine | None]]:
        with npy2bdv.open(tmp_path / "a.xml") as dataset:
            return [(each.name, each.affine) for each in dataset.view(time=time, setup=setup).transforms]

    assert listed(0, setup) == [("manually defined", SHIFT), calibration]
    assert listed(1, setup) == [("drift", SHIFT), ("s", Affine.scale((1, 2, 3))), calibration]
    twice = Affine(values=tuple(2 * value for value in SHIFT.values))
    assert listed(2, setup) == [("manually defined", twice), calibration]
    assert listed(0, bare) == []
    assert listed(0, fixed) == [("calibration", Affine.scale((1, 2, 3)))]


def test_calibration_is_in_the_smallest_voxel_size_of_all_present_views(tmp_path: Path) -> None:
    """BigStitcher's rule (formats.md 1.9); a setup that was never written does not count."""
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        coarse = writer.add_setup(shape=SHAPE, channel=0, voxel_size_xyz=(0.5, 0.5, 2.0))
        fine = writer.add_setup(shape=SHAPE, channel=1, voxel_size_xyz=(0.25, 0.5, 1.0))
        writer.add_setup(shape=SHAPE, channel=2, voxel_size_xyz=(0.01, 0.01, 0.01))
        writer.write(STACK, setup=coarse)
        writer.write(STACK, setup=fine, time=1)
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert dataset.view(setup=coarse).transform == Affine.scale((2, 2, 8))
        assert dataset.view(time=1, setup=fine).transform == Affine.scale((1, 2, 4))


# ---------------------------------------------------------------------------------------- missing views


def test_views_and_setups_that_were_never_written_are_missing(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        for channel in range(3):
            writer.add_setup(shape=SHAPE, channel=channel)
        writer.write(STACK, setup=0, time=0)
        writer.write(STACK, setup=1, time=2)
        with writer.stream(setup=0, time=3):
            pass  # no plane came
    data = described(tmp_path / "a.xml")
    assert data.timepoints.ids == (0, 1, 2)
    assert set(data.setups) == {0, 1}
    assert set(data.views()) == set(data.registrations) == {ViewId(0, 0), ViewId(2, 1)}
    assert {ViewId(0, 2), ViewId(1, 0), ViewId(1, 1), ViewId(2, 0)} <= set(data.missing or ())
    with pytest.raises(MissingKeyError, match="time point 0 of setup 2 has not been written"):
        writer.transforms(ViewId(0, 2))


def test_planes_that_never_came_are_zero(tmp_path: Path) -> None:
    levels = ((1, 1, 1), (2, 2, 2), (4, 1, 1))
    with npy2bdv.create(tmp_path / "a.xml", levels=levels, chunks=(2, 4, 4)) as writer:
        setup = writer.add_setup(shape=SHAPE)
        with writer.stream(setup=setup) as view:
            view.append(STACK[0])
            view.put(STACK[3:], 3)
    expected = STACK.copy()
    expected[1:3] = 0
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        for level, factors in zip(dataset.view(setup=0).levels(), levels, strict=True):
            np.testing.assert_array_equal(level[...], downsample(expected, factors))


def test_setup_of_unknown_length(tmp_path: Path) -> None:
    levels = ((1, 1, 1), (2, 2, 2), (8, 2, 1))
    frames = np.random.default_rng(0).integers(0, 65535, (150, 5, 6), "uint16")
    with npy2bdv.create(tmp_path / "a.xml", levels=levels, chunks=(4, 4, 4)) as writer:
        setup = writer.add_setup(shape=(None, 5, 6))
        with writer.stream(setup=setup) as view:
            for frame in frames:
                view.append(frame)
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        view_ = dataset.view(setup=setup)
        assert view_.setup.size_xyz == (6, 5, 150)
        for level, factors in zip(view_.levels(), levels, strict=True):
            np.testing.assert_array_equal(level[...], downsample(frames, factors))


# --------------------------------------------------------------------------- files, backups, overwriting


@pytest.mark.parametrize("name", ["a:488.xml", "what?.h5", "aux.xml", "com1.tile 3.n5", "NUL.ome.zarr"])
def test_names_that_windows_does_not_have(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a colon the pixels would be in a stream of another file, where no program looks."""
    monkeypatch.setattr(location, "os", SimpleNamespace(name="nt"))
    with pytest.raises(InvalidInputError, match="no name for a file on Windows"):
        npy2bdv.create(tmp_path / name)
    assert names(tmp_path) == []
    npy2bdv.create(tmp_path / "auxiliary.xml").close()


@pytest.mark.parametrize("name", ["a b.xml", "größe #1 %20.xml", "a.b.c.xml", "A.XML"])
@pytest.mark.parametrize("kind", [str, Path])
def test_names_of_files(tmp_path: Path, name: str, kind: type) -> None:
    folder = tmp_path / "ö ' &"
    folder.mkdir()
    with npy2bdv.create(kind(folder / name)) as writer:
        writer.write(STACK, setup=writer.add_setup(shape=SHAPE))
    assert names(folder) == sorted([name, str(Path(name).with_suffix(".h5"))])
    with npy2bdv.open(kind(folder / name)) as dataset:
        np.testing.assert_array_equal(dataset.view()[...], STACK)


def test_xml_is_there_from_the_first_view_on(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        setup = writer.add_setup(shape=SHAPE)
        assert not (tmp_path / "a.xml").exists()
        writer.write(STACK, setup=setup)
        assert set(described(tmp_path / "a.xml").registrations) == {ViewId(0, 0)}


def test_overwriting_keeps_the_older_xmls(tmp_path: Path) -> None:
    texts = []
    for session in range(8):
        with npy2bdv.create(tmp_path / "a.xml", overwrite=session > 0, user=f"user {session}") as writer:
            setup = writer.add_setup(shape=SHAPE)
            for time in range(3):
                writer.write(STACK + session, setup=setup, time=time)
                writer.save()  # rotates once per session
        texts.append((tmp_path / "a.xml").read_bytes())
    assert names(tmp_path) == ["a.h5", "a.xml", *(f"a.xml~{number}" for number in range(1, 6))]
    kept = [(tmp_path / f"a.xml~{number}").read_bytes() for number in range(1, 6)]
    assert kept == texts[-2:-7:-1]
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        np.testing.assert_array_equal(dataset.view(time=2, setup=0)[...], STACK + 7)


def test_recording_without_a_view_leaves_no_xml(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        writer.add_setup(shape=SHAPE)
    assert names(tmp_path) == ["a.h5"]


def test_closing_twice(tmp_path: Path) -> None:
    writer = npy2bdv.create(tmp_path / "a.xml")
    writer.write(STACK, setup=writer.add_setup(shape=SHAPE))
    writer.close()
    stamp = (tmp_path / "a.xml").stat().st_mtime_ns, (tmp_path / "a.h5").stat().st_mtime_ns
    writer.close()
    assert writer.closed
    assert stamp == ((tmp_path / "a.xml").stat().st_mtime_ns, (tmp_path / "a.h5").stat().st_mtime_ns)


# ------------------------------------------------------------------------------------------------ errors


def test_exception_in_the_block_keeps_what_was_written(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), npy2bdv.create(tmp_path / "a.xml", chunks=(2, 4, 4)) as writer:  # noqa: PT012
        setup = writer.add_setup(shape=SHAPE)
        writer.write(STACK, setup=setup, time=0)
        with writer.stream(setup=setup, time=1) as view:
            view.append(STACK[0])
            raise ZeroDivisionError
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        np.testing.assert_array_equal(dataset.view(time=0)[...], STACK)
        np.testing.assert_array_equal(dataset.view(time=1)[0], STACK[0])
        assert not dataset.view(time=1)[1:].any()


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = npy2bdv.create(tmp_path / "a.xml", chunks=(1, 4, 4))
    setup = writer.add_setup(shape=SHAPE)
    writer.write(STACK, setup=setup, time=0)
    writer.checkpoint()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def go_on() -> None:
        for time in range(1, 50):
            writer.write(STACK, setup=setup, time=time)

    with monkeypatch.context() as patch:
        patch.setattr(Hdf5Level, "put_chunk", full)
        with pytest.raises(WriteError, match="No space left on device"):
            go_on()
        with pytest.raises(WriteError, match="No space left on device"):
            writer.close()
    writer.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("npy2bdv")]
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        np.testing.assert_array_equal(dataset.view(time=0)[...], STACK)


def test_refused_setup_leaves_no_trace(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        for bad in (
            {"channel": "x", "levels": ((0, 1, 1),)},
            {"channel": "y", "transform": np.zeros((3, 4))},
        ):
            with pytest.raises(InvalidInputError):
                writer.add_setup(shape=SHAPE, **bad)
        assert writer.add_setup(shape=SHAPE, channel="z") == 0
        writer.write(STACK, setup=0)
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert dataset.labels("channel") == {0: "z"}


def test_view_is_written_once_or_replaced_on_purpose(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml", levels=((1, 1, 1), (2, 2, 2))) as writer:
        setup = writer.add_setup(shape=SHAPE)
        writer.write(STACK, setup=setup)
        with pytest.raises(ExistsError, match="written already"):
            writer.stream(setup=setup)
        with writer.stream(setup=setup, replace_view=True) as view:
            view.put(STACK[::-1], 0)
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        np.testing.assert_array_equal(dataset.view()[...], STACK[::-1])
        np.testing.assert_array_equal(dataset.view().level(1)[...], downsample(STACK[::-1], (2, 2, 2)))


def test_stream_that_stays_open_while_another_begins(tmp_path: Path) -> None:
    """Its planes all came in part; what comes later must not be lost, although nobody closes it."""
    with npy2bdv.create(tmp_path / "a.xml", levels=((1, 1, 1), (2, 2, 2)), chunks=(2, 4, 4)) as writer:
        writer.add_setup(shape=SHAPE, channel=0)
        writer.add_setup(shape=SHAPE, channel=1)
        first = writer.stream(setup=0)
        first.put(STACK[:, :2], 0)
        writer.stream(setup=1).append(STACK[0])
        first.put(STACK[:, 2:], 0, 2)
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        np.testing.assert_array_equal(dataset.view(channel=0)[...], STACK)
        np.testing.assert_array_equal(dataset.view(channel=0).level(1)[...], downsample(STACK, (2, 2, 2)))


# ---------------------------------------------------------------------------------- write -> read equals

_FACTORS = st.tuples(*[st.sampled_from([1, 2, 3, 5])] * 3).filter(lambda f: f != (1, 1, 1))


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "uint32", "int64", "float32"]),
    lower=st.lists(_FACTORS, max_size=2, unique=True),
    chunk=st.tuples(*[st.integers(1, 12)] * 3),
    compression=st.sampled_from([None, "gzip", ("gzip", 6)]),
    cuts=st.sets(st.integers(1, 8), max_size=3),
    turned=st.booleans(),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_is_read(
    tmp_path: Path,
    shape: tuple[int, int, int],
    dtype: str,
    lower: list[tuple[int, int, int]],
    chunk: tuple[int, int, int],
    compression: Any,
    cuts: set[int],
    turned: bool,
) -> None:
    rng = np.random.default_rng(sum(shape))
    stack = (rng.random(shape) * 250).astype(dtype)
    levels = [(1, 1, 1), *lower]
    options: dict[str, Any] = {"levels": levels, "chunks": chunk, "compression": compression}
    bounds = sorted({0, shape[0], *(cut for cut in cuts if cut < shape[0])})
    slabs = list(pairwise(bounds))
    with npy2bdv.create(tmp_path / "a.xml", overwrite=True, **options) as writer:
        setup = writer.add_setup(shape=shape, dtype=dtype)
        with writer.stream(setup=setup, time=0) as view:
            for start, stop in reversed(slabs) if turned else slabs:
                view.put(stack[start:stop], start)
        writer.write(stack[:, ::-1], setup=setup, time=1)
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        for time, expected in ((0, stack), (1, stack[:, ::-1])):
            for level, factors in zip(dataset.view(time=time).levels(), levels, strict=True):
                assert level.dtype == np.dtype(dtype)
                np.testing.assert_array_equal(level[...], downsample(expected, factors))


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_view_that_does_not_fit_on_the_disk(
    tmp_path: Path, compression: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before anything of it is written, and what came before stays; compressed it may fit."""
    with npy2bdv.create(tmp_path / "a.xml", compression=compression) as writer:
        setup = writer.add_setup(shape=STACK.shape)
        writer.write(STACK, setup=setup)
        full = shutil.disk_usage(tmp_path)._replace(free=STACK.nbytes - 1)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
        if compression is None:
            with pytest.raises(
                npy2bdv.errors.WriteError, match=r"time point 1 of setup 0 takes .* make room"
            ):
                writer.write(STACK, setup=setup, time=1)
        else:
            writer.write(STACK, setup=setup, time=1)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: full._replace(total=0, free=0))
        writer.write(STACK, setup=setup, time=2)
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert [view.id.time for view in dataset.views()] == ([0, 2] if compression is None else [0, 1, 2])
        assert (dataset.view(time=2)[...] == STACK).all()


def test_levels_that_do_not_fit_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are refused before anything of them is made; with room they are made."""
    with BdvWriter(str(tmp_path / "a.h5")) as writer:
        writer.append_view(STACK)
        before = (tmp_path / "a.h5").stat().st_size
        with monkeypatch.context() as patch:
            full = shutil.disk_usage(tmp_path)._replace(free=STACK.nbytes // 9)
            patch.setattr(shutil, "disk_usage", lambda _: full)
            with pytest.raises(npy2bdv.errors.WriteError, match=r"adding levels takes .* make room"):
                writer.create_pyramids(((1, 2, 2),))
        assert (tmp_path / "a.h5").stat().st_size == before
        writer.create_pyramids(((1, 2, 2),))
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        level = list(dataset.view().levels())[1][...]
    np.testing.assert_array_equal(level, npy2bdv.downsample(STACK, (1, 2, 2)))
