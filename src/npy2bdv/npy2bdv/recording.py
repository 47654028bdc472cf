"""The dataset behind `BdvWriter`: a fixed grid of setups, and the h5py file that scripts reach for."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from npy2bdv.errors import ExistsError, InvalidInputError
from npy2bdv.model.affine import Affine, usable
from npy2bdv.model.placement import Placement, place
from npy2bdv.model.spimdata import Camera, ViewId, ViewTransform
from npy2bdv.model.units import ratio
from npy2bdv.setups import voxel_size_of
from npy2bdv.writer import DatasetWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from npy2bdv.existing import Existing
    from npy2bdv.model.spimdata import SpimData
    from npy2bdv.storage.base import Codec, FormatCard
    from npy2bdv.stream import ViewStream
    from npy2bdv.writer import Compression

logger = logging.getLogger(__name__)


class ClassicDataset(DatasetWriter):
    """A dataset as the established interface writes it: a fixed grid of setups, transforms exactly as given."""

    def __init__(
        self,
        path_xml: Path,
        path_h5: Path,
        *,
        card: FormatCard,
        levels: Sequence[Sequence[int]],
        chunks: Sequence[Sequence[int]],
        compression: Compression | Codec,
        overwrite: bool,
        dtype: np.dtype[Any],
        counts: dict[str, int],
        max_memory: int,
        existing: Existing | None = None,
    ) -> None:
        replaced = overwrite and path_h5.exists()
        super().__init__(
            path_xml,
            path_h5,
            card=card,
            levels=levels,
            chunks=chunks,
            compression=compression,
            overwrite=overwrite,
            guarded=(path_h5,),
            pixel_types=(dtype,),
            max_memory=max_memory,
            existing=existing,
        )
        if replaced:
            logger.warning("%s already exists, overwriting.", path_h5)
        self.camera_name = "default"
        self._dtype = dtype
        self._n_setups = math.prod(counts.values())
        self._last_placed: dict[int, ViewTransform | Placement] = {}
        self._world_unit = 0.0 if existing is None or not existing.setups else existing.world_unit
        """How large a unit of the world is, in `_world_name`; 0 as long as nothing has said it."""
        sizes = [] if existing is None else [setup.voxel_size for setup in existing.data.setups.values()]
        self._world_name = next((size.unit for size in sizes if size is not None and size.unit), None)
        self._times: dict[int, set[int]] = {}
        for name, count in counts.items():
            group = None if existing is None else existing.data.attributes.get(name)
            known = {} if group is None else group.entities
            self.set_labels(name, {id_: str(id_) for id_ in range(count) if id_ not in known})
        self._first_entities = {name: dict(entities) for name, entities in self._entities.items()}

    def declare(
        self,
        view: ViewId,
        shape: tuple[int, int, int],
        *,
        attributes: dict[str, int],
        affine: ViewTransform | None,
        calibration_xyz: Sequence[float],
        voxel_size_xyz: Sequence[float],
        unit: str,
        exposure_time: float,
        exposure_unit: str,
        placing: Mapping[str, Any],
    ) -> ViewStream:
        """Declare a view, in place of one that was there; what is metadata of the setup is the last given."""
        placement = self._placement(view, voxel_size_xyz, unit, calibration_xyz, placing)
        if placement is not None and affine is not None:
            raise InvalidInputError(
                "a view is placed by m_affine= or by what the microscope knows (stage_position_xyz= ...), not by both; "
                "leave one out"
            )
        calibration = ViewTransform(affine=usable(Affine.scale(calibration_xyz)), name="calibration")
        known = self.setups.get(view.setup)
        others = self._times.get(view.setup, set()) - {view.time}
        if known is not None and others and known.pyramid.shape != shape:
            raise InvalidInputError(
                f"View shape {shape} differs from shape {known.pyramid.shape} of the same setup at time point "
                f"{min(others)}. All time points of a setup must have one shape."
            )
        if self.existing is not None:
            if view not in self.views and self._lies_there(view):
                raise ExistsError(
                    f"time point {view.time} of setup {view.setup} was written in an earlier session, and is "
                    "not replaced"
                )
            if view.setup in self.existing.setups:
                return self._declare_further(view, shape, affine or placement, calibration_xyz)
        entities = {name: self._entity(name, id_) for name, id_ in attributes.items()}
        if placement is not None and not others:
            self._note_place(entities, placement, view.setup)
        setups = dict(self.setups)
        setups.pop(view.setup, None)
        self.setups, before = setups, self.setups
        try:
            self.add_setup(
                id=view.setup,
                shape=shape,
                dtype=self._dtype,
                attributes=attributes,
                voxel_size_xyz=voxel_size_xyz,
                unit=unit,
                exposure_time=exposure_time,
                exposure_unit=exposure_unit,
                calibration=None,
            )
            if view in self.views:
                logger.warning("overwriting time point %d, setup %d", view.time, view.setup)
            placed = affine or placement or self._last_placed.get(view.setup)
            if isinstance(placed, Placement):
                transforms = placed.transforms(shape[::-1], self._world_unit)
            else:
                transforms = (calibration,) if placed is None else (placed, calibration)
            stream = self.stream(setup=view.setup, time=view.time, transform=transforms, replace_view=True)
        except BaseException:
            self.setups = before
            raise
        self._times.setdefault(view.setup, set()).add(view.time)
        if affine is not None or placement is not None:
            self._last_placed[view.setup] = affine or placement  # type: ignore[assignment]  # one of them is there
        if placement is not None:
            for name, entity in entities.items():
                self._entities[name][entity.id] = entity
        return stream

    def _placement(
        self,
        view: ViewId,
        voxel_size_xyz: Sequence[float],
        unit: str,
        calibration_xyz: Sequence[float],
        placing: Mapping[str, Any],
    ) -> Placement | None:
        """Return what is said of the place of a view; the first that is placed fixes the unit of the world."""
        size = voxel_size_of(voxel_size_xyz, unit)
        earlier = self.existing.setups.get(view.setup) if self.existing is not None else None
        if earlier is not None and earlier.value.voxel_size is not None and unit == "px":
            size = earlier.value.voxel_size  # metadata stay, and are not given again
        placement = place(voxel_size_xyz=size.size_xyz, unit=size.unit or "px", **placing)
        if placement is None:
            return None
        x, y, z = calibration_xyz
        given = (x, y, z) != (1, 1, 1)  # else it is what follows from the voxel size
        units = [size / scale for size, scale in zip(size.size_xyz, (x, y, z), strict=True)] if given else []
        world = self._world_unit or (units[0] if units else min(size.size_xyz))
        if not all(math.isclose(each, world, rel_tol=1e-6) for each in units):
            raise InvalidInputError(
                f"the calibration {(x, y, z)} does not fit to voxels of {size.size_xyz} {size.unit}: where a unit of "
                f"the world is {world:g} {size.unit}, it is {tuple(each / world for each in size.size_xyz)}; "
                "leave it out"
            )
        if ratio(size.unit or "px", self._world_name or size.unit or "px") != 1:
            raise InvalidInputError(
                f"the voxel size is in {size.unit!r}, views placed before have theirs in {self._world_name!r}; give "
                "all in one unit"
            )
        self._world_unit, self._world_name = world, self._world_name or size.unit or "px"
        return placement

    def _declare_further(
        self,
        view: ViewId,
        shape: tuple[int, int, int],
        affine: ViewTransform | Placement | None,
        calibration_xyz: Sequence[float],
    ) -> ViewStream:
        """Declare a view of a setup that an earlier session made; its metadata stay as they are."""
        assert self.existing is not None
        known = self.existing.setups[view.setup]
        if known.pyramid.shape != shape:
            raise InvalidInputError(
                f"View shape {shape} differs from shape {known.pyramid.shape} of the same setup in an earlier session. "
                "All time points of a setup must have one shape."
            )
        if known.dtype != self._dtype:
            raise InvalidInputError(
                f"setup {view.setup} has pixels of {known.dtype}, not {self._dtype}; give dtype={known.dtype.name!r}"
            )
        calibration = known.calibration
        if tuple(calibration_xyz) != (1, 1, 1) or calibration is None:
            calibration = usable(Affine.scale(calibration_xyz))
        assert isinstance(calibration, Affine)
        placed = affine or self._last_placed.get(view.setup)
        if isinstance(placed, Placement):
            transforms = placed.transforms(shape[::-1], self._world_unit)
        else:
            transforms = known.transforms if placed is None else (placed,)
        if not isinstance(placed, Placement) and (placed is not None or known.calibration is not None):
            transforms = (*transforms, ViewTransform(affine=calibration, name="calibration"))
        setups = dict(self.setups)
        self.setups = {**setups, view.setup: replace(known, calibration=None)}  # transforms are given whole
        try:
            stream = self.stream(setup=view.setup, time=view.time, transform=transforms, replace_view=True)
        except BaseException:
            self.setups = setups
            raise
        self._times.setdefault(view.setup, set()).add(view.time)
        if affine is not None:
            self._last_placed[view.setup] = affine
        return stream

    def set_transforms(self, view: ViewId, transforms: Sequence[ViewTransform]) -> None:
        """Replace all transforms of a view, the calibration among them; also of a view of an earlier session."""
        known = self.known(view.setup)
        if known.calibration is not None:  # else it would come once more
            self.setups = {**self.setups, view.setup: replace(known, calibration=None)}
        super().set_transforms(view, transforms)

    def describe(self) -> SpimData:
        """Return what the XML says; setups of the grid that were never written are missing at all times."""
        data = super().describe()
        earlier = {} if self.existing is None else self.existing.data.setups
        if self.existing is not None and not self.views and self._entities == self._first_entities:
            return self.existing.data
        never = set(range(self._n_setups)) - set(self.setups) - set(earlier)
        missing = {ViewId(time, setup) for time in data.timepoints.ids for setup in never}
        named = {
            id_: setup
            if id_ in earlier
            else replace(setup, camera=replace(setup.camera or Camera(), name=self.camera_name))
            for id_, setup in data.setups.items()
        }
        return replace(data, setups=named, missing=(data.missing or frozenset()) | missing)


class FileProxy:
    """What scripts reach as ``writer._file_object_h5``: the h5py file, complete as far as it was written.

    Scripts that flush it now and then may do so whatever the format is.
    """

    def __init__(self, writer: DatasetWriter) -> None:
        self._writer = writer

    def flush(self) -> None:
        """Make a checkpoint: what has come so far survives a kill of the process."""
        self._writer.checkpoint()

    def __getitem__(self, name: str) -> Any:
        self._writer.store()
        return self._file[name]

    def __contains__(self, name: str) -> bool:
        return name in self._file

    def __iter__(self) -> Iterator[str]:
        return iter(self._file)

    def __bool__(self) -> bool:
        return not self._writer.closed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    @property
    def _file(self) -> Any:
        file = getattr(self._writer.container, "file", None)
        if file is None:
            raise InvalidInputError(
                f"{self._writer.path_pixels} is no HDF5 file; there is no h5py object for {self._writer.card.name}"
            )
        return file
