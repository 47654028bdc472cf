"""Arrays of Zarr v2 and v3: what their metadata says, where a chunk lies, and how it is stored.

Values and bytes only; no file is touched. Axes are those of the array, whatever their number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from npy2bdv.storage.base import RAW, Codec, Payload
from npy2bdv.storage.codecs import FAST_LEVEL, gzip, numcodecs, zstd

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from npy2bdv.model.pyramid import Zyx

CODECS: dict[str, range | None] = {"none": None, "gzip": range(10), "zstd": range(1, 23), "blosc": range(10)}
"""What we write, with its levels. Blosc is zstd behind a byte shuffle."""

METADATA_FILES = {".zgroup", ".zarray", ".zattrs", ".zmetadata", "zarr.json"}

_SHARD_SIDE = 1024
_SHARD_BYTES = 64 * 2**20  # before compression
_ABSENT = 2**64 - 1

_BLOSC_BLOCK = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayLayout:
    """How an array lies on disk.

    Attributes
    ----------
    zarr_version
        2 or 3.
    shape
        Size along each axis.
    chunk
        What is compressed together, along each axis.
    shard
        What lies in one file: a chunk, or chunks side by side (`sharded`).
    dtype
        Pixel type with its byte order on disk.
    codec
        How chunks are compressed; None where it is in a way that we do not write.
    compression
        The same in words.
    separator
        Between the numbers in a file's name.
    prefixed
        Whether that name begins with "c".
    sharded
        Whether a shard has a table of its chunks.
    """

    zarr_version: int
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]
    dtype: np.dtype[Any]
    codec: Codec | None
    compression: str
    separator: str = "/"
    prefixed: bool = False
    sharded: bool = False

    @property
    def per_shard(self) -> tuple[int, ...]:
        """How many chunks a shard has along each axis."""
        return tuple(outer // inner for outer, inner in zip(self.shard, self.chunk, strict=True))

    def key(self, place: Iterable[object]) -> str:
        """Return the name of the file that holds the shard at a place in the grid of shards."""
        numbers = map(str, place)
        return self.separator.join(("c", *numbers) if self.prefixed else numbers)


def layout_for(
    zarr_version: int, shape: tuple[int, ...], chunk: tuple[int, ...], dtype: np.dtype[Any], codec: Codec
) -> ArrayLayout:
    """Return how we lay out a new array: in Zarr v3 with shards as deep as one chunk."""
    codec = codec if codec.level is not None or codec == RAW else Codec(name=codec.name, level=FAST_LEVEL)
    sharded = zarr_version == 3
    return ArrayLayout(
        zarr_version=zarr_version,
        shape=shape,
        chunk=chunk,
        shard=_shard(shape, chunk, dtype.itemsize) if sharded else chunk,
        dtype=dtype.newbyteorder("<"),
        codec=codec,
        compression=_words(codec.name, codec.level),
        prefixed=zarr_version == 3,
        sharded=sharded,
    )


def _shard(shape: tuple[int, ...], chunk: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return a shard of about 1024 pixels along y and x, no larger than the image or `_SHARD_BYTES`."""
    sides = [
        max(1, min(_SHARD_SIDE // size, -(-n // size)))
        for n, size in zip(shape[-2:], chunk[-2:], strict=True)
    ]
    nbytes = math.prod(chunk) * itemsize
    while math.prod(sides) > 1 and math.prod(sides) * nbytes > _SHARD_BYTES:
        longer = sides.index(max(sides))
        sides[longer] = -(-sides[longer] // 2)
    return (*chunk[:-2], *(n * size for n, size in zip(sides, chunk[-2:], strict=True)))


# -- metadata --------------------------------------------------------------------------------------------


def to_json(layout: ArrayLayout, attributes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the metadata of an array that we write; `attributes` lie in a file of their own in Zarr v2."""
    codec = layout.codec
    assert codec is not None
    if layout.zarr_version == 2:
        return {
            "zarr_format": 2,
            "shape": list(layout.shape),
            "chunks": list(layout.chunk),
            "dtype": layout.dtype.str,
            "order": "C",
            "fill_value": 0,
            "filters": None,
            "dimension_separator": layout.separator,
            "compressor": _compressor_v2(codec),
        }
    inner: list[dict[str, Any]] = [_BYTES, *_compressor_v3(codec, layout.dtype)]
    codecs = inner
    if layout.sharded:
        shards = {
            "chunk_shape": list(layout.chunk),
            "codecs": inner,
            "index_codecs": [_BYTES, {"name": "crc32c"}],
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": shards}]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(layout.shape),
        "data_type": layout.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(layout.shard)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": layout.separator}},
        "fill_value": 0,
        "codecs": codecs,
        "dimension_names": list("tczyx")[-len(layout.shape) :],
        "attributes": dict(attributes or {}),
    }


_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


def _compressor_v2(codec: Codec) -> dict[str, Any] | None:
    if codec == RAW:
        return None
    if codec.name == "blosc":
        return {"id": "blosc", "cname": "zstd", "clevel": codec.level, "shuffle": 1, "blocksize": 0}
    return {"id": codec.name, "level": codec.level}


def _compressor_v3(codec: Codec, dtype: np.dtype[Any]) -> list[dict[str, Any]]:
    if codec == RAW:
        return []
    settings: dict[str, Any] = {"level": codec.level}
    if codec.name == "zstd":
        settings["checksum"] = False
    elif codec.name == "blosc":
        settings = {"cname": "zstd", "clevel": codec.level, "shuffle": "shuffle"}
        settings |= {"typesize": dtype.itemsize, "blocksize": 0}
    return [{"name": codec.name, "configuration": settings}]


def from_json(said: Mapping[str, Any]) -> ArrayLayout:
    """Return what the metadata of an array says, of any writer.

    Raises
    ------
    KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError
        If it is not that of an array of Zarr v2 or v3.
    """
    version = said["zarr_format"]
    if version == 2:
        return _checked(_from_v2(said))
    if version == 3:
        return _checked(_from_v3(said))
    raise ValueError(f"zarr_format {version!r} is not known, only 2 and 3 are")


def _checked(layout: ArrayLayout) -> ArrayLayout:
    """Refuse what no array can be, and names of files that lead elsewhere."""
    n_axes = len(layout.shape)
    for what, sizes, least in (
        ("shape", layout.shape, 0),
        ("chunk", layout.chunk, 1),
        ("shard", layout.shard, 1),
    ):
        if len(sizes) != n_axes or not all(least <= size < 2**63 for size in sizes):
            raise ValueError(f"its {what} is {sizes!r:.80}")
    if layout.separator not in (".", "/"):
        raise ValueError(f"its separator is {layout.separator!r:.40}")
    if layout.dtype.kind not in "iufb":
        raise ValueError(f"its type is {layout.dtype!r:.60}")
    return layout


def _from_v2(said: Mapping[str, Any]) -> ArrayLayout:
    packed, filters = said["compressor"], said.get("filters") or ()
    name, level = (
        ("none", None) if packed is None else (packed["id"], packed.get("level", packed.get("clevel")))
    )
    words = [_words(name, level), *(str(each["id"]) for each in filters)]
    chunk = tuple(map(int, said["chunks"]))
    ours = name in CODECS and not filters and said.get("order", "C") == "C"
    codec = Codec(name=name, level=level) if ours else None
    return ArrayLayout(
        zarr_version=2,
        shape=tuple(map(int, said["shape"])),
        chunk=chunk,
        shard=chunk,
        dtype=np.dtype(said["dtype"]),
        codec=codec if codec is not None and _compressor_v2(codec) == packed else None,
        compression=" + ".join(words),
        separator=said.get("dimension_separator", "."),
    )


def _from_v3(said: Mapping[str, Any]) -> ArrayLayout:
    shard = tuple(map(int, said["chunk_grid"]["configuration"]["chunk_shape"]))
    codecs, chunk, sharded = said["codecs"], shard, False
    if codecs[0]["name"] == "sharding_indexed":
        sharded = True
        chunk = tuple(map(int, codecs[0]["configuration"]["chunk_shape"]))
        codecs = codecs[0]["configuration"]["codecs"]
    endian = next((_of(each, "endian") for each in codecs if each["name"] == "bytes"), None)
    dtype = np.dtype(said["data_type"]).newbyteorder(">" if endian == "big" else "<")
    packed = [each for each in codecs if each["name"] not in ("bytes", "crc32c")]
    words = [_words(each["name"], _of(each, "level", _of(each, "clevel"))) for each in packed]
    codec = RAW
    if packed and packed[0]["name"] in CODECS:
        codec = Codec(name=packed[0]["name"], level=_of(packed[0], "level", _of(packed[0], "clevel")))
    ours = [each["name"] for each in codecs] == [
        "bytes",
        *(each["name"] for each in _compressor_v3(codec, dtype)),
    ]
    encoding = said["chunk_key_encoding"]
    prefixed = encoding["name"] == "default"
    return ArrayLayout(
        zarr_version=3,
        shape=tuple(map(int, said["shape"])),
        chunk=chunk,
        shard=shard,
        dtype=dtype,
        codec=codec if ours else None,
        compression=" + ".join(words) or "none",
        separator=_of(encoding, "separator", "/" if prefixed else "."),
        prefixed=prefixed,
        sharded=sharded,
    )


def _of(codec: Mapping[str, Any], name: str, default: Any = None) -> Any:
    return (codec.get("configuration") or {}).get(name, default)


def _words(name: str, level: int | None) -> str:
    return name if level is None else f"{name} {level}"


# -- chunks and shards -----------------------------------------------------------------------------------


def encode_chunk(layout: ArrayLayout, block: NDArray[Any]) -> Payload:
    """Return a whole, contiguous chunk as it lies on disk; uncompressed, it shares the block's memory."""
    codec = layout.codec
    assert codec is not None, "a chunk of an array that we can only read"
    stored = block.astype(layout.dtype, copy=False)
    if codec.name == "gzip":
        return gzip(stored.reshape(-1).view(np.uint8), codec.level)
    if codec.name == "zstd":
        return zstd(stored, codec.level)
    if codec.name == "blosc":
        # 1: shuffle of bytes; in one block where it is not large: twice as fast as the small ones that blosc
        # chooses, and smaller
        packed: bytes = numcodecs().blosc.compress(
            stored, b"zstd", codec.level, 1, min(stored.nbytes, _BLOSC_BLOCK)
        )
        return packed
    return stored.reshape(-1).view(np.uint8).data


def shard_parts(layout: ArrayLayout, chunks: Iterable[tuple[Zyx, Payload]]) -> list[Payload]:
    """Return a shard: its chunks, given with their places (z, y, x), then their offsets and lengths, checked.

    Chunks that are left out are absent, which means zero.
    """
    per_shard = layout.per_shard[-3:]
    index = np.full((*per_shard, 2), _ABSENT, "<u8")
    payloads = []
    offset = 0
    for place, payload in chunks:
        index[tuple(i % n for i, n in zip(place, per_shard, strict=True))] = offset, len(payload)
        offset += len(payload)
        payloads.append(payload)
    table = index.tobytes()
    return [*payloads, table, crc32c(table).to_bytes(4, "little")]


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of a few bytes.

    Examples
    --------
    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC_TABLE = _crc_table()
