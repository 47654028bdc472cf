"""Files of numpy's own format (.npy) as a source."""

from pathlib import Path

import numpy as np

from npy2bdv.errors import FormatError
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
