"""Give the space back that an HDF5 file holds after a crop, or after views were removed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from npy2bdv.errors import InUseError, InvalidInputError, NotFoundError
from npy2bdv.existing import refuse_unfinished
from npy2bdv.location import pixel_path, read_xml, suffix_of
from npy2bdv.model.spimdata import Hdf5Loader
from npy2bdv.storage.disk import bytes_on_disk, check_room
from npy2bdv.storage.fence import check_writable
from npy2bdv.storage.files import PART
from npy2bdv.storage.journal import Lock
from npy2bdv.storage.packing import check_alike, copy_packed, is_held, stored_bytes
from npy2bdv.storage.save import move, sync_folder
from npy2bdv.storage.servers import refuse_remote

if TYPE_CHECKING:
    import os
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Repacked:
    """What came of it.

    Attributes
    ----------
    path
        The file.
    bytes_before, bytes_after
        How many bytes it took on disk, and takes now. They are equal where there was nothing to be saved.
    """

    path: Path
    bytes_before: int
    bytes_after: int

    @property
    def saved(self) -> int:
        """How many bytes were given back."""
        return self.bytes_before - self.bytes_after


def repack(path: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None) -> Repacked:
    """Give back the space that an HDF5 file holds and nothing uses.

    HDF5 never gives space back: a file stays as long as it was when images are cropped or removed. Here all that is in
    it is copied into a new file, chunks as they lie (nothing is decompressed), with all groups, attributes and
    datasets of other programs; the copy is compared with the original byte by byte, and takes its name. A kill
    leaves the one or the other. Meanwhile both are on the disk. Where the copy would not be smaller, the file
    stays as it is.

    Parameters
    ----------
    path
        The XML of a dataset in HDF5, or the HDF5 file. Of a partitioned dataset the named file alone is repacked:
        give its partitions (``NAME-00-00.h5``) one by one.
    progress
        Called with bytes that were copied or compared, and how many these will be.

    Raises
    ------
    InUseError
        If another process writes the file, or has it open.
    InvalidInputError
        If the pixels are in N5 or OME-Zarr: folders of files, which hold no holes.
    FormatError
        If the file is damaged, an interrupted recording, or holds something that a copy would break.
    WriteError
        If the disk has no room for the copy.
    NotFoundError
        If there is no such file.
    """
    refuse_remote(path, "only HDF5 files on a disk are repacked", "there is nothing to repack")
    pixels = _pixels_of(Path(path)).absolute()
    lock = Lock(pixels)
    copy = pixels.with_name(f"{pixels.name}.packed{PART}")
    try:
        refuse_unfinished(pixels, locked=True)
        copy.unlink(missing_ok=True)  # of a repack that was killed
        if is_held(pixels):
            raise InUseError(
                f"{pixels} is open in another program, or in this one; close it there (Fiji: close the window of "
                "BigDataViewer), then repack it"
            )
        before = bytes_on_disk(pixels)
        needed = stored_bytes(pixels)
        check_room(pixels.parent, needed, f"a copy of {pixels.name}, until it has been checked,")
        done = 0

        def show(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            if progress is not None:
                progress(min(done, 2 * needed), 2 * needed)

        copy_packed(pixels, copy, show)
        check_alike(pixels, copy, show)
        after = bytes_on_disk(copy)
        if after >= before:
            return Repacked(path=pixels, bytes_before=before, bytes_after=before)
        shutil.copymode(pixels, copy)
        try:
            move(copy, pixels)
        except PermissionError as error:
            raise InUseError(
                f"{pixels} is open in another program, and cannot be replaced ({error}); close it there, then repack it"
            ) from error
        sync_folder(pixels.parent)
        return Repacked(path=pixels, bytes_before=before, bytes_after=after)
    finally:
        copy.unlink(missing_ok=True)
        lock.release()


def _pixels_of(path: Path) -> Path:
    """Return the HDF5 file that a path names, or whose XML it names."""
    named, suffix = suffix_of(path)
    if suffix == ".xml":
        if not path.is_file():
            raise NotFoundError(f"there is no XML {path}")
        data = read_xml(path)
        pixels = pixel_path(path, data)
        check_writable(pixels, path)
        if isinstance(data.loader, Hdf5Loader):
            return pixels
    elif named == "hdf5":
        if not path.is_file():
            raise NotFoundError(f"there is no HDF5 file {path}")
        return path
    else:
        pixels = path
    raise InvalidInputError(
        f"{pixels.name} is no HDF5 file; only these hold space that nothing uses (N5 and OME-Zarr give it back at once)"
    )
