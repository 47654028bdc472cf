"""What can be converted into a dataset."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from npy2bdv.errors import FormatError, InvalidInputError, InvalidTypeError, NotFoundError
from npy2bdv.location import find_xml, suffix_of
from npy2bdv.sources.arrays import ArrayLike, ArraySource
from npy2bdv.sources.base import Source, SourceView
from npy2bdv.storage.servers import RemotePath, place_of

__all__ = ["Source", "SourceView", "names_dataset", "open_source"]

_TIFF = (".tif", ".tiff", ".btf", ".tf2", ".tf8")
_FILES = (*_TIFF, ".npy")


def is_pattern(path: Path) -> bool:
    """Tell whether a path has placeholders in braces, and is not itself there."""
    return "{" in str(path) and not path.exists()


def names_dataset(path: Path) -> bool:
    """Tell whether a path is that of a dataset: an XML, or pixels that an XML beside them describes.

    Pixels that are not there are taken for those of a dataset, too.
    """
    path = place_of(path)
    if isinstance(path, RemotePath):  # nothing else is read from there
        return True
    if is_pattern(path):
        return False
    named, suffix = suffix_of(path)
    if named is None or suffix == ".xml" or not path.exists():
        return suffix == ".xml" or named is not None
    try:
        find_xml(path)
    except NotFoundError:
        return False
    except InvalidInputError:  # several name it, which `open` explains
        return True
    return True


def open_source(
    source: "str | Path | ArrayLike",
    *,
    axes: str | None = None,
    voxel_size_xyz: Iterable[float] | None = None,
    unit: str | None = None,
) -> Source:
    """Open what is to be converted.

    Parameters
    ----------
    source
        A TIFF, .npy or .npz file; many TIFF or .npy files, by a pattern such as ``t{time}_c{channel}_x{tile}.tif`` (of
        ``time``, ``channel``, ``tile``, ``angle``, ``illumination``, ``z``), or a folder of planes; an image of
        OME-Zarr, an array of Zarr, or a dataset in N5 or HDF5, by its path, which goes on inside of a file:
        ``scan.h5/path/in/file``; or an array (anything with ``shape``, ``dtype`` and slicing).
    axes
        One letter for each axis, of t (time), c (channel), z, y, x, where the source does not say, or is
        wrong. Arrays and .npy files without them: 2 axes are yx, 3 zyx, 5 tczyx.
    voxel_size_xyz
        Size of a voxel (x, y, z), in place of what the source says.
    unit
        Its unit, in place of what the source says. Where nothing says, a given voxel size is in micrometers.

    Raises
    ------
    NotFoundError
        If there is no such file.
    FormatError
        If the file is of no kind that can be read, or damaged.
    InvalidInputError
        If the axes cannot be right, or are ambiguous.
    InvalidTypeError
        If the pixels are of a type that cannot be written, such as RGB or bool.

    Examples
    --------
    >>> import numpy as np
    >>> stack = np.zeros((3, 4, 5), "uint16")
    >>> with open_source(stack, voxel_size_xyz=(0.4, 0.4, 1.2)) as source:
    ...     view = source.views[0]
    ...     view.shape, view.unit, source.read(view, 0, 2).shape
    ((3, 4, 5), 'micrometer', (2, 4, 5))
    """
    opened = _open(source, axes)
    try:
        opened.calibrate(voxel_size_xyz, unit)
    except BaseException:
        opened.close()
        raise
    return opened


def _open(source: "str | Path | ArrayLike", axes: str | None) -> Source:
    if not isinstance(source, str | Path):
        if not all(hasattr(source, name) for name in ("shape", "dtype", "__getitem__")):
            raise InvalidTypeError(
                f"a {type(source).__name__} cannot be converted; give a path or an array: np.asarray(...)"
            )
        return ArraySource(source, axes=axes)
    path = Path(source)
    if is_pattern(path):
        from npy2bdv.sources.files import from_pattern

        return from_pattern(str(path), _FILES, partial(_open_file, axes=axes))
    if path.is_file() and (path.suffix.lower() in _FILES or not _is_hdf5(path)):
        return _open_file(path, axes)
    from npy2bdv.sources.npy import NpzSource

    if path.parent.is_file() and path.parent.suffix.lower() == ".npz":
        return NpzSource(path.parent, path.name, axes=axes)
    from npy2bdv.sources.paths import is_array, open_array

    if path.is_dir() and not is_array(path):
        from npy2bdv.sources.files import from_folder

        return from_folder(path, _FILES, partial(_open_file, axes=axes))
    return open_array(path, axes=axes)


def _open_file(path: Path, axes: str | None) -> Source:
    """Open a file that holds stacks, or a plane."""
    suffix = path.suffix.lower()
    if suffix in _TIFF:
        from npy2bdv.sources.tiff import TiffSource

        return TiffSource(path, axes=axes)
    if suffix in (".npy", ".npz"):
        from npy2bdv.sources.npy import NpySource, NpzSource

        return NpySource(path, axes=axes) if suffix == ".npy" else NpzSource(path, axes=axes)
    raise FormatError(
        f"{path} cannot be converted; give a TIFF ({', '.join(_TIFF)}), .npy, .npz or HDF5 file, or a folder"
    )


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"
