"""Chunks as bytes: what HDF5's own filters make and take is the judge."""

import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from npy2bdv.errors import FormatError
from npy2bdv.storage.codecs import FAST_LEVEL, deflate, inflate, shuffle, unshuffle

TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")
_BLOCKS = st.sampled_from(TYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6))
)


@given(_BLOCKS)
@settings(max_examples=60, deadline=None)
def test_shuffle_sorts_bytes_by_significance(block: np.ndarray[Any, np.dtype[Any]]) -> None:
    raw = block.tobytes()
    size = block.itemsize
    wanted = b"".join(raw[k::size] for k in range(size))
    assert shuffle(block).tobytes() == wanted
    np.testing.assert_array_equal(unshuffle(wanted, block.dtype).reshape(block.shape), block)


@pytest.mark.parametrize("dtype", TYPES)
def test_filters_of_hdf5_read_our_chunks_and_make_those_that_we_read(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(0)
    block = (rng.standard_normal((3, 4, 5)) * 100).astype(dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        ours, theirs = (
            file.create_dataset(
                name, (3, 4, 5), dtype, chunks=(3, 4, 5), compression="gzip", compression_opts=1, shuffle=True
            )
            for name in ("ours", "theirs")
        )
        ours.id.write_direct_chunk((0, 0, 0), deflate(shuffle(block), 1))
        theirs[...] = block
        np.testing.assert_array_equal(ours[...], block)
        _, stored = theirs.id.read_direct_chunk((0, 0, 0))
    found = unshuffle(inflate(stored, block.nbytes), block.dtype)
    np.testing.assert_array_equal(found.reshape(block.shape), block)


@pytest.mark.parametrize("level", [None, *range(10)])
@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_every_level_is_a_plain_zlib_stream(level: int | None, size: int) -> None:
    data = np.random.default_rng(1).integers(0, 9, size, np.uint8)
    stored = deflate(data, level)
    assert zlib.decompress(stored) == data.tobytes()
    assert bytes(inflate(stored, size)) == data.tobytes()
    if size > 1 and level != 0:
        assert len(stored) < size


def test_the_fast_level_costs_little_size() -> None:
    data = shuffle(np.random.default_rng(2).poisson(200, (4, 64, 64)).astype("uint16"))
    assert deflate(data, None) == deflate(data, FAST_LEVEL)
    assert len(deflate(data, None)) < 1.05 * len(deflate(data, 9))


@pytest.mark.parametrize("damage", ["empty", "short", "spoiled", "longer than told"])
def test_damaged_streams_are_refused(damage: str) -> None:
    stored = deflate(np.arange(200, dtype=np.uint8), 1)
    damaged = {"empty": b"", "short": stored[:10], "spoiled": stored[:-10] + b"0123456789"}.get(
        damage, stored
    )
    with pytest.raises(FormatError, match="the compressed data"):
        inflate(damaged, 100 if damage == "longer than told" else 200)
