"""Open a dataset and read it lazily: `Dataset` -> `View` -> `Level` -> numpy."""

from __future__ import annotations

import logging
from collections import Counter
from html import escape
from typing import TYPE_CHECKING, Any

from npy2bdv.errors import (
    ClosedError,
    InUseError,
    InvalidInputError,
    MissingKeyError,
    NotInDatasetError,
    WriteError,
)
from npy2bdv.handle import Handle
from npy2bdv.location import find_xml, open_pixels, read_xml, why_not_read
from npy2bdv.model.box import Box
from npy2bdv.model.spimdata import ATTRIBUTES, ViewId
from npy2bdv.storage.journal import Lock, journal_path
from npy2bdv.storage.pending import pending
from npy2bdv.storage.servers import RemotePath, place_of
from npy2bdv.view import Level, View

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import pandas

    from npy2bdv.model.spimdata import SpimData, ViewSetup
    from npy2bdv.storage.base import Pixels

__all__ = ["Dataset", "Level", "View", "open"]

logger = logging.getLogger(__name__)

_HTML_ROWS = 30


def open(path: str | os.PathLike[str], *, confine: bool = False) -> Dataset:  # noqa: A001
    """Open a dataset of BigDataViewer or BigStitcher for reading. No byte on disk changes.

    Pixels may lie in HDF5, N5, OME-Zarr (both with ``npy2bdv[zarr]``), or TIFF files of a project that was not
    resaved. They are read when they are asked for.

    Parameters
    ----------
    path
        The XML, or the pixels beside it (``NAME.h5``, ``NAME.n5``, ``NAME.ome.zarr``): then the XML is the one of
        that name, or the one in the folder that names them. It may lie on a server: ``s3://bucket/scan.xml``, ``gs://``,
        ``http(s)://``; so may the N5 or OME-Zarr that an XML on this machine names. Credentials are taken from the
        environment (``AWS_...``), and each call waits for 30 s (``NPY2BDV_REMOTE_TIMEOUT``) and a second for each
        megabyte, not longer.
    confine
        Refuse pixels that lie outside of the XML's folder, on a server or elsewhere, as the XML or links in an HDF5
        file may name them; for datasets of people whom you do not know.

    Raises
    ------
    NotFoundError
        If the XML or the pixels are not there.
    FormatError
        If they are not what they should be. Where the XML names an image loader that is not read, this
        comes when pixels are asked for; everything else is there.
    InvalidInputError
        If several XMLs describe the pixels.
    RemoteError
        If a server does not answer in time, or refuses.

    Examples
    --------
    >>> import numpy as np, npy2bdv, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     xml = npy2bdv.resave(np.arange(60).reshape(3, 4, 5).astype("uint16"), f"{folder}/scan.xml")
    ...     with npy2bdv.open(xml) as dataset:
    ...         print(dataset)
    ...         dataset.view(time=0, tile=0)[1, ::-1, 2]
    <Dataset scan.xml: 1 time points x 1 setups>
    array([37, 32, 27, 22], dtype=uint16)
    """
    path_xml = find_xml(place_of(path), remote=True)
    dataset = Dataset(path_xml, read_xml(path_xml), confine=confine)
    if dataset.unfinished:
        logger.warning("%s: %s", path_xml, dataset.unfinished)
    return dataset


class Dataset(Handle):
    """A dataset opened for reading by `npy2bdv.open`: a collection of views. Use as a context manager.

    Pickles without its open files and opens them again on use, as views and levels do.

    Attributes
    ----------
    path
        The XML.
    spimdata
        All that the XML says.
    """

    def __init__(self, path: Path, spimdata: SpimData, *, confine: bool = False) -> None:
        self.path = path
        self.spimdata = spimdata
        self.noted: dict[ViewId, object] = {}
        """Views of which it was said that they are not complete."""
        self._closed = False
        self._container: Pixels | None = open_pixels(path, spimdata, confine=confine, live=True)

    @property
    def has_pixels(self) -> bool:
        """Whether the XML names pixels that can be read."""
        return self._container is not None

    @property
    def container(self) -> Pixels:
        """The pixels.

        Raises
        ------
        ClosedError
            If the dataset has been closed.
        FormatError
            If the XML names an image loader that is not read.
        """
        if self._closed:
            raise ClosedError(f"{self.path} is closed; open it again: npy2bdv.open(...)")
        if self._container is None:
            raise why_not_read(self.path, self.spimdata)
        return self._container

    @property
    def unfinished(self) -> str:
        """What is to be said of a recording or an edit that goes on or was interrupted; empty where there is none."""
        if self._container is None:
            return ""
        pixels = self._container.path
        if isinstance(pixels, RemotePath):  # nothing is recorded or edited there
            return ""
        recorded, edited = journal_path(pixels).is_file(), pending(pixels)
        if not recorded and not edited:
            return ""
        mend = f"npy2bdv recover {self.path}"
        try:
            Lock(pixels).release()
        except InUseError:
            if recorded:
                return "is being recorded; its last planes and levels are still to come"
            return "is being edited; it is read as it was before, and has to be opened again afterwards"
        except WriteError:  # nothing can be locked in a folder that is read only
            if recorded:
                return f"is being recorded, or its recording was interrupted: {mend}"
            return f"is being edited, or an edit was interrupted: {mend}"
        if recorded:
            return f"its recording was interrupted; to mend it: {mend}"
        if edited == "begun":
            return f"an edit was interrupted before it happened, and all is as it was; to remove what it left: {mend}"
        return (
            "an edit was interrupted after it happened and before all of it was carried out: pixels, sizes and "
            f"transforms may not belong together until it is finished: {mend}"
        )

    # -- what is in it -----------------------------------------------------------------------------------

    @property
    def times(self) -> tuple[int, ...]:
        """Ids of the time points."""
        return self.spimdata.timepoints.ids

    @property
    def setups(self) -> tuple[int, ...]:
        """Ids of the setups."""
        return tuple(sorted(self.spimdata.setups))

    @property
    def missing_views(self) -> tuple[ViewId, ...]:
        """Views that the XML lists as missing, by time, then setup."""
        return tuple(sorted(self.spimdata.missing or ()))

    @property
    def microscope(self) -> str | None:
        """Name of the microscope, where the XML has it."""
        return self.spimdata.generated_by.microscope if self.spimdata.generated_by else None

    @property
    def user(self) -> str | None:
        """Who recorded it, where the XML has it."""
        return self.spimdata.generated_by.user if self.spimdata.generated_by else None

    def labels(self, attribute: str) -> dict[int, str]:
        """Return the labels of an attribute ("channel", "tile" ...) by id.

        Parameters
        ----------
        attribute
            Its name.

        Raises
        ------
        MissingKeyError
            If the dataset has no such attribute.
        """
        self._check_attributes([attribute])
        group = self.spimdata.attributes.get(attribute)
        entities = group.entities.values() if group else ()
        return {entity.id: str(entity.id) if entity.name is None else entity.name for entity in entities}

    @property
    def channels(self) -> dict[int, str]:
        """Labels of the channels by id."""
        return self.labels("channel")

    @property
    def tiles(self) -> dict[int, str]:
        """Labels of the tiles by id."""
        return self.labels("tile")

    @property
    def angles(self) -> dict[int, str]:
        """Labels of the angles by id."""
        return self.labels("angle")

    @property
    def illuminations(self) -> dict[int, str]:
        """Labels of the illuminations by id."""
        return self.labels("illumination")

    def views(self) -> Iterator[View]:
        """Iterate over the views that are not missing, by time, then setup."""
        for view in self.spimdata.views():
            yield View(self, view)

    def __iter__(self) -> Iterator[View]:
        """Iterate over the views that are not missing, by time, then setup."""
        return self.views()

    def __len__(self) -> int:
        """How many views there are, without the missing ones."""
        return sum(1 for _ in self.spimdata.views())

    def view(
        self,
        *,
        time: int = 0,
        setup: int | None = None,
        channel: int | str | None = None,
        tile: int | str | None = None,
        angle: int | str | None = None,
        illumination: int | str | None = None,
        **attributes: int | str,
    ) -> View:
        """Return one view.

        Parameters
        ----------
        time
            Id of the time point.
        setup
            Id of the setup; or leave it out and give attributes.
        channel, tile, angle, illumination, **attributes
            A label (text) or an id (integer) each; those not given may be anything.

        Raises
        ------
        MissingKeyError
            If there is no such view or attribute, or the view is listed as missing.
        InvalidInputError
            If several setups fit; the message lists them.
        """
        wanted = {
            "channel": channel,
            "tile": tile,
            "angle": angle,
            "illumination": illumination,
            **attributes,
        }
        given = {name: label for name, label in wanted.items() if label is not None}
        self._check_attributes(given)
        if setup is None:
            setup = self._find_setup(given)
        elif given:
            raise InvalidInputError(f"give either setup={setup} or attributes ({_pairs(given)}), not both")
        self.spimdata.setup(setup)
        self.check_time(time)
        view = ViewId(time, setup)
        if view in (self.spimdata.missing or ()):
            raise MissingKeyError(
                f"time point {time} of setup {setup} is a missing view: it was never recorded"
            )
        return View(self, view)

    def check_time(self, time: int) -> None:
        """Refuse a time point that the dataset does not have.

        Parameters
        ----------
        time
            Id of a time point.

        Raises
        ------
        MissingKeyError
            If there is none of this id.
        """
        if time not in self.times:
            raise MissingKeyError(
                f"there is no time point {time} in this dataset; it has {_range(self.times)}"
            )

    def _check_attributes(self, names: Iterable[str]) -> None:
        known = dict.fromkeys((*ATTRIBUTES, *self.spimdata.attributes))
        for name in names:
            if name not in known:
                raise MissingKeyError(
                    f"there is no attribute {name!r} in this dataset; it has {', '.join(known)}"
                )

    def _find_setup(self, given: dict[str, int | str]) -> int:
        fitting = [
            setup
            for setup in self.setups
            if all(self._fits(self.spimdata.setups[setup], name, label) for name, label in given.items())
        ]
        if len(fitting) == 1:
            return fitting[0]
        asked = _pairs(given) or "no attribute"
        if not fitting:
            known = "; ".join(f"{name}: {self.labels(name)}" for name in given)
            raise MissingKeyError(f"no setup has {asked}; this dataset has {known or 'no setups'}")
        lines = [f"  setup {setup}: {self._describe(self.spimdata.setups[setup])}" for setup in fitting[:20]]
        raise InvalidInputError(
            f"{len(fitting)} setups fit {asked}; give more attributes, or setup=:\n" + "\n".join(lines)
        )

    def _fits(self, setup: ViewSetup, attribute: str, label: int | str) -> bool:
        entity = self.spimdata.entity(attribute, setup)
        if entity is None or not isinstance(label, str):
            return entity is not None and label == entity.id
        return label == (str(entity.id) if entity.name is None else entity.name)

    def _describe(self, setup: ViewSetup) -> str:
        entities = {name: self.spimdata.entity(name, setup) for name in (*ATTRIBUTES, *setup.attributes)}
        found = {name: entity for name, entity in entities.items() if entity is not None}
        return _pairs({name: entity.name or str(entity.id) for name, entity in found.items()})

    # -- as a whole --------------------------------------------------------------------------------------

    def bounding_box(self, views: Iterable[View] | None = None) -> Box:
        """Return the box in the world around all views (or those given), corners (x, y, z) in world units.

        Parameters
        ----------
        views
            Those that count; by default all that are not missing.

        Raises
        ------
        NotInDatasetError
            If there is no view.
        """
        boxes = [_box(view) for view in (self if views is None else views)]
        if not boxes:
            raise NotInDatasetError(f"{self.path.name} has no views, and so no bounding box")
        return Box.around(boxes)

    def to_frame(self, *, pixels: bool = True) -> pandas.DataFrame:
        """Return a table with one row for each view that is not missing.

        Columns are ``time``, ``setup``, ``name``, a label for each attribute, ``shape`` (z, y, x),
        ``voxel_size_xyz``, ``unit``, ``transform`` (an `Affine`, world <- pixel of full resolution; None
        where a Java class is part of it), ``camera``, ``exposure_time``, ``exposure_unit``; and of the pixels
        ``dtype``, ``n_levels`` and ``nbytes_on_disk`` (all levels).

        Parameters
        ----------
        pixels
            Look at the pixels of each view. Without, the shape is what the XML says, and thousands of views
            take no time.

        Raises
        ------
        InvalidInputError
            If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise InvalidInputError(
                'to_frame() needs pandas, which is not installed: pip install "npy2bdv[lazy]"'
            ) from error
        return pandas.DataFrame([_row(view, pixels=pixels and self.has_pixels) for view in self])

    # -- life --------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the files. A second call does nothing."""
        self._closed = True
        if self._container is not None:
            self._container.close()

    def __repr__(self) -> str:
        """Show path and counts."""
        missing = len(self.missing_views)
        return (
            f"<Dataset {self.path.name}: {len(self.times)} time points x {len(self.setups)} setups"
            f"{f', {missing} views missing' if missing else ''}>"
        )

    def _repr_html_(self) -> str:
        """Show a table of the setups, in notebooks. Pixels are not looked at."""
        counts = Counter(view.setup for view in self.spimdata.views())
        rows = [
            {
                "setup": setup.id,
                "name": setup.name or "",
                **self.spimdata.labels_of(setup),
                "size z, y, x": "" if setup.size_xyz is None else " × ".join(map(str, setup.size_xyz[::-1])),
                "voxel size x, y, z": ""
                if setup.voxel_size is None
                else " × ".join(f"{size:.4g}" for size in setup.voxel_size.size_xyz)
                + f" {setup.voxel_size.unit or ''}",
                "views": f"{counts[setup.id]} of {len(self.times)}",
            }
            for _, setup in sorted(self.spimdata.setups.items())[:_HTML_ROWS]
        ]
        names = dict.fromkeys(name for row in rows for name in row)
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(str(row.get(name, '')))}</td>" for name in names) + "</tr>"
            for row in rows
        )
        more = len(self.setups) - len(rows)
        loader = "no image loader" if self.spimdata.loader is None else self.spimdata.loader.format
        return (
            f"<b>{escape(self.path.name)}</b> ({escape(loader)}): time points {_range(self.times)}, "
            f"{len(self.setups)} setups, {len(self)} views, {len(self.missing_views)} missing"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            + (f"... and {more} more setups" if more else "")
        )


def _row(view: View, *, pixels: bool) -> dict[str, Any]:
    size = view.setup.size_xyz
    camera = view.camera
    row: dict[str, Any] = {"time": view.id.time, "setup": view.id.setup, "name": view.name, **view.attributes}
    row |= {
        "shape": None if size is None else size[::-1],
        "voxel_size_xyz": view.voxel_size_xyz,
        "unit": view.unit,
        "transform": view.transform if all(each.affine is not None for each in view.transforms) else None,
        "camera": None if camera is None else camera.name,
        "exposure_time": None if camera is None else camera.exposure_time,
        "exposure_unit": None if camera is None else camera.exposure_unit,
    }
    row |= dict.fromkeys(("dtype", "n_levels", "nbytes_on_disk"))
    if pixels and view.dataset.container.has(view.id):
        levels = list(view.levels())
        row |= {
            "shape": levels[0].shape,
            "dtype": levels[0].dtype.name,
            "n_levels": len(levels),
            "nbytes_on_disk": view.nbytes_on_disk,
        }
    return row


def _box(view: View) -> Box:
    """Return the box of a view, by the size that the XML has, if it does."""
    size = view.setup.size_xyz
    if size is None:
        return view.bounding_box()
    whole = (slice(None), slice(None), slice(None))
    return Box.of_pixels(whole, size[::-1]).moved_by(view.transform)


def _pairs(attributes: dict[str, Any]) -> str:
    return ", ".join(f"{name}={label!r}" for name, label in attributes.items())


def _range(ids: Sequence[int]) -> str:
    return (
        "none" if not ids else f"{ids[0]}" if len(ids) == 1 else f"{ids[0]} to {ids[-1]} ({len(ids)} in all)"
    )
