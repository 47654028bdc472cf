"""Edits of pixels: crop, flip, bin, other levels, chunks, compression. Each is for all time points of a setup."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from npy2bdv.editor.pixelwork import PixelWork
from npy2bdv.editor.session import Session
from npy2bdv.errors import InvalidInputError, MissingKeyError
from npy2bdv.location import why_not_read
from npy2bdv.model.affine import Affine
from npy2bdv.model.box import box_of
from npy2bdv.model.pixeledits import Crop, bin_of, crop_of, flip_of
from npy2bdv.model.pyramid import Pyramid, propose
from npy2bdv.model.spimdata import (
    ContainerLoader,
    Hdf5Loader,
    OmeZarrLoader,
    Tile,
    ViewId,
    ViewRegistration,
    ViewTransform,
)
from npy2bdv.model.stitching import follow_pixels
from npy2bdv.rewrite import images_of
from npy2bdv.storage import check_installed, open_container

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from npy2bdv.model.affine import Axis
    from npy2bdv.model.box import Box
    from npy2bdv.model.pixeledits import PixelEdit
    from npy2bdv.model.pyramid import Zyx
    from npy2bdv.model.spimdata import SpimData, Triple
    from npy2bdv.rewrite import Images
    from npy2bdv.storage.base import Container

logger = logging.getLogger(__name__)

_NONE = ViewRegistration()


class PixelEdits(Session):
    """The part of `Editor` that is about pixels.

    A setup has one size, so these edits are for all its time points together; those without pixels are passed
    over. Several edits of a setup are written once. All levels are made again from the edited full resolution,
    exactly as of a whole image; images are written beside the old ones and take their place at the commit.
    """

    progress: Callable[[int, int], None] | None = None
    """Called while pixels are written, with the bytes done and the bytes to do."""

    def crop(
        self,
        zyx: Sequence[Any] | None = None,
        *,
        box: Box | tuple[Triple, Triple] | None = None,
        keep_position: bool = True,
        **where: Any,
    ) -> None:
        """Keep a part of each image.

        Parameters
        ----------
        zyx
            Pixel ranges: for each axis (z, y, x) None (all), a slice or a pair (start, stop), the end left out;
            negative numbers count from the end.
        box
            Or a box in the world, its corners with the smallest and the largest coordinates (x, y, z): all pixels
            that it touches, at any time point, are kept.
        keep_position
            Let the image stay where it is in the world, by a transform that is applied first (formats.md 7). Without,
            its first pixel comes to lie where that of the whole image was.
        **where
            Which setups; see `Editor`.

        Raises
        ------
        InvalidInputError
            If the ranges are none, keep nothing or reach beyond an image; if the box is none, or does not touch a
            setup; if a time point alone is asked for; or if
            pixels are stored in a way in which they cannot be replaced.
        FormatError
            If the levels cannot be made from the full resolution.
        """
        if (zyx is None) == (box is None):
            raise InvalidInputError("crop takes either ranges of pixels, zyx=, or a box in the world, box=")

        world = None if box is None else box_of(box)

        def edit(setup: int, shape: Zyx) -> Crop:
            return crop_of(zyx, shape) if world is None else self._crop_to(world, setup, shape)  # type: ignore[arg-type]

        self._edit_pixels(edit, where, placed=keep_position)

    def _crop_to(self, box: Box, setup: int, shape: Zyx) -> Crop:
        """Return the crop to all pixels that a box in the world touches, at any time point."""
        known = self._data.registrations
        views = [view for view in self._data.views() if view.setup == setup]
        regions = [box.moved_by(known.get(view, _NONE).total.inverse()).pixels(shape) for view in views]
        regions = [region for region in regions if all(part.start < part.stop for part in region)]
        if not regions:
            raise InvalidInputError(
                f"the box {box.min_xyz} to {box.max_xyz} (x, y, z, in the world) does not touch setup {setup}; leave "
                "the setup out, or remove it"
            )
        z, y, x = (
            (min(part.start for part in parts), max(part.stop for part in parts))
            for parts in zip(*regions, strict=True)
        )
        return Crop(start=(z[0], y[0], x[0]), stop=(z[1], y[1], x[1]))

    def flip(self, axis: Axis, *, keep_position: bool = True, **where: Any) -> None:
        """Turn images round along an axis ("x", "y" or "z") of their pixels.

        Parameters
        ----------
        axis
            The axis.
        keep_position
            Let everything stay where it is in the world, by a transform that is applied first. Without, the image
            is turned round in the world, too.
        **where
            Which setups; see `Editor`.

        Raises
        ------
        InvalidInputError, FormatError
            As in `crop`.
        """
        edit = flip_of(axis)
        self._edit_pixels(lambda setup, shape: edit, where, placed=keep_position)

    def bin(self, factors: Sequence[int], **where: Any) -> None:
        """Take means over blocks of pixels, rounded as levels are; voxel size and transforms follow.

        Parameters
        ----------
        factors
            Size of a block (z, y, x).
        **where
            Which setups; see `Editor`.

        Raises
        ------
        InvalidInputError, FormatError
            As in `crop`; or if a block is larger than the image.
        """
        edit = bin_of(factors)

        def fitting(setup: int, shape: Zyx) -> PixelEdit:
            if any(factor > size for factor, size in zip(edit.factors, shape, strict=True)):
                raise InvalidInputError(
                    f"blocks of {_size(edit.factors)} pixels are larger than the images of setup {setup}, "
                    f"{_size(shape)} (z × y × x); give smaller factors"
                )
            return edit

        self._edit_pixels(fitting, where, placed=True)

    def rechunk(self, chunks: Sequence[Any], **where: Any) -> None:
        """Store images in other chunks.

        Parameters
        ----------
        chunks
            Size of a chunk (z, y, x) for all levels, or one for each.
        **where
            Which setups; see `Editor`.

        Raises
        ------
        InvalidInputError, FormatError
            As in `crop`; or if there are not as many as levels, or the format cannot hold them.
        """
        given = _triples(chunks)
        self._restore(
            lambda images: replace(images, chunks=_for_levels(given, len(images.factors))),
            f"chunks {_rows(given)}",
            where,
        )

    def recompress(self, compression: str | tuple[str, int] | None, **where: Any) -> None:
        """Store images with another compression.

        Parameters
        ----------
        compression
            None, or what the format has: "gzip", ("gzip", 5) ...
        **where
            Which setups; see `Editor`.

        Raises
        ------
        InvalidInputError, FormatError
            As in `crop`; or if the format has no such compression.
        """
        with self._opened() as container:
            codec = container.card.codec(compression)
            check_installed(container.card, codec)
        self._restore(
            lambda images: replace(images, codec=codec, density=1.0), f"compression {codec.name}", where
        )

    def set_levels(
        self, levels: Sequence[Any] | str = "auto", *, chunks: Sequence[Any] | None = None, **where: Any
    ) -> None:
        """Make the levels of images again, or other ones.

        Parameters
        ----------
        levels
            Factors (z, y, x) of each level against full resolution, which comes first: ((1, 1, 1), (2, 4, 4)). "auto"
            takes those that BigDataViewer would propose.
        chunks
            Size of a chunk (z, y, x) for all levels, or one for each; those there are go on as far as they do.
        **where
            Which setups; see `Editor`.

        Raises
        ------
        InvalidInputError, FormatError
            As in `crop`; or if the first level is not the full resolution.
        """
        if isinstance(levels, str) and levels != "auto":
            raise InvalidInputError(f"levels={levels!r} is not known; give factors (z, y, x), or 'auto'")
        given = None if isinstance(levels, str) else _triples(levels)
        if given is not None and given[0] != (1, 1, 1):
            raise InvalidInputError(
                f"the first level is the full resolution, (1, 1, 1); found {given[0]}: put it first"
            )
        blocks = None if chunks is None else _triples(chunks)

        def change(images: Images) -> Images:
            factors = given
            if factors is None:
                size = self._data.setup(images.setup).voxel_size
                factors, _ = propose(images.shape, (1, 1, 1) if size is None else size.size_xyz)
            known = images.chunks[: len(factors)]
            known += known[-1:] * (len(factors) - len(known))
            return replace(
                images, factors=factors, chunks=known if blocks is None else _for_levels(blocks, len(factors))
            )

        self._restore(
            change,
            f"levels {'as BigDataViewer proposes' if given is None else _rows(given)}",
            where,
            factors=given or ((1, 1, 1),),
        )

    # -- how ---------------------------------------------------------------------------------------------

    def _edit_pixels(
        self, edit_of: Callable[[int, Zyx], PixelEdit], where: Mapping[str, Any], *, placed: bool
    ) -> None:
        """Take one edit of all images of some setups."""
        images = self._images(where)
        edits = {setup: edit_of(setup, each.shape) for setup, each in images.items()}
        changed = {setup: each.edited(edits[setup]) for setup, each in images.items()}
        work = self._work
        kept = {setup: (*work.placed.get(setup, ()), placed) for setup in images}
        new = replace(work, images={**work.images, **changed}, placed={**work.placed, **kept})
        self._check(changed.values())
        data = self._data
        for setup, edit in edits.items():
            data = _edited(data, setup, edit, images[setup].shape, placed=placed)
        data = _relocated(data, *(_shifts(each, self._saved) for each in (work, new)))
        moved = {view for view in self._data.registrations if not placed and view.setup in edits}
        data = _regrouped(follow_pixels(self._data, data, moved=moved), changed.values())
        shapes = sorted({(images[setup].shape, changed[setup].shape) for setup in images})
        sizes = "; ".join(f"{_size(before)} to {_size(after)}" for before, after in shapes[:3])
        more = f" and {len(shapes) - 3} more sizes" if len(shapes) > 3 else ""
        name = next(iter(edits.values())).name
        line = f"{name} {_setups(changed)}, all time points: {sizes}{more} (z × y × x)"
        self._stage(data, line if placed else f"{line}, not in its place", works={"pixels": new})

    def _restore(
        self,
        change: Callable[[Images], Images],
        line: str,
        where: Mapping[str, Any],
        *,
        factors: tuple[Zyx, ...] | None = None,
    ) -> None:
        """Take a change of how images are stored."""
        changed = {setup: change(each) for setup, each in self._images(where, factors=factors).items()}
        self._check(changed.values())
        work = replace(self._work, images={**self._work.images, **changed})
        data = _regrouped(self._data, changed.values())
        self._stage(data, f"{line} for {_setups(changed)}", works={"pixels": work})

    @property
    def _work(self) -> PixelWork:
        """What is to be done to pixels so far."""
        known = self._works.get("pixels")
        if isinstance(known, PixelWork):
            return known
        pixels = self._pixel_path()
        if pixels is None or not isinstance(self._data.loader, ContainerLoader):
            raise why_not_edited(self)
        return PixelWork(pixels=pixels, progress=self.progress)

    def _opened(self) -> Container:
        """Open the pixels as they are."""
        work, loader = self._work, self._data.loader
        assert isinstance(loader, ContainerLoader)
        return open_container(loader, work.pixels)

    def _images(
        self, where: Mapping[str, Any], *, factors: tuple[Zyx, ...] | None = None
    ) -> dict[int, Images]:
        """Return what the images of the setups that are asked for will be by now."""
        setups = self._setups_of(where)
        work = self._work
        self._check_inside(work)
        found = {setup: work.images[setup] for setup in setups if setup in work.images}
        with self._opened() as container:
            stored: dict[int, list[ViewId]] = {setup: [] for setup in setups if setup not in found}
            for view in container.views():
                if view.setup in stored and view not in work.removed:
                    if why := container.why_fixed(view):
                        raise InvalidInputError(
                            f"the pixels of time point {view.time}, setup {view.setup} cannot be replaced: {why}; "
                            "resave the dataset (npy2bdv convert), and edit the copy"
                        )
                    if container.has(view):
                        stored[view.setup].append(view)
            for setup, views in stored.items():
                if views:
                    images = images_of(container, setup, views, factors=factors)
                    self._check_size(images)
                    found[setup] = images
        if not found:
            raise MissingKeyError(
                f"none of the setups {', '.join(map(str, setups))} has pixels at any time point"
            )
        if not_there := [setup for setup in setups if setup not in found]:
            logger.info("setups %s have no pixels, and are passed over", not_there)
        return dict(sorted(found.items()))

    def _setups_of(self, where: Mapping[str, Any]) -> tuple[int, ...]:
        if where.get("time") is not None:
            raise InvalidInputError(
                "pixels are edited at all time points of a setup, since it has one size; leave time= out"
            )
        if where.get("view") is not None:
            return tuple(sorted({view.setup for view in self._select(where)}))
        return self._select_setups(where)

    def _check_inside(self, work: PixelWork) -> None:
        if not work.pixels.resolve().is_relative_to(self.path.parent.resolve()):
            raise InvalidInputError(
                f"the pixels of {self.path} lie in another folder, {work.pixels}, where nothing is written or removed; "
                "put XML and pixels into one folder, or edit a copy (npy2bdv convert)"
            )

    def _check_size(self, images: Images) -> None:
        said = self._data.setup(images.setup).size_xyz
        if said is not None and said[::-1] != images.stored_shape:
            raise InvalidInputError(
                f"the XML says that setup {images.setup} has {_size(said[::-1])} pixels (z × y × x), and "
                f"{_size(images.stored_shape)} are stored; mend that first (npy2bdv check says more)"
            )

    def _check(self, images: Iterable[Images]) -> None:
        with self._opened() as container:
            for each in images:
                container.card.check(each.pyramid, each.dtype)


def why_not_edited(session: Session) -> Exception:
    """Return the error that says why the pixels of a dataset cannot be edited."""
    loader = session._data.loader
    if loader is None or isinstance(loader, ContainerLoader):
        return why_not_read(session.path, session._data)
    return InvalidInputError(
        f"the pixels of {session.path} are defined by the image loader {loader.format!r}, over files of another kind "
        "or parts of another dataset, which are only read here; resave it (npy2bdv convert), and edit the copy"
    )


def _edited(data: SpimData, setup: int, edit: PixelEdit, shape: Zyx, *, placed: bool) -> SpimData:
    """Return what the XML says after an edit of the images of a setup."""
    known = data.setup(setup)
    size = known.voxel_size
    changed = replace(
        known,
        size_xyz=edit.shape_after(shape)[::-1],
        voxel_size=None if size is None else replace(size, size_xyz=edit.voxel_size(size.size_xyz)),
    )
    registrations = data.registrations
    if placed:
        transform = ViewTransform(affine=edit.transform(shape), name=edit.name)
        views = {view for view in (*registrations, *data.views()) if view.setup == setup}
        old = {view: registrations.get(view, _NONE) for view in views}
        new = {view: replace(each, transforms=(*each.transforms, transform)) for view, each in old.items()}
        registrations = {**registrations, **new}
    return replace(data, setups={**data.setups, setup: changed}, registrations=registrations)


def _shifts(work: PixelWork, saved: SpimData) -> dict[int, Triple]:
    """Return how far the first corner of the images of each setup has come (x, y, z), in physical units."""
    shifts = {}
    for setup, images in work.images.items():
        total, shape = Affine.identity(), images.stored_shape
        for edit, placed in zip(images.edits, work.placed.get(setup, ()), strict=True):
            if placed:
                total = total @ edit.transform(shape)
            shape = edit.shape_after(shape)
        corners = total.apply([(0, 0, 0), [n - 1 for n in shape[::-1]]]).min(axis=0).tolist()
        voxel = saved.setup(setup).voxel_size
        size_xyz = (1.0, 1.0, 1.0) if voxel is None else voxel.size_xyz
        x, y, z = (corner * size for corner, size in zip(corners, size_xyz, strict=True))
        shifts[setup] = (x, y, z)
    return shifts


def _relocated(data: SpimData, before: Mapping[int, Triple], after: Mapping[int, Triple]) -> SpimData:
    """Move the locations of tiles with the first corner of their images, where all setups of a tile agree."""
    group = data.attributes.get("tile")
    if group is None:
        return data
    tiles = dict(group.entities)
    for id_, tile in group.entities.items():
        setups = [setup.id for setup in data.setups.values() if setup.attributes.get("tile") == id_]
        if not isinstance(tile, Tile) or tile.location_xyz is None or not setups:
            continue
        old, new = (_common(setups, shifts) for shifts in (before, after))
        if old != new:
            location = (
                place + later - earlier
                for place, later, earlier in zip(tile.location_xyz, new, old, strict=True)
            )
            x, y, z = location
            tiles[id_] = replace(tile, location_xyz=(x, y, z))
    return replace(data, attributes={**data.attributes, "tile": replace(group, entities=tiles)})


def _common(setups: Sequence[int], shifts: Mapping[int, Triple]) -> Triple:
    """Return the shift of a tile; none where its setups do not agree."""
    nothing = (0.0, 0.0, 0.0)
    first, *others = {shifts.get(setup, nothing) for setup in setups}
    return nothing if others else first


def _regrouped(data: SpimData, images: Iterable[Images]) -> SpimData:
    """Let the XML name new images where and as we write them.

    OME-Zarr: axes t, c, z, y, x, of which the first two are 1. HDF5: in the master, and in no partition.
    """
    loader = data.loader
    if isinstance(loader, Hdf5Loader) and loader.partitions:
        return replace(data, loader=loader.without_partitions({each.setup for each in images}))
    if not isinstance(loader, OmeZarrLoader):
        return data
    groups = dict(loader.groups)
    for view in (view for each in images for view in each.views):
        group = groups.get(view)
        if group is not None and group.indices is not None:
            groups[view] = replace(group, indices=(0, 0))
    return replace(data, loader=replace(loader, groups=groups))


def _triples(given: Any) -> tuple[Zyx, ...]:
    """Return triples (z, y, x) of one or several; what is in them is judged by the pyramid."""
    try:
        rows = tuple(given)
    except TypeError:
        raise InvalidInputError(
            f"give three integers (z, y, x), or three for each level: ((1, 1, 1), (1, 2, 2)); found {given!r}"
        ) from None
    rows = (rows,) if rows and not hasattr(rows[0], "__len__") else rows
    return Pyramid(shape=(1, 1, 1), factors=rows, chunks=rows).factors


def _for_levels(chunks: tuple[Zyx, ...], n_levels: int) -> tuple[Zyx, ...]:
    return chunks * n_levels if len(chunks) == 1 else chunks


def _rows(rows: Iterable[Zyx]) -> str:
    return ", ".join("×".join(map(str, row)) for row in rows)


def _size(shape: Iterable[int]) -> str:
    return " × ".join(map(str, shape))


def _setups(setups: Iterable[int]) -> str:
    ids = sorted(setups)
    many = len(ids) > 12
    return f"setup{'s' * (len(ids) > 1)} {', '.join(map(str, ids[:12]))}{f' and {len(ids) - 12} more' * many}"
