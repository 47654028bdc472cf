"""All formats alike: what is written through one protocol is read back, by us and by libraries of the medium.

A format joins with one `Medium` in MEDIA.
"""

import json
import pickle
import shutil
import struct
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numcodecs.blosc
import numcodecs.zstd
import numpy as np
import pytest
import tensorstore
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.cli import main
from npy2bdv.errors import ClosedError, ExistsError, InvalidInputError, InvalidTypeError
from npy2bdv.model.spimdata import ViewId
from npy2bdv.storage import FORMATS, card_of
from npy2bdv.storage.base import FormatCard

SHAPE = (11, 37, 29)
FACTORS = ((1, 1, 1), (1, 2, 4), (4, 2, 4))
CHUNK = (4, 8, 16)

Reader = Callable[[Path, int, int, int], NDArray[Any]]
"""Reads a level, given by time point, setup and level, from the pixels at a path."""


def by_h5py(path: Path, time: int, setup: int, level: int) -> NDArray[Any]:
    with h5py.File(path) as file:
        stored: NDArray[Any] = file[f"t{time:05d}/s{setup:02d}/{level}/cells"][()]
        return stored.view("uint16") if stored.dtype == np.int16 and is_uint16(file, setup) else stored


def is_uint16(file: h5py.File, setup: int) -> bool:
    return "dataType" not in file[f"s{setup:02d}"].attrs


def by_tensorstore(path: Path, time: int, setup: int, level: int) -> NDArray[Any]:
    folder = f"{path}/setup{setup}/timepoint{time}/s{level}/"
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": folder}}
    pixels: NDArray[Any] = tensorstore.open(spec, read=True).result().T.read(order="C").result()
    return pixels


def by_z5py(path: Path, time: int, setup: int, level: int) -> NDArray[Any]:
    import z5py

    with z5py.File(str(path), "r", use_zarr_format=False) as file:
        pixels: NDArray[Any] = file[f"setup{setup}/timepoint{time}/s{level}"][:]
        return pixels


DECODERS: Mapping[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "gzip": lambda data: zlib.decompress(data, zlib.MAX_WBITS + 16),
    "zstd": numcodecs.zstd.decompress,
    "blosc": numcodecs.blosc.decompress,
}


def by_hand(path: Path, time: int, setup: int, level: int) -> NDArray[Any]:
    """Every file as the specification has it: no block is longer than the image."""
    folder = path / f"setup{setup}/timepoint{time}/s{level}"
    told = json.loads((folder / "attributes.json").read_bytes())
    codec = told["compression"]["type"]
    pixels = np.zeros(told["dimensions"][::-1], told["dataType"])
    for file in folder.glob("*/*/*"):
        place = [int(part) for part in file.relative_to(folder).parts]
        mode, n_axes, *size = struct.unpack(">HH3I", file.read_bytes()[:16])
        assert (mode, n_axes) == (0, 3)
        start = [index * width for index, width in zip(place, told["blockSize"], strict=True)]
        whole = zip(told["blockSize"], told["dimensions"], start, strict=True)
        assert size == [min(width, full - first) for width, full, first in whole]
        data = DECODERS[codec](file.read_bytes()[16:])
        block = np.frombuffer(data, pixels.dtype.newbyteorder(">")).reshape(size[::-1])
        inside = (slice(first, first + width) for first, width in zip(start, size, strict=True))
        pixels[tuple(inside)[::-1]] = block
    return pixels


N5_READERS: dict[str, Reader] = {"tensorstore": by_tensorstore, "by hand": by_hand}
if find_spec("z5py"):  # Linux only
    N5_READERS["z5py"] = by_z5py


def by_zarr_python(path: Path, time: int, setup: int, level: int) -> NDArray[Any]:
    import zarr

    array: Any = zarr.open_array(path / f"s{setup}-t{time}.zarr/{level}", mode="r")
    pixels: NDArray[Any] = array[0, 0]
    return pixels


def by_tensorstore_as_zarr(path: Path, time: int, setup: int, level: int) -> NDArray[Any]:
    folder = path / f"s{setup}-t{time}.zarr/{level}"
    driver = "zarr3" if (folder / "zarr.json").is_file() else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{folder}/"}}
    pixels: NDArray[Any] = tensorstore.open(spec, read=True).result()[0, 0].read().result()
    return pixels


ZARR_READERS: dict[str, Reader] = {"zarr-python": by_zarr_python, "tensorstore": by_tensorstore_as_zarr}


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """A format, and the readers by other people that judge it."""

    card: FormatCard
    readers: Mapping[str, Reader]


MEDIA = (
    Medium(card=card_of("hdf5"), readers={"h5py": by_h5py}),
    Medium(card=card_of("n5"), readers=N5_READERS),
    Medium(card=card_of("omezarr", 2), readers=ZARR_READERS),
    Medium(card=card_of("omezarr", 3), readers=ZARR_READERS),
)

media = pytest.mark.parametrize(
    "medium", MEDIA, ids=lambda each: f"{each.card.name}{each.card.zarr_version or ''}"
)
cases = pytest.mark.parametrize(
    ("medium", "codec", "dtype"),
    [
        pytest.param(each, codec, dtype, id=f"{each.card.name}{each.card.zarr_version or ''}-{codec}-{dtype}")
        for each in MEDIA
        for codec in each.card.codecs
        for dtype in each.card.pixel_types
    ],
)


def pixels_of(dtype: str) -> NDArray[Any]:
    """All bits of all values that occur; one block of zeros."""
    kind = np.dtype(dtype)
    rng = np.random.default_rng(7)
    if kind.kind == "f":
        pixels = rng.standard_normal(SHAPE).astype(kind)
    else:
        limits = np.iinfo(kind)
        pixels = rng.integers(limits.min, limits.max, SHAPE, kind, endpoint=True)
    pixels[4:8, 8:16, :16] = 0
    return pixels


def create(
    folder: Path, medium: Medium, codec: str | None = "default", **options: Any
) -> npy2bdv.DatasetWriter:
    card = medium.card
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", f"compression '{codec}'", UserWarning)
        return npy2bdv.create(
            folder / "a.xml",
            format=card.name,
            zarr_version=card.zarr_version,
            compression=codec,
            **{"levels": FACTORS, "chunks": CHUNK, **options},
        )


def check(folder: Path, medium: Medium, pixels: NDArray[Any], *, time: int = 0, setup: int = 0) -> None:
    """Read all levels by all readers, and by us."""
    path = folder / f"a{medium.card.suffixes[0]}"
    wanted = [npy2bdv.downsample(pixels, factors) for factors in FACTORS]
    with npy2bdv.open(folder / "a.xml") as dataset:
        view = dataset.view(time=time, setup=setup)
        assert view.n_levels == len(FACTORS)
        for level, expected in enumerate(wanted):
            found = view.level(level)[...]
            assert found.dtype == view.level(level).dtype == expected.dtype
            assert found.tobytes() == expected.tobytes()
            np.testing.assert_array_equal(view.level(level)[1:, 5:, 3:7], expected[1:, 5:, 3:7])
    for name, read in medium.readers.items():
        for level, expected in enumerate(wanted):
            found = read(path, time, setup, level)
            assert found.dtype == expected.dtype, name
            np.testing.assert_array_equal(found, expected, err_msg=f"{name}, level {level}")


@cases
def test_round_trip(tmp_path: Path, medium: Medium, codec: str, dtype: str) -> None:
    pixels = pixels_of(dtype)
    before = pixels.copy()
    with create(tmp_path, medium, codec) as writer:
        setup = writer.add_setup(shape=SHAPE, dtype=dtype)
        writer.write(pixels, setup=setup)
        with writer.stream(setup=setup, time=1) as view:
            for z in np.random.default_rng(0).permutation(SHAPE[0]).tolist():
                view.put(pixels[z : z + 1], z)
    np.testing.assert_array_equal(pixels, before)  # callers' memory is theirs
    for time in (0, 1):
        check(tmp_path, medium, pixels, time=time)


@media
class TestEveryFormat:
    def test_several_open_views_blocks_and_missing_ones(self, tmp_path: Path, medium: Medium) -> None:
        pixels = pixels_of("uint16")
        with create(tmp_path, medium) as writer:
            setups = [writer.add_setup(shape=SHAPE, channel=channel) for channel in range(3)]
            views = [writer.stream(setup=setup, time=1) for setup in setups]
            for y in range(0, SHAPE[1], 10):
                for view in views[:2]:
                    view.put(pixels[:, y : y + 10], 0, y)
        for setup in setups[:2]:
            check(tmp_path, medium, pixels, time=1, setup=setup)
        with npy2bdv.open(tmp_path / "a.xml") as dataset:
            assert len(dataset) == 2
            assert set(dataset.missing_views) == {(0, 0), (0, 1), (0, 2), (1, 2)}
            assert set(dataset.container.views()) == {(1, 0), (1, 1)}

    @pytest.mark.parametrize("depth", [1, 4, 9, 11])
    def test_unknown_length(self, tmp_path: Path, medium: Medium, depth: int) -> None:
        pixels = pixels_of("uint16")[:depth]
        with create(tmp_path, medium) as writer:
            setup = writer.add_setup(shape=(None, *SHAPE[1:]))
            with writer.stream(setup=setup) as view:
                for frame in pixels:
                    view.append(frame)
        check(tmp_path, medium, pixels)

    def test_planes_that_never_come_are_zero(self, tmp_path: Path, medium: Medium) -> None:
        pixels = pixels_of("uint16")
        with create(tmp_path, medium) as writer:
            setup = writer.add_setup(shape=SHAPE)
            with writer.stream(setup=setup) as view:
                view.put(pixels[:3], 0)
                view.put(pixels[9:], 9)
        pixels[3:9] = 0
        check(tmp_path, medium, pixels)

    def test_a_view_that_was_given_up_leaves_nothing(self, tmp_path: Path, medium: Medium) -> None:
        pixels = pixels_of("uint16")
        with create(tmp_path, medium) as writer:
            setup = writer.add_setup(shape=SHAPE)
            first = writer.stream(setup=setup)
            first.put(pixels + np.uint16(1), 0)
            writer.checkpoint()
            first.abort()
            with writer.stream(setup=setup) as view:
                view.put(pixels[:5], 0)
            writer.write(pixels, setup=setup, time=1)
            with writer.stream(setup=setup, time=1, replace_view=True) as view:
                view.put(pixels[:5], 0)
            writer.stream(setup=setup, time=2).abort()
        pixels[5:] = 0
        for time in (0, 1):
            check(tmp_path, medium, pixels, time=time)
        with npy2bdv.open(tmp_path / "a.xml") as dataset:
            assert len(dataset) == 2

    def test_overwrite_replaces_and_is_asked_for(self, tmp_path: Path, medium: Medium) -> None:
        pixels = pixels_of("uint16")
        for _ in range(2):
            with create(tmp_path, medium, overwrite=True) as writer:
                writer.write(pixels, setup=writer.add_setup(shape=SHAPE))
        with pytest.raises(ExistsError, match="overwrite=True"):
            create(tmp_path, medium)
        check(tmp_path, medium, pixels)
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"a.xml", "a.xml~1", f"a{medium.card.suffixes[0]}"}

    def test_folders_and_files_of_others_are_not_replaced(self, tmp_path: Path, medium: Medium) -> None:
        pixels = tmp_path / f"a{medium.card.suffixes[0]}"
        pixels.mkdir()
        (pixels / "thesis.txt").write_text("precious")
        with pytest.raises(ExistsError, match="no dataset that could be replaced"):
            create(tmp_path, medium, overwrite=True)
        assert [path.name for path in tmp_path.rglob("*")] == [pixels.name, "thesis.txt"]
        (pixels / "thesis.txt").unlink()
        with pytest.raises(ExistsError, match="no dataset that could be replaced"):
            create(tmp_path, medium, overwrite=True)

    @pytest.mark.parametrize(
        "may_have_colons",
        [False, pytest.param(True, marks=pytest.mark.posix)],
        ids=["common", "not on Windows"],
    )
    def test_names_of_any_kind(self, tmp_path: Path, medium: Medium, may_have_colons: bool) -> None:
        folder = tmp_path / "50% größer #2"
        folder.mkdir()
        pixels = pixels_of("uint16")
        for name in ("a b", "ä#1", "100%", "a%20b", *(("a:b", "aux") if may_have_colons else ())):
            path = folder / f"{name}{medium.card.suffixes[0]}"
            with npy2bdv.create(path, zarr_version=medium.card.zarr_version, chunks=CHUNK) as writer:
                writer.write(pixels, setup=writer.add_setup(shape=SHAPE))
            with npy2bdv.open(path) as dataset:
                np.testing.assert_array_equal(dataset.view(time=0)[...], pixels)
                assert dataset.container.path.name == path.name

    def test_resave_there_and_back(self, tmp_path: Path, medium: Medium) -> None:
        pixels = pixels_of("uint16")
        with npy2bdv.create(tmp_path / "source.xml") as writer:
            for channel in range(2):
                setup = writer.add_setup(shape=SHAPE, channel=channel, voxel_size_xyz=(0.3, 0.3, 1.1))
                writer.write(pixels + np.uint16(channel), setup=setup)
        options: dict[str, Any] = {"levels": FACTORS, "chunks": CHUNK}
        card = medium.card
        npy2bdv.resave(
            tmp_path / "source.xml",
            tmp_path / "a.xml",
            format=card.name,
            zarr_version=card.zarr_version,
            overwrite=True,
            **options,
        )
        npy2bdv.resave(tmp_path / "a.xml", tmp_path / "back.xml", format="hdf5", **options)
        for channel in range(2):
            check(tmp_path, medium, pixels + np.uint16(channel), setup=channel)
        with npy2bdv.open(tmp_path / "back.xml") as dataset:
            view = dataset.view(time=0, channel="1")
            np.testing.assert_array_equal(view[...], pixels + np.uint16(1))
            assert view.voxel_size_xyz == (0.3, 0.3, 1.1)

    def test_interrupted(self, tmp_path: Path, medium: Medium) -> None:
        """A copy made in the middle is what a kill leaves; no checkpoint, no journal but for the rows in part."""
        pixels = pixels_of("uint16")
        folder = tmp_path / "killed"
        with create(tmp_path, medium) as writer:
            setup = writer.add_setup(shape=SHAPE)
            with writer.stream(setup=setup) as view:
                for frame in pixels[:6]:
                    view.append(frame)
                assert writer.checkpoint(sync=True) == {(0, 0): 6}
                shutil.copytree(tmp_path, folder, ignore=shutil.ignore_patterns("killed", "*.lock"))
        (report,) = npy2bdv.recover(folder / "a.xml")
        assert (report.planes, report.missing) == (6, ((6, 11),))
        pixels[6:] = 0
        check(folder, medium, pixels)
        with npy2bdv.open(folder / "a.xml") as dataset:
            assert dataset.unfinished == ""

    def test_views_of_which_nothing_came_are_gone_after_recover(self, tmp_path: Path, medium: Medium) -> None:
        pixels = pixels_of("uint16")
        folder = tmp_path / "killed"
        with create(tmp_path, medium) as writer:
            setup = writer.add_setup(shape=SHAPE)
            writer.write(pixels, setup=setup, time=1)
            writer.stream(setup=setup, time=2)
            with writer.stream(setup=setup, time=3) as view:
                view.put(pixels, 0)
                view.abort()
            writer.checkpoint()
            card, codec = medium.card, medium.card.codec("default")
            pyramid = writer.known(setup).pyramid
            # what a kill within the declaration of a view leaves: no journal knows of it
            writer.container.declare(ViewId(4, 0), pyramid, np.dtype("uint16"), codec)
            writer.container.flush()
            shutil.copytree(tmp_path, folder, ignore=shutil.ignore_patterns("killed", "*.lock"))
            writer.container.remove(ViewId(4, 0))
        if card.name == "n5":
            (folder / "a.n5/setup0/timepoint4/s0/attributes.json").unlink()
        elif card.name == "omezarr":
            for name in (".zattrs", "zarr.json"):
                (folder / "a.ome.zarr/s0-t4.zarr" / name).unlink(missing_ok=True)
        assert {each.view: each.planes for each in npy2bdv.recover(folder / "a.xml")} == {
            (1, 0): 11,
            (2, 0): 0,
        }
        check(folder, medium, pixels, time=1)
        with npy2bdv.open(folder / "a.xml") as dataset:
            assert list(dataset.container.views()) == [(1, 0)]
            assert dataset.missing_views == ((0, 0),)
        if card.name == "omezarr":
            assert [each.name for each in (folder / "a.ome.zarr").glob("s*")] == ["s0-t1.zarr"]

    @pytest.mark.parametrize("reached", [1, 2])
    def test_interrupted_while_levels_were_added(self, tmp_path: Path, medium: Medium, reached: int) -> None:
        """Views that were not reached have all levels after recover, as those that were."""
        pixels = pixels_of("uint16")
        folder = tmp_path / "killed"
        with create(tmp_path, medium, levels=FACTORS[:1]) as writer:
            setup = writer.add_setup(shape=SHAPE)
            for time in range(3):
                writer.write(pixels + np.uint16(time), setup=setup, time=time)
            writer.checkpoint()
            add_levels, done = writer.container.add_levels, 0

            def killed(*which: Any) -> Any:
                nonlocal done
                if done == reached:
                    writer.container.flush()
                    shutil.copytree(tmp_path, folder, ignore=shutil.ignore_patterns("killed", "*.lock"))
                done += 1
                return add_levels(*which)

            writer.container.add_levels = killed  # type: ignore[method-assign, assignment]
            list(writer.add_levels(FACTORS[1:], CHUNK, medium.card.codec("gzip")))
        assert [each.planes for each in npy2bdv.recover(folder / "a.xml")] == [11] * 3
        for place in (folder, tmp_path):
            for time in range(3):
                check(place, medium, pixels + np.uint16(time), time=time)

    def test_memory_is_bounded(self, tmp_path: Path, medium: Medium) -> None:
        """A camera that does not wait is told so; one that waits loses nothing."""
        rng = np.random.default_rng(0)
        frames = rng.integers(0, 65535, (40, 100, 120), "uint16")
        limit = 40 * frames[0].nbytes
        queued = []
        with create(tmp_path, medium, max_memory=limit) as writer:
            setups = [writer.add_setup(shape=frames.shape, channel=channel) for channel in range(3)]
            views = [writer.stream(setup=setup) for setup in setups]
            for frame in frames:
                for view in views:
                    view.append(frame)
                    queued.append(writer.stats().bytes_queued)
        assert max(queued) <= limit
        for setup in setups:
            check(tmp_path, medium, frames, setup=setup)

    def test_the_command(self, tmp_path: Path, medium: Medium, capsys: pytest.CaptureFixture[str]) -> None:
        pixels = tmp_path / "killed" / f"a{medium.card.suffixes[0]}"
        with create(tmp_path, medium) as writer, writer.stream(setup=writer.add_setup(shape=SHAPE)) as view:
            view.put(pixels_of("uint16")[:6], 0)
            writer.checkpoint()
            shutil.copytree(tmp_path, pixels.parent, ignore=shutil.ignore_patterns("killed", "*.lock"))
        assert main(["info", str(pixels)]) == 0
        assert "npy2bdv recover" in capsys.readouterr().out
        assert main(["recover", str(pixels)]) == 0
        assert "6 of 11" in capsys.readouterr().out
        assert main(["info", str(pixels)]) == 0
        shown = capsys.readouterr().out
        assert f"{medium.card.loader} (a{medium.card.suffixes[0]}" in shown
        assert "4,8,16" in shown

    def test_what_it_cannot_hold_is_refused_first(self, tmp_path: Path, medium: Medium) -> None:
        with pytest.raises(InvalidInputError, match="'rot13' is not known"):
            create(tmp_path, medium, "rot13")
        assert list(tmp_path.iterdir()) == []
        with create(tmp_path, medium, chunks=(2**10, 2**11, 2**11)) as writer:
            with pytest.raises(InvalidInputError, match="choose a smaller one"):
                writer.add_setup(shape=(2**10, 2**11, 2**11), dtype="uint16")
            with pytest.raises(InvalidTypeError, match="complex64"):
                writer.add_setup(shape=SHAPE, dtype="complex64")

    def test_a_container_pickles_and_closes(self, tmp_path: Path, medium: Medium) -> None:
        pixels = pixels_of("uint16")
        with create(tmp_path, medium) as writer:
            writer.write(pixels, setup=writer.add_setup(shape=SHAPE))
        with npy2bdv.open(tmp_path / "a.xml") as dataset:
            with pickle.loads(pickle.dumps(dataset.container)) as container:
                whole = tuple(slice(0, size) for size in SHAPE)
                np.testing.assert_array_equal(container.level(ViewId(0, 0), 0).read(whole), pixels)
            container.close()
            with pytest.raises(ClosedError, match="is closed"):
                container.level(ViewId(0, 0), 0)


def test_every_format_is_here() -> None:
    assert {medium.card.name for medium in MEDIA} == set(FORMATS)
    assert all(medium.readers for medium in MEDIA)


@pytest.mark.parametrize(
    ("medium", "codec"),
    [
        pytest.param(each, codec, id=f"{each.card.name}-{codec}")
        for each in MEDIA
        for codec in each.card.cautions
    ],
)
def test_codecs_that_programs_lack_warn_once(tmp_path: Path, medium: Medium, codec: str) -> None:
    with pytest.warns(UserWarning, match=f"compression '{codec}'") as warned:
        npy2bdv.create(tmp_path / "a.xml", format=medium.card.name, compression=codec).close()
    assert len(warned) == 1
