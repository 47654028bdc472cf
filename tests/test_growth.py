"""Views whose number of planes is not known, space that is used again, and long recordings."""

import gc
import shutil
import sys
import threading
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.errors import InvalidInputError, OutOfRangeError
from npy2bdv.model.spimdata import ViewId

KINDS = pytest.mark.parametrize("compression", [None, "gzip"])


def noise(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(1, 60000, shape, "uint16")


def check(path: Path, expected: NDArray[Any], levels: Any, *, time: int = 0) -> None:
    with npy2bdv.open(path) as dataset:
        view = dataset.view(time=time)
        assert dataset.spimdata.setups[0].size_xyz == expected.shape[::-1]
        for level, factors in enumerate(levels):
            found = view.level(level)[...]
            np.testing.assert_array_equal(found, npy2bdv.downsample(expected, factors), err_msg=str(factors))


# -------------------------------------------------------------------------------- unknown number of planes


@settings(max_examples=25, deadline=None)
@given(
    planes=st.integers(1, 150),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    factors=st.lists(st.tuples(*[st.integers(1, 5)] * 3), max_size=2, unique=True),
    depth=st.integers(1, 6),
    compression=st.sampled_from([None, "gzip"]),
    checkpoints=st.sets(st.integers(0, 149), max_size=3),
)
def test_grows_to_any_length(
    tmp_path_factory: pytest.TempPathFactory,
    planes: int,
    size: tuple[int, int],
    factors: list[tuple[int, int, int]],
    depth: int,
    compression: str | None,
    checkpoints: set[int],
) -> None:
    path = tmp_path_factory.mktemp("growth") / "a.xml"
    levels = [(1, 1, 1), *(each for each in factors if each != (1, 1, 1))]
    stack = noise((planes, *size), planes)
    with npy2bdv.create(path, levels=levels, chunks=(depth, 4, 4), compression=compression) as writer:
        setup = writer.add_setup(shape=(None, *size))
        with writer.stream(setup=setup) as view:
            for z, plane in enumerate(stack):
                view.append(plane)
                if z in checkpoints:
                    assert writer.checkpoint() == {ViewId(0, setup): z + 1}
    check(path, stack, levels)
    shutil.rmtree(path.parent)


@KINDS
def test_blocks_may_jump_ahead(tmp_path: Path, compression: str | None) -> None:
    levels = ((1, 1, 1), (3, 2, 2))
    expected = np.zeros((211, 9, 10), "uint16")
    with npy2bdv.create(
        tmp_path / "a.xml", levels=levels, chunks=(4, 4, 4), compression=compression
    ) as writer:
        setup = writer.add_setup(shape=(None, 9, 10))
        with writer.stream(setup=setup) as view:
            for z, length in ((0, 5), (200, 11), (100, 30), (101, 2)):
                block = noise((length, 9, 10), z)
                view.put(block, z)
                expected[z : z + length] = block
            view.put(np.full((1, 2, 3), 5, "uint16"), 150, 4, 5)
            expected[150, 4:6, 5:8] = 5
            assert view.shape[0] > 211
    check(tmp_path / "a.xml", expected, levels)


def test_early_end_takes_no_more_space_than_planes(tmp_path: Path) -> None:
    """The image has as many planes as came, not as many as there was room for."""
    with npy2bdv.create(tmp_path / "a.h5", chunks=(4, 4, 4)) as writer:
        view = writer.stream(setup=writer.add_setup(shape=(None, 4, 4)))
        view.append(np.ones((4, 4), "uint16"))
        assert (view.shape[0], view.is_full) == (64, False)
    assert (view.shape[0], view.planes_there) == (1, 1)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["t00000/s00/0/cells"].shape == (1, 4, 4)


@KINDS
def test_the_first_view_fixes_the_number_of_planes(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "a.xml"
    levels = ((1, 1, 1), (4, 2, 2))
    stack = noise((70, 9, 10))
    with npy2bdv.create(path, levels=levels, chunks=(4, 4, 4), compression=compression) as writer:
        setup = writer.add_setup(shape=(None, 9, 10))
        with writer.stream(setup=setup) as view:
            for plane in stack:
                view.append(plane)
        view = writer.stream(setup=setup, time=1)
        view.put(stack[:11], 0)
        with pytest.warns(UserWarning, match="1 of setup 0 has 11 planes, the first one recorded has 70"):
            view.close()
        view = writer.stream(setup=setup, time=2)
        for plane in stack:
            view.append(plane)
        with pytest.raises(OutOfRangeError, match="z = 70 is outside of the view, which has 70"):
            view.append(stack[0])
        for planes in (69, 71):
            with pytest.raises(
                ValueError, match=rf"shape \({planes}, 9, 10\); setup 0 was added with \(70, 9, 10\)"
            ):
                writer.write(noise((planes, 9, 10)), setup=setup, time=3)
        writer.write(stack, setup=setup, time=4)
    padded = stack.copy()
    padded[11:] = 0
    for time, expected in ((0, stack), (1, padded), (2, stack), (4, stack)):
        check(path, expected, levels, time=time)
    with npy2bdv.open(path) as dataset:
        assert dataset.missing_views == (ViewId(3, 0),)
    with h5py.File(path.with_suffix(".h5")) as file:
        assert file["t00001/s00"].attrs["npy2bdv_missing_planes"].tolist() == [[11, 70]]


def test_one_view_of_unknown_length_at_a_time(tmp_path: Path) -> None:
    """Other setups are free: channels may be recorded side by side."""
    plane = np.ones((4, 5), "uint16")
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        setups = [writer.add_setup(shape=(None, 4, 5), channel=i) for i in range(2)]
        views = [writer.stream(setup=setup) for setup in setups]
        with pytest.raises(
            InvalidInputError, match=r"time point 0 is still being recorded .* complete that view"
        ):
            writer.stream(setup=setups[0], time=1)
        for view, planes in zip(views, (3, 5), strict=True):
            for _ in range(planes):
                view.append(plane)
        views[0].close()
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert [view.shape[0] for view in dataset.views()] == [3, 5]


def test_a_view_of_unknown_length_without_planes_is_missing(tmp_path: Path) -> None:
    with npy2bdv.create(tmp_path / "a.xml") as writer:
        setup = writer.add_setup(shape=(None, 4, 5))
        writer.stream(setup=setup).close()
        with writer.stream(setup=setup, time=1) as view:
            view.append(np.ones((4, 5), "uint16"))
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        assert [view.id for view in dataset.views()] == [(1, 0)]
        assert dataset.view(time=1).shape == (1, 4, 5)


def test_unknown_length_needs_the_full_resolution(tmp_path: Path) -> None:
    with (
        npy2bdv.create(tmp_path / "a.xml", levels=((2, 2, 2),)) as writer,
        pytest.raises(
            InvalidInputError, match="unknown length needs the full resolution stored: level 1, 1, 1"
        ),
    ):
        writer.add_setup(shape=(None, 4, 5))


# ------------------------------------------------------------------------------------ space once used


@KINDS
def test_planes_that_never_come_are_zero_where_the_file_held_older_pixels(
    tmp_path: Path, compression: Literal["gzip"] | None
) -> None:
    """A view is replaced, so that HDF5 gives its space away again, and again."""
    path = tmp_path / "a.h5"
    old = noise((40, 16, 16))
    writer = npy2bdv.BdvWriter(
        str(path), subsamp=((1, 1, 1), (2, 2, 2)), blockdim=((4, 8, 8),), compression=compression
    )
    with writer:
        writer.append_view(old)
        writer._file_object_h5.flush()
        for time in range(1, 4):
            writer.append_view(None, virtual_stack_dim=old.shape)  # in place of the one before
            writer.append_plane(old[5], z=5)
            writer.append_view(None, virtual_stack_dim=old.shape, time=time)
            writer.append_plane(old[time], z=20, time=time)
        writer.write_xml()
    first, later = np.zeros_like(old), np.zeros_like(old)
    first[5] = old[5]
    check(path.with_suffix(".xml"), first, ((1, 1, 1), (2, 2, 2)))
    for time in range(1, 4):
        later[20] = old[time]
        check(path.with_suffix(".xml"), later, ((1, 1, 1), (2, 2, 2)), time=time)
    if compression is None:
        with h5py.File(path) as file:
            cells = file["t00000/s00/0/cells"]
            assert cells.id.get_create_plist().get_alloc_time() == h5py.h5d.ALLOC_TIME_EARLY, (
                "else this tests nothing"
            )


def test_growth_over_space_once_used(tmp_path: Path) -> None:
    """An image of unknown length grows into the space of one that was replaced."""
    path = tmp_path / "a.xml"
    old = noise((64, 16, 16))
    expected = np.zeros((150, 16, 16), "uint16")
    with npy2bdv.create(path, chunks=(4, 8, 8)) as writer:
        writer.write(old, setup=writer.add_setup(shape=old.shape))
        other = writer.add_setup(shape=(None, 16, 16), channel=1)
        growing = writer.stream(setup=other)
        writer.stream(setup=0, replace_view=True).abort()
        writer.container.remove(ViewId(0, 0))  # what the writer does at the end
        for z in (0, 70, 149):
            growing.put(old[:1], z)
            expected[z] = old[0]
        growing.close()
        writer._given_up.clear()
    with npy2bdv.open(path) as dataset:
        np.testing.assert_array_equal(dataset.view(setup=1)[...], expected)


# ------------------------------------------------------------------------------------ long recordings


def held() -> tuple[int, int, int]:
    """Small objects in memory; bytes of the process and open files, where the system tells."""
    gc.collect()
    process = Path("/proc/self")
    if not process.is_dir():
        return sys.getallocatedblocks(), 0, 0
    pages = int((process / "statm").read_text().split()[1])
    return sys.getallocatedblocks(), pages * 4096, len(list((process / "fd").iterdir()))


@KINDS
def test_twenty_thousand_frames(tmp_path: Path, compression: str | None) -> None:
    """Memory and files stay as they are."""
    ring = noise((16, 64, 64))
    levels = ((1, 1, 1), (2, 2, 2), (4, 4, 4))
    seen: list[tuple[int, int, int]] = []
    with npy2bdv.create(
        tmp_path / "a.xml", levels=levels, compression=compression, checkpoint_seconds=0.5, max_memory=2**23
    ) as writer:
        view = writer.stream(setup=writer.add_setup(shape=(20_000, 64, 64)))
        for z in range(20_000):
            view.append(ring[z % 16])
            if z in (5_000, 19_990):
                writer.checkpoint()  # from the first one on, the log of planes is open
                writer.store()
                seen.append(held())
        threads = [each for each in threading.enumerate() if each.name.startswith("npy2bdv")]
    objects, nbytes, files = np.diff(seen, axis=0)[0]
    assert objects < 15_000  # the number of each row, of all levels; work that is kept would take 110 000
    assert nbytes < 16 * 2**20
    assert files <= 0
    assert 1 < len(threads) < 6  # others may be those of libraries
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        found = dataset.view()
        for z in (0, 9_999, 19_999):
            np.testing.assert_array_equal(found[z], ring[z % 16])
        np.testing.assert_array_equal(found.level(2)[4_996:], npy2bdv.downsample(ring, (4, 4, 4)))


@KINDS
def test_many_views(tmp_path: Path, compression: str | None) -> None:
    stack = noise((8, 64, 64))
    seen: list[tuple[int, int, int]] = []
    options: Any = {"levels": ((1, 1, 1), (2, 2, 2)), "compression": compression, "max_memory": 2**22}
    with npy2bdv.create(tmp_path / "a.xml", **options) as writer:
        setup = writer.add_setup(shape=stack.shape)
        for time in range(450):
            with writer.stream(setup=setup, time=time) as view:
                for plane in stack:
                    view.append(plane)
            if time in (200, 449):
                writer.checkpoint()
                seen.append(held())
    objects, nbytes, files = np.diff(seen, axis=0)[0]
    assert objects < 250 * 50  # the description of each view stays: a few values
    assert nbytes < 8 * 2**20  # HDF5 alone would keep 16 MB of descriptions
    assert files <= 0
    with npy2bdv.open(tmp_path / "a.xml") as dataset:
        for time in (0, 150, 449):
            np.testing.assert_array_equal(dataset.view(time=time)[...], stack)
