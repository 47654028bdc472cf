"""Plain arrays by their path as a source: HDF5, N5, Zarr, OME-Zarr."""

from pathlib import Path

from npy2bdv.model.units import unit_name
from npy2bdv.sources.arrays import ArraySource
from npy2bdv.sources.labels import Labels, one_unit, placed
from npy2bdv.storage.arrays import ArrayNote, PlainArray, is_array, open_plain_array

__all__ = ["PathSource", "is_array", "open_array"]


class PathSource(ArraySource):
    """Reads stacks from an array in files."""

    def __init__(self, array: PlainArray, *, axes: str | None = None) -> None:
        self._plain = array
        super().__init__(array, axes=axes or array.note.axes, labels=_labels(array.note))

    def _close(self) -> None:
        super()._close()
        self._plain.close()


def open_array(path: Path, *, axes: str | None = None) -> PathSource:
    """Open an array by its path; axes, sizes, position and channels are those that the files say."""
    array = open_plain_array(path)
    try:
        return PathSource(array, axes=axes)
    except BaseException:
        array.close()
        raise


def _labels(note: ArrayNote) -> Labels:
    units = [unit_name(note.units.get(axis, "")) for axis in "xyz"]
    if note.scales and "z" not in note.scales:
        units[2] = units[0]
    labels = one_unit([note.scales.get(axis) for axis in "xyz"], units)
    places = [note.translations.get(axis, 0.0) for axis in "xyz"]
    if any(places):
        labels = placed(labels, places, units)
    return labels._replace(channels=note.channels, notes=(*note.notes, *labels.notes))
