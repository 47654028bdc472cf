"""Views and setups that go: what the XML no longer says of them. Their pixels are another matter."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from npy2bdv.editor.session import Session, views_in_words
from npy2bdv.errors import InvalidInputError
from npy2bdv.model.spimdata import Hdf5Loader, OmeZarrLoader
from npy2bdv.xml.sections import without_views

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from npy2bdv.model.spimdata import ImageLoader, Partition, SpimData, ViewId


class RemovalEdits(Session):
    """The part of `Editor` that removes views and setups."""

    def remove_views(self, **where: Any) -> None:
        """Make missing views of these: programs no longer show them. Their pixels stay on disk.

        Transforms of them, and what BigStitcher has found about them (interest points, shifts to neighbours), go, too.

        Parameters
        ----------
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
        self._stage(with_missing(data, views), f"remove {views_in_words(sorted(views))}")

    def remove_setups(self, **where: Any) -> None:
        """Remove setups at all time points, with all that the XML says of them. Their pixels stay on disk.

        Ids of the others do not change. Labels that no other setup has (a tile, a channel) go, too.

        Parameters
        ----------
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
        self._stage(without_setups(data, frozenset(setups)), f"remove {named}")


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
        partitions = (_without_setups(partition, setups) for partition in loader.partitions)
        loader = replace(loader, partitions=tuple(each for each in partitions if each.setups))
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


def _without_setups(partition: Partition, setups: Collection[int]) -> Partition:
    """Return the bookkeeping of a file of a partitioned dataset without some setups; their numbers inside go, too."""
    places = [place for place, setup in enumerate(partition.setups) if setup not in setups]
    mapped = partition.setups_mapped
    return replace(
        partition,
        setups=tuple(partition.setups[place] for place in places),
        setups_mapped=None
        if mapped is None
        else tuple(mapped[place] for place in places if place < len(mapped)),
    )
