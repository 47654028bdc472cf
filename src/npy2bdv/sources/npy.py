"""Files of numpy's own formats (.npy, .npz) as a source."""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npy2bdv.errors import FormatError, MissingKeyError
from npy2bdv.sources.arrays import ArraySource


class NpySource(ArraySource):
    """Reads stacks from a .npy file, which is mapped into memory read-only.

    Parameters
    ----------
    path
        The file.
    axes
        As in `ArraySource`.

    Raises
    ------
    FormatError
        If the file is no array of numbers, or cut short.
    """

    def __init__(self, path: Path, *, axes: str | None = None) -> None:
        try:
            array = np.lib.format.open_memmap(path, mode="r")
        except (ValueError, EOFError) as error:
            raise FormatError(f"{path} cannot be read as .npy: {error}") from error
        super().__init__(array, axes=axes)


class NpzSource(ArraySource):
    """Reads stacks from an array in a .npz file, a few planes at a time; those in Fortran's order as a whole.

    Parameters
    ----------
    path
        The file.
    name
        The array; not needed where there is only one.
    axes
        As in `ArraySource`.

    Raises
    ------
    MissingKeyError
        If there is no such array, or it is not said which of several.
    FormatError
        If the file cannot be read, or is cut short.
    """

    def __init__(self, path: Path, name: str = "", *, axes: str | None = None) -> None:
        self._zip: zipfile.ZipFile | None = None
        try:
            self._zip = zipfile.ZipFile(path)
            names = [each.removesuffix(".npy") for each in self._zip.namelist() if each.endswith(".npy")]
            chosen = names[0] if len(names) == 1 and not name else name
            if chosen not in names:
                raise MissingKeyError(
                    f"{path} holds the arrays {', '.join(names) or '(none)'}; give one of them: {path.name}/NAME"
                )
            super().__init__(_Zipped(self._zip, f"{chosen}.npy", path), axes=axes)
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            self._let_go()
            if isinstance(error, FileNotFoundError | PermissionError):
                raise
            raise FormatError(f"{path} cannot be read as .npz: {error}") from error
        except BaseException:
            self._let_go()
            raise

    def _let_go(self) -> None:
        if self._zip is not None:
            self._zip.close()

    def _close(self) -> None:
        super()._close()
        self._let_go()


class _Zipped:
    """An array in a zip archive: what is read is decompressed from where the last reading ended, if it can be."""

    def __init__(self, archive: zipfile.ZipFile, member: str, path: Path) -> None:
        self._path = path
        self._file = archive.open(member)
        try:
            version = np.lib.format.read_magic(self._file)
            read = np.lib.format.read_array_header_1_0
            if version >= (2, 0):
                read = np.lib.format.read_array_header_2_0
            self.shape, in_columns, self.dtype = read(self._file)
        except ValueError as error:
            raise FormatError(f"{member} in {path} is no array of numbers: {error}") from error
        self._begin = self._file.tell()
        self._whole: NDArray[Any] | None = None
        expected = self._begin + math.prod(self.shape) * self.dtype.itemsize
        if not self.dtype.hasobject and archive.getinfo(member).file_size != expected:
            raise FormatError(f"{member} in {path} is cut short: it should have {expected} bytes")
        if in_columns and not self.dtype.hasobject:
            self._whole = self._bytes(0, math.prod(self.shape)).reshape(self.shape[::-1]).T

    def __getitem__(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        if self._whole is not None:
            found: NDArray[Any] = self._whole[key]
            return found
        first, depth = 0, 0
        for number, length in zip(key, self.shape, strict=True):
            if isinstance(number, slice):
                break
            first = first * length + number  # what is chosen by a number lies in one piece
            depth += 1
        chosen, *rest = key[depth:]  # y and x are never chosen by a number
        shape = self.shape[depth:]
        assert isinstance(chosen, slice)
        start, stop, _ = chosen.indices(shape[0])
        row = math.prod(shape[1:])
        part = self._bytes((first * shape[0] + start) * row, (stop - start) * row)
        return part.reshape(stop - start, *shape[1:])[(slice(None), *rest)]

    def _bytes(self, first: int, count: int) -> NDArray[Any]:
        self._file.seek(self._begin + first * self.dtype.itemsize)
        data = self._file.read(count * self.dtype.itemsize)
        if len(data) < count * self.dtype.itemsize:
            raise FormatError(f"{self._path} is cut short; copy it again")
        return np.frombuffer(data, self.dtype)
