"""Copy an HDF5 file without the holes in it: chunks as they lie, everything else as HDF5 copies it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, BinaryIO

import h5py
import numpy as np

from npy2bdv.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Chunks = NDArray[np.int64]
    """A row for each chunk: its place in the file, its bytes, its filter mask, its first pixel (z, y, x ...)."""

_PIECE = 4 * 2**20


def stored_bytes(path: Path) -> int:
    """Return about how many bytes a file takes without holes.

    Raises
    ------
    FormatError
        If it is no HDF5 file.
    """
    with opened(path) as file:
        images = sum(each.id.get_storage_size() for each in _datasets(file))
        return int(images) + 2**20 + path.stat().st_size // 50  # tables of chunks, names


def opened(path: Path) -> h5py.File:
    """Open a file for reading.

    Raises
    ------
    FormatError
        If it is no HDF5 file.
    """
    try:
        return h5py.File(path, "r", locking="best-effort", rdcc_nbytes=0)
    except OSError as error:
        raise FormatError(f"{path} cannot be opened as HDF5 ({error}); nothing has been changed") from error


def is_held(path: Path) -> bool:
    """Tell whether HDF5 of another program, or of this one, has a file open, as far as the system tells.

    On Windows it does not: a file that is held cannot be replaced there.
    """
    if os.name == "nt":
        return False
    import fcntl

    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a network drive without locks
            return False
        fcntl.flock(file, fcntl.LOCK_UN)
    return False


def copy_packed(source: Path, target: Path, progress: Callable[[int], None]) -> None:
    """Copy a file; `progress` is told of the bytes of chunks that were copied.

    Raises
    ------
    FormatError
        If the file holds what a copy would break: references to objects, or a foreign part before HDF5's.
    """
    with opened(source) as old, source.open("rb", buffering=0) as raw:
        if old.userblock_size:
            raise FormatError(f"{source} begins with a part of another program; it cannot be packed")
        made = h5py.h5p.create(h5py.h5p.FILE_CREATE)
        made.set_link_creation_order(old.id.get_create_plist().get_link_creation_order())
        access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
        access.set_libver_bounds(h5py.h5f.LIBVER_EARLIEST, h5py.h5f.LIBVER_LATEST)
        access.set_cache(0, 0, 0, 0.0)
        name: Any = os.fsencode(target)
        with h5py.File(h5py.h5f.create(name, h5py.h5f.ACC_EXCL, fcpl=made, fapl=access)) as new:
            _copy_attributes(old, new)
            _copy_group(old, new, raw, {_key(old): "/"}, progress)
    with target.open("r+b") as file:
        os.fsync(file.fileno())


def _copy_group(
    old: h5py.Group, new: h5py.Group, raw: BinaryIO, seen: dict[Any, str], progress: Callable[[int], None]
) -> None:
    for name in old:
        link = old.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            new[name] = link
            continue
        each = old[name]
        known = seen.setdefault(_key(each), each.name)
        if known != each.name:
            new[name] = new.file[known]
            continue
        if isinstance(each, h5py.Group):
            made = h5py.h5g.create(new.id, name.encode(), gcpl=each.id.get_create_plist())
            group = h5py.Group(made)
            _copy_attributes(each, group)
            _copy_group(each, group, raw, seen, progress)
        elif isinstance(each, h5py.Dataset) and each.chunks and each.dtype.kind in "biuf":
            _copy_image(each, new, name, raw, progress)
        else:
            _refuse_references(each)
            h5py.h5o.copy(old.id, name.encode(), new.id, name.encode())


def _copy_attributes(old: h5py.Group | h5py.Dataset, new: h5py.Group | h5py.Dataset) -> None:
    for index in range(h5py.h5a.get_num_attrs(old.id)):
        found = h5py.h5a.open(old.id, index=index)
        _refuse_odd(old.name, found.dtype)
        value: NDArray[Any] = np.empty(found.shape, found.dtype)
        found.read(value)
        kind = found.get_type().copy()
        h5py.h5a.create(new.id, found.name, kind, found.get_space()).write(value)


def _refuse_references(each: h5py.HLObject) -> None:
    if isinstance(each, h5py.Dataset):
        for name in each.dtype.names or ():
            _refuse_odd(each.name, each.dtype[name])
        _refuse_odd(each.name, each.dtype)
        for index in range(h5py.h5a.get_num_attrs(each.id)):
            _refuse_odd(each.name, h5py.h5a.open(each.id, index=index).dtype)


def _refuse_odd(what: str, dtype: np.dtype[Any]) -> None:
    length = h5py.check_vlen_dtype(dtype)
    inner = dtype if length is None else np.dtype(length)
    if h5py.check_ref_dtype(inner) is not None:
        raise FormatError(
            f"{what} holds references to objects, which a copy would break; it cannot be packed"
        )


def _copy_image(
    old: h5py.Dataset, new: h5py.Group, name: str, raw: BinaryIO, progress: Callable[[int], None]
) -> None:
    """Copy a chunked dataset, chunks as they lie. Of one whose space is reserved, zeros stay unwritten."""
    properties = old.id.get_create_plist()
    image = h5py.h5d.create(new.id, name.encode(), old.id.get_type(), old.id.get_space(), properties)
    _copy_attributes(old, h5py.Dataset(image))
    reserved = (
        properties.get_alloc_time() == h5py.h5d.ALLOC_TIME_EARLY
        and properties.get_fill_time() == h5py.h5d.FILL_TIME_NEVER
    )
    for offset, nbytes, mask, *start in _chunks(old).tolist():
        data = _read(raw, offset, nbytes)
        if not (reserved and data.count(0) == len(data)):
            image.write_direct_chunk(tuple(start), data, mask)
        progress(nbytes)


def _chunks(image: h5py.Dataset) -> Chunks:
    """Return where the chunks of a dataset lie, in the order of the file. One pass: O(n)."""
    found: list[tuple[int, ...]] = []
    if image.id.get_num_chunks():
        image.id.chunk_iter(
            lambda info: found.append((info.byte_offset, info.size, info.filter_mask, *info.chunk_offset))
        )
    rows = np.array(found, np.int64).reshape(len(found), 3 + image.ndim)
    return rows[np.argsort(rows[:, 0], kind="stable")]


def _read(file: BinaryIO, offset: int, nbytes: int) -> bytes:
    file.seek(offset)
    parts, left = [], nbytes
    while left:
        part = file.read(left)
        if not part:  # a file that ends before its last chunk, whose rest is zero
            parts.append(bytes(left))
            break
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


# ------------------------------------------------------------------------------------------------ checking


def check_alike(old: Path, new: Path, progress: Callable[[int], None]) -> None:
    """Compare a copy with its original, object by object and byte by byte.

    Raises
    ------
    FormatError
        If anything differs.
    """
    with (
        opened(old) as first,
        opened(new) as second,
        old.open("rb", buffering=0) as raw_first,
        new.open("rb", buffering=0) as raw_second,
    ):
        objects, links = _listed(first)
        if (objects, links) != _listed(second):
            raise _differs(new, "it does not hold the same objects and links")
        for name in objects:
            a, b = first[name], second[name]
            if {key: _plain(value) for key, value in a.attrs.items()} != {
                key: _plain(value) for key, value in b.attrs.items()
            }:
                raise _differs(new, f"the attributes of {name}")
            if not isinstance(a, h5py.Dataset):
                continue
            if a.id.get_type() != b.id.get_type() or a.shape != b.shape or not _same_storage(a, b):
                raise _differs(new, name)
            if a.chunks and a.dtype.kind in "biuf":
                _compare_chunks(a, b, raw_first, raw_second, new, progress)
            elif a.shape is not None and not a.is_virtual and not a.external:
                _compare_values(a, b, new)


def _plain(value: Any) -> object:
    """Return the value of an attribute as something that can be compared."""
    return (str(value.dtype), value.tolist()) if isinstance(value, np.ndarray | np.generic) else value


def _compare_values(a: h5py.Dataset, b: h5py.Dataset, new: Path) -> None:
    row = a.dtype.itemsize * (a.size // len(a)) if a.ndim and len(a) else 1
    step = max(1, _PIECE // row)
    parts = [slice(at, at + step) for at in range(0, len(a), step)] if a.ndim else [()]
    for part in parts:
        first, second = np.asarray(a[part]), np.asarray(b[part])
        if first.dtype.hasobject:  # texts, or rows of different lengths
            same = [_plain(each) for each in first.flat] == [_plain(each) for each in second.flat]
        else:
            same = first.tobytes() == second.tobytes()
        if not same:
            raise _differs(new, a.name)


def _same_storage(a: h5py.Dataset, b: h5py.Dataset) -> bool:
    return (a.chunks, a.maxshape, a.is_virtual, a.external) == (
        b.chunks,
        b.maxshape,
        b.is_virtual,
        b.external,
    )


def _compare_chunks(
    a: h5py.Dataset,
    b: h5py.Dataset,
    raw_a: BinaryIO,
    raw_b: BinaryIO,
    new: Path,
    progress: Callable[[int], None],
) -> None:
    first, second = _chunks(a), _chunks(b)
    places = {tuple(row[3:]): row[:3] for row in second.tolist()}
    if len(first) != len(places):
        raise _differs(new, a.name)
    for offset, nbytes, mask, *start in first.tolist():
        there, size, other = places.get(tuple(start), (0, -1, 0))
        if (size, other) != (nbytes, mask) or _read(raw_a, offset, nbytes) != _read(raw_b, there, size):
            raise _differs(new, f"the chunk that begins at {tuple(start)} of {a.name}")
        progress(nbytes)


def _differs(new: Path, what: str) -> FormatError:
    return FormatError(f"the copy {new.name} differs from the original: {what}; the original stays as it was")


def _listed(file: h5py.File) -> tuple[list[str], dict[str, str]]:
    """Return the path of each object by its first hard link, and what all other links point to."""
    objects, links = ["/"], {}
    seen = {_key(file): "/"}
    groups = [file["/"]]
    while groups:
        group = groups.pop()
        for name in sorted(group):
            path = f"{group.name.rstrip('/')}/{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                links[path] = f"{type(link).__name__} {getattr(link, 'filename', '')} {link.path}"
                continue
            each = group[name]
            known = seen.setdefault(_key(each), path)
            if known != path:
                links[path] = known
                continue
            objects.append(path)
            if isinstance(each, h5py.Group):
                groups.append(each)
    return objects, links


def _key(each: h5py.HLObject) -> tuple[int, int]:
    found = h5py.h5o.get_info(each.id)
    return found.fileno, found.addr


def _datasets(file: h5py.File) -> Iterator[h5py.Dataset]:
    """Iterate over the datasets of a file, each once."""
    for name in _listed(file)[0]:
        each = file[name]
        if isinstance(each, h5py.Dataset):
            yield each
