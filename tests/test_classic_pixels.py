"""`BdvWriter`: the pixels that arrive in the file, on all levels, as h5py reads them."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest

import npy2bdv
from npy2bdv import BdvWriter

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPE = (5, 6, 7)
TYPES = (
    "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64",
)  # fmt: skip


def noise(shape: tuple[int, ...] = SHAPE, dtype: str = "uint16", seed: int = 0) -> NDArray[Any]:
    """Return pixels over the whole range of a type."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return ((rng.random(shape) - 0.5) * 1e6).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def block_means(stack: NDArray[Any], factors: tuple[int, int, int]) -> NDArray[Any]:
    """Return means of unsigned pixels over blocks, edges repeated, halves rounded up: written to be obvious."""
    padding = [(0, -size % factor) for size, factor in zip(stack.shape, factors, strict=True)]
    padded = np.pad(stack, padding, mode="edge").astype(np.uint64)
    (z, y, x), (fz, fy, fx) = padded.shape, factors
    sums = padded.reshape(z // fz, fz, y // fy, fy, x // fx, fx).sum((1, 3, 5))
    count = fz * fy * fx
    return np.asarray((2 * sums + count) // (2 * count)).astype(stack.dtype)


def pixels(path: Path, time: int = 0, setup: int = 0, level: int = 0) -> NDArray[Any]:
    """Return what h5py finds in a file of uint16 stacks."""
    with h5py.File(path) as file:
        cells = file[f"t{time:05d}/s{setup:02d}/{level}/cells"][()]
    assert cells.dtype == np.int16
    return np.asarray(cells.view(np.uint16))


def texts(path: Path, place: str) -> list[str | None]:
    return [node.text for node in ElementTree.parse(path).findall(place)]


# -- stacks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("by_name", [True, False])
def test_pixel_types(dtype: str, by_name: bool, tmp_path: Path) -> None:
    stack = noise(dtype=dtype)
    given = dtype if by_name else getattr(np, dtype)
    with BdvWriter(tmp_path / "a.h5", dtype=given, compression="gzip") as writer:
        assert writer.dtype == np.dtype(dtype)
        writer.append_view(stack)
        writer.write_xml()
    with h5py.File(tmp_path / "a.h5") as file:
        cells = file["t00000/s00/0/cells"]
        np.testing.assert_array_equal(cells[()].view(dtype), stack)
        if dtype == "uint16":
            assert (cells.dtype, dict(file["s00"].attrs)) == (np.int16, {})
        else:
            assert (cells.dtype, file["s00"].attrs["dataType"]) == (np.dtype(dtype), dtype.encode())
    with npy2bdv.BdvEditor(tmp_path / "a.xml", mode="r") as editor:
        np.testing.assert_array_equal(editor.read_view(), stack, strict=True)


def test_the_same_view_twice_replaces_it(tmp_path: Path) -> None:
    with BdvWriter(tmp_path / "a.h5", subsamp=((1, 1, 1), (2, 2, 2))) as writer:
        writer.append_view(noise(seed=1))
        larger = noise((9, 11, 13), seed=2)
        writer.append_view(larger)  # the only time point: it may have another shape
        writer.append_view(larger[::-1], time=1)
        writer.append_view(larger[:, ::-1])
        writer.write_xml()
        with pytest.raises(ValueError, match=r"View shape \(5, 6, 7\) differs from shape \(9, 11, 13\)"):
            writer.append_view(noise())
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5"), larger[:, ::-1])
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5", time=1), larger[::-1])
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5", level=1), block_means(larger[:, ::-1], (2, 2, 2)))
    assert texts(tmp_path / "a.xml", ".//ViewSetup/size") == ["13 11 9"]


def test_setups_may_differ_in_shape(tmp_path: Path) -> None:
    shapes = [(5, 6, 7), (1, 1, 1), (8, 3, 300)]
    with BdvWriter(tmp_path / "a.h5", ntiles=3) as writer:
        for tile, shape in enumerate(shapes):
            writer.append_view(noise(shape), tile=tile)
        writer.write_xml()
    assert texts(tmp_path / "a.xml", ".//ViewSetup/size") == ["7 6 5", "1 1 1", "300 3 8"]
    for tile, shape in enumerate(shapes):
        np.testing.assert_array_equal(pixels(tmp_path / "a.h5", setup=tile), noise(shape))


def test_fewer_blocks_than_levels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    levels = ((1, 1, 1), (1, 2, 2), (2, 4, 4))
    with (
        caplog.at_level(logging.INFO),
        BdvWriter(tmp_path / "a.h5", subsamp=levels, blockdim=((2, 4, 3), (1, 1, 1))) as writer,
    ):
        assert "2 blocks for 3 levels: the first serves all" in caplog.text
        assert writer.chunks == ((2, 4, 3),) * 3
        writer.append_view(noise((5, 33, 35)))
    with h5py.File(tmp_path / "a.h5") as file:
        assert [file[f"t00000/s00/{level}/cells"].chunks for level in range(3)] == [(2, 4, 3)] * 3
        assert file["s00/subdivisions"][()].tolist() == [[3, 4, 2]] * 3
        assert file["s00/resolutions"][()].tolist() == [[1, 1, 1], [2, 2, 1], [4, 4, 2]]


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_pyramids_are_bright_at_odd_edges_and_rounded(compression: Any, tmp_path: Path) -> None:
    levels = ((1, 1, 1), (2, 3, 2), (3, 4, 8))
    stack = noise((7, 11, 13))
    with BdvWriter(
        tmp_path / "a.h5", subsamp=levels, blockdim=((4, 8, 8),) * 3, compression=compression, nchannels=2
    ) as writer:
        writer.append_view(stack)
        writer.append_view(np.full_like(stack, 3464), channel=1)
    for level, factors in enumerate(levels):
        np.testing.assert_array_equal(pixels(tmp_path / "a.h5", level=level), block_means(stack, factors))
        assert (pixels(tmp_path / "a.h5", setup=1, level=level) == 3464).all()


def test_first_level_that_is_not_the_full_resolution(tmp_path: Path) -> None:
    stack = noise((5, 7, 9))
    with BdvWriter(tmp_path / "a.h5", subsamp=((1, 2, 2), (2, 4, 4)), nchannels=2) as writer:
        writer.append_view(stack)
        writer.append_view(None, virtual_stack_dim=(5, 7, 9), channel=1)
        for z in range(5):
            writer.append_plane(stack[z], z, channel=1)
        writer.write_xml()
    for setup in (0, 1):
        for level, factors in enumerate([(1, 2, 2), (2, 4, 4)]):
            np.testing.assert_array_equal(
                pixels(tmp_path / "a.h5", setup=setup, level=level), block_means(stack, factors)
            )
    assert texts(tmp_path / "a.xml", ".//ViewSetup/size") == ["9 7 5", "9 7 5"]


@pytest.mark.parametrize(
    ("given", "kept", "warned"),
    [
        (np.array([0, 3.0, 65535]), [0, 3, 65535], False),
        (np.array([0, 3, 65535], "int64"), [0, 3, 65535], False),
        (np.array([True, False, True]), [1, 0, 1], False),
        (np.array([0, 3.5, 1]), [0, 3, 1], True),
        (np.array([0, 1, 65536], "int64"), [0, 1, 0], True),
        (np.array([0, 1, -1], "int8"), [0, 1, 65535], True),
    ],
    ids=str,
)
def test_lossy_casts_warn(given: Any, kept: list[int], warned: bool, tmp_path: Path) -> None:
    text = (
        rf"^Values of {given.dtype} data change when cast to uint16 \(out of range or not integer\)\. "
        r"Rescale the data, or create BdvWriter with a matching dtype\.$"
    )
    with BdvWriter(tmp_path / "a.h5", ntiles=3) as writer:
        writer.append_view(None, virtual_stack_dim=(1, 1, 3), tile=1)
        writer.append_view(None, virtual_stack_dim=(1, 1, 3), tile=2)
        for write in (
            partial(writer.append_view, given.reshape(1, 1, 3)),
            partial(writer.append_plane, given.reshape(1, 3), 0, tile=1),
            partial(writer.append_substack, given.reshape(1, 1, 3), 0, tile=2),
        ):
            if warned:
                with pytest.warns(UserWarning, match=text) as caught:
                    write()
                assert [Path(each.filename) for each in caught] == [Path(__file__)]  # points at the script
            else:
                write()
    for tile in range(3):
        assert pixels(tmp_path / "a.h5", setup=tile).ravel().tolist() == kept


def test_one_changed_value_in_a_large_stack_warns(tmp_path: Path) -> None:
    stack = np.zeros((2, 1024, 2048))  # two pieces of 16 MiB are converted one after the other
    stack[0, 5, 7] = 0.5
    with BdvWriter(tmp_path / "a.h5") as writer, pytest.warns(UserWarning, match="float64 data change"):
        writer.append_view(stack)


def test_lzf_warns_and_is_written(tmp_path: Path) -> None:
    with (
        pytest.warns(UserWarning, match="lzf.*Fiji") as caught,
        BdvWriter(tmp_path / "a.h5", compression="lzf") as writer,
    ):
        writer.append_view(noise())
    assert [Path(each.filename) for each in caught] == [Path(__file__)]
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5"), noise())
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["t00000/s00/0/cells"].compression == "lzf"


# -- virtual stacks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["up", "down", "shuffled"])
def test_planes_stream_into_levels_with_z_factors(order: str, tmp_path: Path) -> None:
    levels = ((1, 1, 1), (2, 2, 2), (4, 2, 4))
    stack = noise((11, 13, 14))
    places = {
        "up": np.arange(11),
        "down": np.arange(11)[::-1],
        "shuffled": np.random.default_rng(1).permutation(11),
    }
    with BdvWriter(
        tmp_path / "a.h5", subsamp=levels, blockdim=((4, 8, 8), (2, 4, 4), (2, 4, 4)), compression="gzip"
    ) as writer:
        writer.append_view(None, virtual_stack_dim=(11.0, 13.0, 14.0))  # type: ignore[arg-type]
        for z in places[order]:
            writer.append_plane(stack[z], z)  # numpy's integers, as scripts have them
    for level, factors in enumerate(levels):
        np.testing.assert_array_equal(pixels(tmp_path / "a.h5", level=level), block_means(stack, factors))


def test_an_acquisition_loop_that_flushes(tmp_path: Path) -> None:
    """As mesoSPIM records: planes in order, the private file handle flushed every few planes."""
    levels = ((1, 1, 1), (2, 2, 2), (4, 4, 4))
    stacks = [noise((13, 17, 19), seed=tile) for tile in range(2)]
    with BdvWriter(tmp_path / "a.h5", ntiles=2, subsamp=levels, blockdim=((4, 8, 8),) * 3) as writer:
        for tile in range(2):
            writer.append_view(stack=None, virtual_stack_dim=(13, 17, 19), tile=tile)
        for tile, stack in enumerate(stacks):
            for z, plane in enumerate(stack):
                writer.append_plane(plane=plane, z=z, tile=tile)
                if (z + 1) % 5 == 0:
                    writer._file_object_h5.flush()
        writer.write_xml()
    for tile, stack in enumerate(stacks):
        for level, factors in enumerate(levels):
            np.testing.assert_array_equal(
                pixels(tmp_path / "a.h5", setup=tile, level=level), block_means(stack, factors)
            )


def test_the_private_file_handle_shows_what_came(tmp_path: Path) -> None:
    with BdvWriter(tmp_path / "a.h5") as writer:
        writer.append_view(None, virtual_stack_dim=SHAPE)
        writer.append_plane(noise()[0], 0)
        file = writer._file_object_h5
        assert file
        cells = file["t00000/s00/0/cells"]
        assert isinstance(cells, h5py.Dataset)
        np.testing.assert_array_equal(cells[0].view("uint16"), noise()[0])
        assert "t00000" in file
        assert {"t00000", "s00"} <= set(file)
        assert Path(file.filename) == tmp_path / "a.h5"


def test_substacks_in_any_order_make_the_whole(tmp_path: Path) -> None:
    levels = ((1, 1, 1), (2, 2, 4))
    stack = noise((9, 10, 11))
    with BdvWriter(tmp_path / "a.h5", subsamp=levels, blockdim=((4, 8, 8),) * 2) as writer:
        writer.append_view(None, virtual_stack_dim=stack.shape)
        corners = [(z, y, x) for z in (0, 3, 6) for y in (0, 7) for x in (0, 5)]
        for number in np.random.default_rng(2).permutation(len(corners)):
            z, y, x = corners[number]
            writer.append_substack(stack[z : z + 3, y : y + 7, x : x + 6], z, y, x)
    for level, factors in enumerate(levels):
        np.testing.assert_array_equal(pixels(tmp_path / "a.h5", level=level), block_means(stack, factors))


def test_the_camera_may_reuse_its_buffer(tmp_path: Path) -> None:
    stack = noise()
    buffer, frame = stack.copy(), np.empty(SHAPE[1:], "uint16")
    with BdvWriter(tmp_path / "a.h5", nchannels=2, compression="gzip") as writer:
        writer.append_view(buffer)
        buffer[:] = 0
        writer.append_view(None, virtual_stack_dim=SHAPE, channel=1)
        for z, plane in enumerate(stack):
            frame[:] = plane
            writer.append_plane(frame, z, channel=1)
            frame[:] = 0
    for setup in range(2):
        np.testing.assert_array_equal(pixels(tmp_path / "a.h5", setup=setup), stack)


@pytest.mark.parametrize(
    "given", [np.asfortranarray(noise()), noise()[:, ::-1, ::-1], noise().astype(">u2"), noise().tolist()]
)
def test_memory_of_any_layout(given: Any, tmp_path: Path) -> None:
    with BdvWriter(tmp_path / "a.h5") as writer:
        writer.append_view(given)
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5"), np.asarray(given))


def test_planes_that_never_come_are_zeros(tmp_path: Path) -> None:
    stack = noise()
    with BdvWriter(tmp_path / "a.h5", subsamp=((1, 1, 1), (2, 2, 2))) as writer:
        writer.append_view(None, virtual_stack_dim=SHAPE)
        writer.append_plane(stack[3], 3)
    stack[[0, 1, 2, 4]] = 0
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5"), stack)
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5", level=1), block_means(stack, (2, 2, 2)))


def test_a_plane_may_come_again(tmp_path: Path) -> None:
    stack = noise()
    with BdvWriter(tmp_path / "a.h5", subsamp=((1, 1, 1), (2, 2, 2))) as writer:
        writer.append_view(None, virtual_stack_dim=SHAPE)
        for z in (0, 1, 2, 3, 4):
            writer.append_plane(stack[z], z)
        stack[1] = noise(seed=1)[1]
        writer.append_plane(stack[1], 1)
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5"), stack)
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5", level=1), block_means(stack, (2, 2, 2)))


def test_a_given_stack_wins_over_virtual_stack_dim(tmp_path: Path) -> None:
    with BdvWriter(tmp_path / "a.h5") as writer:
        writer.append_view(noise(), virtual_stack_dim=(100, 100, 100))
    np.testing.assert_array_equal(pixels(tmp_path / "a.h5"), noise())


# -- levels made afterwards ------------------------------------------------------------------------------


def test_create_pyramids(tmp_path: Path) -> None:
    stacks = [noise((9, 15, 17), seed=channel) for channel in range(2)]
    with BdvWriter(tmp_path / "a.h5", nchannels=3, blockdim=((2, 8, 8),)) as writer:
        for channel, stack in enumerate(stacks):
            writer.append_view(stack, channel=channel)
        writer.create_pyramids(((2, 2, 2), (4, 4, 8)), ((4, 4, 4),), "gzip")
        assert writer.nlevels == 3
        assert writer.subsamp.tolist() == [[1, 1, 1], [2, 2, 2], [4, 4, 8]]
        assert np.asarray(writer.chunks).tolist() == [[2, 8, 8], [4, 4, 4], [4, 4, 4]]
        assert writer.compression is None
        with pytest.raises(ValueError, match="there are 3 already"):
            writer.create_pyramids(((8, 8, 8),))
        writer.append_view(stacks[0], channel=2)  # later views have all levels
        writer.append_view(None, virtual_stack_dim=(9, 15, 17), time=1)
        for z, plane in enumerate(stacks[1]):
            writer.append_plane(plane, z, time=1)
    for time, setup, stack in ((0, 0, stacks[0]), (0, 1, stacks[1]), (0, 2, stacks[0]), (1, 0, stacks[1])):
        for level, factors in enumerate([(1, 1, 1), (2, 2, 2), (4, 4, 8)]):
            np.testing.assert_array_equal(
                pixels(tmp_path / "a.h5", time, setup, level), block_means(stack, factors)
            )
    with h5py.File(tmp_path / "a.h5") as file:
        filters = [file[f"t00000/s00/{level}/cells"].compression for level in range(3)]
        assert filters == [None, "gzip", "gzip"]
        assert file["s01/resolutions"][()].tolist() == [[1, 1, 1], [2, 2, 2], [8, 4, 4]]


def test_create_pyramids_between_planes(tmp_path: Path) -> None:
    stack = noise((8, 9, 10))
    with BdvWriter(tmp_path / "a.h5", nchannels=2) as writer:
        for channel in range(2):
            writer.append_view(None, virtual_stack_dim=stack.shape, channel=channel)
        for z in range(5):
            writer.append_plane(stack[z], z)
        writer.create_pyramids(((2, 2, 2),))
        for z in range(5, 8):
            writer.append_plane(stack[z], z)
        for z in range(8):
            writer.append_plane(stack[z], z, channel=1)
    for setup in range(2):
        for level, factors in enumerate([(1, 1, 1), (2, 2, 2)]):
            np.testing.assert_array_equal(
                pixels(tmp_path / "a.h5", 0, setup, level), block_means(stack, factors)
            )
