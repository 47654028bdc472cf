"""Reading past HDF5's filters, compared with h5py."""

import ctypes
import subprocess
import sys
import zlib
from collections.abc import Iterator
from io import BytesIO
from itertools import cycle, product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from npy2bdv.errors import FormatError
from npy2bdv.storage import direct
from npy2bdv.storage.cells import CellsReader
from npy2bdv.storage.codecs import deflate, inflate, shuffle, unshuffle
from npy2bdv.storage.direct import DecodedChunks, can_read, needs_no_cache, read_region

WHOLE = (slice(None), slice(None), slice(None))
DTYPES = ["<u1", "<i1", "<u2", "<i2", ">u2", ">i4", "<u4", "<i8", ">u8", "<f4", ">f8"]

KINDS = st.lists(
    st.sampled_from(["missing", "by h5py", "as it is", "deflated", "shuffled", "both"]),
    min_size=1,
    max_size=9,
)

FILL_TIMES = [h5py.h5d.FILL_TIME_NEVER, h5py.h5d.FILL_TIME_IFSET, h5py.h5d.FILL_TIME_ALLOC]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[h5py.File]:
    with h5py.File(tmp_path / "a.h5", "w", libver="earliest") as opened:
        yield opened


def noise(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


def assert_same(cells: h5py.Dataset, region: Any, threads: int | None) -> None:
    expected = cells[region]
    found = read_region(cells, region, threads=threads)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def assert_same_with_cache(cells: h5py.Dataset, region: Any, cache: DecodedChunks) -> None:
    np.testing.assert_array_equal(read_region(cells, region, cache=cache), cells[region], strict=True)


def places(cells: h5py.Dataset) -> list[tuple[int, ...]]:
    return list(product(*(range(0, n, size) for n, size in zip(cells.shape, cells.chunks, strict=True))))


# ---------------------------------------------------------------------------------- whatever a file may hold


@given(st.data())
@settings(deadline=None)  # files take their time
def test_equals_h5py(data: st.DataObject) -> None:
    sizes = st.tuples(*[st.integers(1, 9)] * 3)
    shape, chunk, grown = data.draw(sizes), data.draw(sizes), data.draw(sizes)
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    shuffled = data.draw(st.booleans())
    threads = data.draw(st.sampled_from([1, 3]))
    memory = BytesIO()
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_fill_time(data.draw(st.sampled_from(FILL_TIMES)))
    with h5py.File(memory, "w", libver="earliest") as file:
        cells = file.create_dataset(
            "cells",
            shape,
            dtype,
            chunks=chunk,
            maxshape=(None, None, None),
            compression="gzip",
            shuffle=shuffled,
            fillvalue=data.draw(st.sampled_from([None, 7])),
            dcpl=layout,
        )
        for place, kind in zip(places(cells), cycle(data.draw(KINDS)), strict=False):
            block = noise(chunk, dtype.str)
            match kind:
                case "by h5py":
                    inside = tuple(slice(0, n - at) for n, at in zip(shape, place, strict=True))
                    box = tuple(slice(at, at + n) for at, n in zip(place, chunk, strict=True))
                    cells[box] = block[inside]
                case "as it is":
                    cells.id.write_direct_chunk(place, block.tobytes(), 0b11 if shuffled else 0b1)
                case "deflated":
                    skipped = 0b01 if shuffled else 0b00
                    cells.id.write_direct_chunk(place, zlib.compress(block.tobytes()), skipped)
                case "shuffled" if shuffled:
                    cells.id.write_direct_chunk(place, shuffle(block).tobytes(), 0b10)
                case "both" if shuffled:
                    cells.id.write_direct_chunk(place, deflate(shuffle(block), 1))
    # opened again, because HDF5 forgets the filter mask of the chunk that it wrote last
    with h5py.File(memory, "r+") as file:
        if data.draw(st.booleans()):
            file["cells"].resize(grown)
    with h5py.File(memory, "r") as file:
        cells = file["cells"]
        cuts = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in cells.shape]
        region = tuple(slice(*cut) for cut in cuts)
        assert can_read(cells)
        assert_same(cells, region, threads)
        assert_same(cells, WHOLE, threads)
        cache = DecodedChunks(data.draw(st.sampled_from([0, 100, 10_000])))
        for each in (region, WHOLE, region, WHOLE):
            assert_same_with_cache(cells, each, cache)
        assert sum(block.nbytes for block in cache._blocks.values()) == cache._nbytes <= cache._max_bytes


@pytest.mark.parametrize("threads", [None, 1, 4])
def test_many_chunks_in_threads(file: h5py.File, threads: int | None) -> None:
    image = noise((25, 200, 300), "<i2")
    cells = file.create_dataset("cells", data=image, chunks=(4, 64, 128), compression="gzip", shuffle=True)
    np.testing.assert_array_equal(read_region(cells, WHOLE, threads=threads), image)
    part = (slice(3, 22), slice(60, 199), slice(-260, None))
    np.testing.assert_array_equal(read_region(cells, part, threads=threads), image[part])


def test_an_image_of_which_nothing_was_written(file: h5py.File) -> None:
    cells = file.create_dataset("cells", (9, 9, 9), "<i2", chunks=(4, 4, 4), compression="gzip", fillvalue=3)
    np.testing.assert_array_equal(read_region(cells, WHOLE), np.full((9, 9, 9), 3))


def test_pixels_that_only_lie_in_the_cache_of_hdf5(file: h5py.File) -> None:
    cells = file.create_dataset("cells", (8, 8, 8), "<i2", chunks=(4, 4, 4), compression="gzip")
    cells[:4] = 1
    np.testing.assert_array_equal(read_region(cells, WHOLE)[3:5, 0, 0], [1, 0])
    file.flush()
    cells[2:6] = 5
    np.testing.assert_array_equal(read_region(cells, WHOLE)[1:7, 0, 0], [1, 5, 5, 5, 5, 0])


@pytest.mark.skipif(sys.platform == "win32", reason="the library inside h5py cannot be called from outside")
def test_chunks_on_the_border_that_hdf5_left_unfiltered(file: h5py.File) -> None:
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk((4, 8, 8))
    layout.set_shuffle()
    layout.set_deflate(4)
    set_options = ctypes.CDLL(h5py.h5p.__file__).H5Pset_chunk_opts
    set_options.argtypes = [ctypes.c_int64, ctypes.c_uint]
    assert set_options(layout.id, 0x2) >= 0  # H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS
    space = h5py.h5s.create_simple((6, 20, 20))
    cells = h5py.Dataset(h5py.h5d.create(file.id, b"cells", h5py.h5t.STD_I16LE, space, layout))
    cells[:] = np.arange(6 * 20 * 20).reshape(6, 20, 20)
    assert cells.id.read_direct_chunk((4, 16, 16))[0] == 0
    assert_same(cells, WHOLE, 1)


def test_real_data(real_data: Path) -> None:
    found = 0
    for path in sorted(real_data.rglob("*.h5")):
        with h5py.File(path, "r") as file:
            for time in (group for name, group in file.items() if name.startswith("t0")):
                for level in time.values():
                    cells = level["0/cells"]
                    if can_read(cells) and cells.size < 2**24:
                        assert_same(cells, WHOLE, None)
                        found += 1
    assert found


# ------------------------------------------------------------------------------------------------- refusals


def gzip(file: h5py.File, **options: Any) -> h5py.Dataset:
    given = {"shape": (8, 8, 8), "dtype": "<i2", "chunks": (4, 4, 4), "compression": "gzip"} | options
    return file.create_dataset("cells", **given)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"shuffle": True}, True),
        ({"compression": None}, False),
        ({"compression": None, "shuffle": True}, False),
        ({"compression": "lzf"}, False),
        ({"fletcher32": True}, False),
        ({"compression": None, "chunks": None}, False),
        ({"scaleoffset": 4}, False),
        ({"shape": (8, 8), "chunks": (4, 4)}, False),
        ({"dtype": "c8"}, False),
        ({"dtype": [("a", "<i2")]}, False),
    ],
)
def test_what_is_left_to_h5py(file: h5py.File, options: dict[str, Any], expected: bool) -> None:
    assert can_read(gzip(file, **options)) is expected


def test_numbers_with_unused_bits_are_left_to_h5py(file: h5py.File) -> None:
    twelve_bits = h5py.h5t.STD_I16LE.copy()
    twelve_bits.set_precision(12)
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk((4, 4, 4))
    layout.set_deflate(1)
    space = h5py.h5s.create_simple((8, 8, 8))
    cells = h5py.Dataset(h5py.h5d.create(file.id, b"cells", twelve_bits, space, layout))
    assert not can_read(cells)


STREAM = zlib.compress(noise((4, 4, 4), "<i2").tobytes())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (STREAM[:-9], "incomplete"),
        (STREAM[:-1] + bytes([STREAM[-1] ^ 1]), "checksum"),
        (b"no stream at all", "damaged"),
        (zlib.compress(b"short"), "holds 5 bytes where 128 were expected"),
        (zlib.compress(bytes(129)), "holds 129 bytes where 128 were expected"),
    ],
)
def test_a_damaged_chunk_is_named(
    file: h5py.File, monkeypatch: pytest.MonkeyPatch, payload: bytes, reason: str, threads: int
) -> None:
    monkeypatch.setattr(direct, "_TASK_BYTES", 1)  # one chunk to a task: threads are used
    cells = gzip(file)
    cells[:] = 1
    file.flush()
    cells.id.write_direct_chunk((4, 0, 4), payload)
    with pytest.raises(FormatError, match=rf"a\.h5/cells .* \(4, 0, 4\) is damaged .*{reason}"):
        read_region(cells, WHOLE, threads=threads)
    assert_same(cells, (slice(0, 4), slice(None), slice(None)), threads)


@pytest.mark.parametrize("skipped", [0b1, 0b0])
def test_a_damaged_chunk_that_hdf5_is_asked_for(file: h5py.File, skipped: int) -> None:
    """Not compressed although it should be, or of the wrong length although it is not compressed."""
    cells = gzip(file)
    cells.id.write_direct_chunk((4, 0, 4), bytes(128 - skipped), skipped)
    cells.id.refresh()  # else HDF5 forgets the filter mask of the chunk that it wrote last
    with pytest.raises(FormatError, match=r"\(4, 0, 4\) is damaged"):
        read_region(cells, WHOLE)


def test_a_file_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "cut.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("early", data=1)
        file.create_dataset("cells", data=noise((8, 64, 64), "<i4"), chunks=(4, 64, 64), compression="gzip")
    with h5py.File(path, "r") as file:
        last = file["cells"].id.get_chunk_info(1)
        # the library refuses to open a file that is shorter than it says, so only the chunk is spoiled
    spoiled = bytearray(path.read_bytes())
    spoiled[last.byte_offset + 100 : last.byte_offset + last.size] = bytes(last.size - 100)
    path.write_bytes(spoiled)
    with h5py.File(path, "r") as file, pytest.raises(FormatError, match=r"\(4, 0, 0\) is damaged"):
        read_region(file["cells"], WHOLE)


# ------------------------------------------------------------------------------------------- when it is used


@pytest.mark.parametrize(
    ("shape", "region", "expected"),
    [
        ((64, 512, 512), np.s_[:, :, :], True),
        ((64, 512, 512), np.s_[4:8, :512, :512], True),
        ((64, 512, 512), np.s_[4:6, :, :], True),  # half of each chunk
        ((64, 512, 512), np.s_[5:6, :, :], False),  # a plane, one of four in its chunks
        ((64, 512, 512), np.s_[:, 5:6, :], False),  # a section
        ((64, 512, 512), np.s_[:4, :256, :512], False),  # two chunks
        ((64, 512, 512), np.s_[3:30, 70:134, 70:134], True),  # a box
        ((64, 512, 512), np.s_[5:5, :, :], False),
        ((1, 1024, 1024), np.s_[:, :, :], True),  # all there is
        ((64, 4096, 4096), np.s_[5:6, :, :], True),  # a plane whose chunks the cache cannot hold
    ],
)
def test_slices_of_a_walk_are_kept(
    tmp_path: Path, shape: tuple[int, ...], region: Any, expected: bool
) -> None:
    with h5py.File(tmp_path / "a.h5", "w", rdcc_nbytes=64 * 2**20) as file:
        cells = file.create_dataset(
            "cells", shape, "<i2", chunks=(4, 256, 256), maxshape=(None,) * 3, compression="gzip"
        )
        assert needs_no_cache(cells, region) is expected


def test_a_walk_decodes_each_chunk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise((8, 40, 40), "<i2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("cells", data=image, chunks=(4, 20, 40), compression="gzip")
    decoded: list[int] = []

    def counted(data: bytes, size: int) -> bytes:
        decoded.append(size)
        return inflate(data, size)

    monkeypatch.setattr(direct, "inflate", counted)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        reader = CellsReader(file["cells"])
        for z in range(8):
            np.testing.assert_array_equal(
                reader.read((slice(z, z + 1), slice(None), slice(None))), image[[z]]
            )
        assert len(decoded) == 4
        reader.read(WHOLE)
        assert len(decoded) == 8  # the whole would only take memory
    with h5py.File(tmp_path / "a.h5", "r+") as file:  # chunks may be written: none is kept
        assert CellsReader(file["cells"])._cache is None


@pytest.mark.benchmark
def test_the_benchmark_runs() -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "read_gzip.py"
    small = ["--size", "256", "--planes", "8", "--rounds", "1"]
    done = subprocess.run(
        [sys.executable, script, *small], capture_output=True, encoding="utf-8", timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "| direct, shuffle, gzip 1 |" in done.stdout
    assert "| 8 sections (z, x) (npy2bdv keeps chunks) |" in done.stdout


# ---------------------------------------------------------------------------------------------------- codecs


@pytest.mark.parametrize("dtype", DTYPES)
def test_unshuffle_undoes_the_filter_of_hdf5(file: h5py.File, dtype: str) -> None:
    image = (
        np.random.default_rng(0).integers(0, 256, (4, 3, 5 * np.dtype(dtype).itemsize), np.uint8).view(dtype)
    )
    cells = file.create_dataset("cells", data=image, chunks=image.shape, shuffle=True)
    stored = cells.id.read_direct_chunk((0, 0, 0))[1]
    found = unshuffle(stored, cells.dtype)
    assert found.dtype == cells.dtype
    assert found.tobytes() == image.tobytes()


@given(st.binary(max_size=999), st.integers(0, 9))
def test_inflate_undoes_zlib(data: bytes, level: int) -> None:
    assert inflate(zlib.compress(data, level), len(data)) == data
