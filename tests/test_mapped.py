"""Reading uncompressed HDF5 images through a memory map, compared with h5py; and when it is not done."""

import math
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import npy2bdv
from npy2bdv.model.slicing import chunks_of
from npy2bdv.storage.cells import CellsReader
from npy2bdv.storage.mapped import ChunkMap, can_map, is_worth_it

DTYPES = ["<u1", "<i1", "<u2", "<i2", ">u2", ">i4", "<u4", "<i8", ">u8", "<f4", ">f8"]


def noise(shape: tuple[int, ...], dtype: str = "<i2") -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


@given(st.data())
@settings(deadline=None)  # files take their time
def test_equals_h5py(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    sizes = st.tuples(*[st.integers(1, 9)] * 3)
    shape, chunk, grown = data.draw(sizes), data.draw(sizes), data.draw(sizes)
    dtype = data.draw(st.sampled_from(DTYPES))
    path = tmp_path_factory.mktemp("map") / "a.h5"
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    fill_times = [h5py.h5d.FILL_TIME_NEVER, h5py.h5d.FILL_TIME_IFSET, h5py.h5d.FILL_TIME_ALLOC]
    layout.set_fill_time(data.draw(st.sampled_from(fill_times)))
    contiguous = data.draw(st.booleans())
    with h5py.File(path, "w", libver="earliest") as file:
        options: dict[str, Any] = {} if contiguous else {"chunks": chunk, "maxshape": (None,) * 3}
        fill = data.draw(st.sampled_from([None, 7]))
        cells = file.create_dataset("cells", shape, dtype, fillvalue=fill, dcpl=layout, **options)
        if contiguous:
            cells[...] = noise(shape, dtype)
        else:
            for place in product(*(range(0, n, size) for n, size in zip(shape, chunk, strict=True))):
                if data.draw(st.booleans()):
                    cells.id.write_direct_chunk(place, noise(chunk, dtype).tobytes())
            if data.draw(st.booleans()):
                cells.resize(grown)
    with h5py.File(path, "r") as file:
        cells = file["cells"]
        assert can_map(cells)
        mapped = ChunkMap.of(cells)
        assert mapped is not None
        assert mapped.is_current
        cuts = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in cells.shape]
        for region in (tuple(slice(*cut) for cut in cuts), (slice(None),) * 3):
            expected = cells[region]
            found = mapped.read(region)  # type: ignore[arg-type]
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        file.create_dataset("cells", data=noise((20, 64, 64)), chunks=(4, 16, 16))
    return path


BOX = (slice(3, 9), slice(10, 13), slice(2, 5))


def test_small_boxes_are_mapped_when_it_pays(path: Path) -> None:
    with h5py.File(path, "r") as file:
        reader = CellsReader(file["cells"])
        for _ in range(40):  # 2 chunks each, of 80
            np.testing.assert_array_equal(reader.read(BOX), noise((20, 64, 64))[BOX])
        assert reader._map is not None


def test_a_large_part_is_left_to_hdf5(path: Path) -> None:
    with h5py.File(path, "r") as file:
        reader = CellsReader(file["cells"])
        for _ in range(3):
            np.testing.assert_array_equal(reader.read((slice(None),) * 3), noise((20, 64, 64)))
        assert reader._fetched == 0
        assert reader._map is None


def test_asking_for_all_offsets_waits_until_it_pays() -> None:
    chunk = 4 * 256 * 256 * 2
    assert is_worth_it(16, chunk, 400)
    assert not is_worth_it(16, chunk, 1_000_000)
    assert is_worth_it(1_000_000, 100, 1_000_000)
    assert chunks_of((slice(3, 5), slice(0, 1), slice(7, 7)), (9, 9, 9), (4, 4, 4)) == 0
    assert chunks_of((slice(3, 5), slice(0, 1), slice(0, 9)), (9, 9, 9), (4, 4, 4)) == 6


@pytest.mark.parametrize(
    "change",
    [
        "longer",
        "shorter",
        "touched",
        "journal",
        pytest.param("gone", marks=pytest.mark.posix),
    ],
)
def test_a_file_that_changes_is_not_mapped_any_more(change: str, path: Path) -> None:
    with h5py.File(path, "r") as file:
        reader = CellsReader(file["cells"])
        for _ in range(40):
            reader.read(BOX)
        mapped = reader._map
        assert mapped is not None
        if change == "journal":
            path.with_name("scan.h5.journal").touch()
        elif change == "gone":
            path.rename(path.with_name("other.h5"))
        elif change == "touched":
            text = path.read_bytes()
            path.write_bytes(text)
        else:
            with path.open("r+b") as raw:
                raw.truncate(path.stat().st_size + (100 if change == "longer" else -1))
        assert not mapped.is_current
        reader.read((slice(0, 1), slice(0, 3), slice(0, 3)))
        assert reader._map is None
        for _ in range(40):
            reader.read((slice(0, 1), slice(0, 3), slice(0, 3)))
        assert reader._map is None


def test_what_is_not_mapped(path: Path, tmp_path: Path) -> None:
    with h5py.File(path, "r+") as file:
        assert not can_map(file["cells"])  # it may be written
        file.create_dataset("packed", data=noise((4, 8, 8)), chunks=(4, 8, 8), compression="gzip")
        file.create_dataset("flat", data=noise((8, 8)))
        file.create_dataset("raw", (4, 8, 8), "i2", external=[("raw.bin", 0, 512)])
        file.create_dataset("flags", data=noise((4, 8, 8)) > 50)
    with h5py.File(path, "r") as file:
        for name in ("packed", "flat", "raw", "flags"):
            assert not can_map(file[name]), name
        assert can_map(file["cells"])
    with h5py.File(tmp_path / "block.h5", "w", userblock_size=512) as file:
        file.create_dataset("cells", data=noise((4, 8, 8)))
    with h5py.File(tmp_path / "block.h5", "r") as file:
        assert not can_map(file["cells"])
    path.with_name("scan.h5.journal").touch()
    with h5py.File(path, "r") as file:
        assert ChunkMap.of(file["cells"]) is None


def test_an_image_without_a_single_chunk_is_mapped(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("cells", (64, 64, 64), "<i2", chunks=(64, 64, 64))
    with h5py.File(tmp_path / "a.h5", "r") as file:
        mapped = ChunkMap.of(file["cells"])
        assert mapped is not None
        assert not mapped.read(BOX).any()


def test_chunks_beyond_the_end_are_not_mapped(path: Path, tmp_path: Path) -> None:
    """The file has become shorter since it was opened."""
    with h5py.File(path, "r") as file:
        cells = file["cells"]
        size = math.prod(cells.chunks) * 2
        whole = path.read_bytes()
        with path.open("r+b") as raw:
            raw.truncate(len(whole) - size)
        assert ChunkMap.of(cells) is None
        path.write_bytes(whole)


def test_a_view_is_read_through_the_map(tmp_path: Path) -> None:
    stack = np.random.default_rng(2).integers(0, 60_000, (16, 64, 64)).astype("uint16")
    npy2bdv.resave(stack, tmp_path / "scan.xml", compression=None)
    with npy2bdv.open(tmp_path / "scan.xml") as dataset:
        view = dataset.view()
        for z, y, x in np.random.default_rng(3).integers(0, 12, (30, 3)):
            box = np.s_[z : z + 4, y : y + 9, x : x + 9]
            np.testing.assert_array_equal(view[box], stack[box])
        level: Any = dataset.container.level(view.id, 0)
        assert level._reader._map is not None
        np.testing.assert_array_equal(view[3], stack[3])
    assert level._reader._map is None
    (tmp_path / "scan.h5").unlink()  # Windows would not let it go if it were mapped
