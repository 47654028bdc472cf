"""Views and setups that go: from the XML, and their pixels and interest points with them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from npy2bdv.editor.pixels import PixelEdits
from npy2bdv.editor.pixelwork import PixelWork
from npy2bdv.editor.session import views_in_words
from npy2bdv.errors import InvalidInputError
from npy2bdv.model.spimdata import ContainerLoader, Hdf5Loader, OmeZarrLoader
from npy2bdv.storage import open_container
from npy2bdv.xml.sections import without_views

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from npy2bdv.model.spimdata import ImageLoader, SpimData, ViewId


class RemovalEdits(PixelEdits):
    """The part of `Editor` that removes views and setups."""

    def remove_views(self, *, keep_pixels: bool = False, **where: Any) -> None:
        """Make missing views of these: programs no longer show them. Their pixels are removed.

        Transforms of them, and what BigStitcher has found about them (interest points, shifts to neighbours), go, too.
        Pixels stay where they cannot be removed (`preview` says so): in another folder than the XML, in images that
        several views share, in formats that are only read here.

        Parameters
        ----------
        keep_pixels
            Leave the pixels, and the files of interest points, where they are; only the XML changes. For several XMLs
            over the same pixels.
        **where
            Which views; see `Editor`.

        Raises
        ------
        MissingKeyError
            If no view is selected.
        InvalidInputError
            If nothing would be left.
        """
        views = frozenset(self._select(where))
        data = self.data
        if all(view in views for view in data.views()):
            raise InvalidInputError(f"these are all views of {self.path}: nothing would be left")
        line = f"remove {views_in_words(sorted(views))}"
        self._stage_removal(with_missing(data, views), line, views, keep_pixels=keep_pixels)

    def remove_setups(self, *, keep_pixels: bool = False, **where: Any) -> None:
        """Remove setups at all time points, with all that the XML says of them, and their pixels.

        Ids of the others do not change. Labels that no other setup has (a tile, a channel) go, too.

        Parameters
        ----------
        keep_pixels
            As in `remove_views`.
        **where
            Which setups, by ``setup=`` or attributes; see `Editor`.

        Raises
        ------
        MissingKeyError
            If no setup is selected.
        InvalidInputError
            If nothing would be left.
        """
        setups = self._select_setups(where)
        data = self.data
        if len(setups) == len(data.setups):
            raise InvalidInputError(f"these are all setups of {self.path}: nothing would be left")
        named = (
            f"setup {setups[0]}" if len(setups) == 1 else f"{len(setups)} setups, {setups[0]} to {setups[-1]}"
        )
        gone = frozenset(setups)
        views = frozenset(view for view in data.views() if view.setup in gone)
        self._stage_removal(
            without_setups(data, gone), f"remove {named}", views, setups=gone, keep_pixels=keep_pixels
        )

    def _stage_removal(
        self,
        data: SpimData,
        line: str,
        views: frozenset[ViewId],
        *,
        setups: frozenset[int] = frozenset(),
        keep_pixels: bool,
    ) -> None:
        if keep_pixels:
            self._stage(data, f"{line} (in the XML only)")
            return
        pixels, loader = self._own_pixels(), self._saved.loader
        if pixels is None or not isinstance(loader, ContainerLoader):
            where = "are not there, not below its folder, or of a format that is only read here"
            self._stage(data, f"{line} (in the XML only: the pixels {where})")
            return
        with open_container(loader, pixels) as container:
            stored = {view for view in container.views() if view in views or view.setup in setups}
            # a link that leads nowhere goes; what others need does not
            fixed = {} if container.card.name == "hdf5" else {v: container.why_fixed(v) for v in stored}
        kept = {view for view in stored if fixed.get(view)}
        if kept:
            line += f" (pixels of {len(kept)} stay: {fixed[min(kept)]})"
        known = self._works.get("pixels")
        work = known if isinstance(known, PixelWork) else PixelWork(pixels=pixels, progress=self.progress)
        work = replace(
            work,
            removed=work.removed | (stored - kept),
            forgotten=work.forgotten | views,
            removed_setups=work.removed_setups | (setups - {view.setup for view in kept}),
        )
        self._stage(data, line, works={"pixels": work})


def with_missing(data: SpimData, views: Collection[ViewId]) -> SpimData:
    """Return the dataset with further missing views."""
    return replace(
        _without(data, lambda view: view in views), missing=frozenset({*(data.missing or ()), *views})
    )


def without_setups(data: SpimData, setups: Collection[int]) -> SpimData:
    """Return the dataset without some setups (formats.md 7, last line)."""
    kept = {id_: setup for id_, setup in data.setups.items() if id_ not in setups}
    groups = {}
    for name, group in data.attributes.items():
        used, left = ({setup.attributes.get(name) for setup in some.values()} for some in (data.setups, kept))
        gone = used - left
        groups[name] = replace(
            group, entities={id_: entity for id_, entity in group.entities.items() if id_ not in gone}
        )
    data = _without(data, lambda view: view.setup in setups)
    loader = data.loader
    if isinstance(loader, Hdf5Loader):
        loader = loader.without_partitions(setups)
    missing = data.missing
    return replace(
        data,
        loader=loader,
        setups=kept,
        attributes=groups,
        missing=None if missing is None else frozenset(view for view in missing if view.setup not in setups),
    )


def _without(data: SpimData, gone: Callable[[ViewId], bool]) -> SpimData:
    """Return the dataset without what is said of views that are gone."""
    return replace(
        data,
        loader=_loader_without(data.loader, gone),
        registrations={view: each for view, each in data.registrations.items() if not gone(view)},
        sections=without_views(data.sections, gone),
    )


def _loader_without(loader: ImageLoader | None, gone: Callable[[ViewId], bool]) -> ImageLoader | None:
    if not isinstance(loader, OmeZarrLoader):
        return loader
    return replace(loader, groups={view: group for view, group in loader.groups.items() if not gone(view)})
