"""Edits of transforms, for any selection of views."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from npy2bdv import xml
from npy2bdv.editor.session import Session, views_in_words
from npy2bdv.errors import FormatError, InvalidInputError, MissingKeyError
from npy2bdv.model.affine import Affine, usable
from npy2bdv.model.spimdata import SpimData, ViewId, ViewRegistration, ViewTransform

if TYPE_CHECKING:
    from collections.abc import Callable

    from npy2bdv.model.affine import AffineLike

    Transforms = tuple[ViewTransform, ...]

_NONE = ViewRegistration()


class TransformEdits(Session):
    """The part of `Editor` that is about transforms.

    The transforms of a view are listed as in the XML: the outermost, which is applied last, comes first; the innermost,
    which touches pixels first, comes last (formats.md 1.8). One of them is named by its name, or by its place: 0 is the
    outermost, -1 the innermost. A name that a view has more than once does not say which is meant: use the place then.

    Transforms are given as 3x4 numbers, 4x4 with the last row 0 0 0 1, an `Affine`, or a rotation of
    ``scipy.spatial.transform``. They act on (x, y, z).
    """

    # -- reading -----------------------------------------------------------------------------------------

    def transforms(self, **where: Any) -> dict[ViewId, Transforms]:
        """Return the transforms of each view, outermost first, with all edits so far.

        Parameters
        ----------
        **where
            Which views; see `Editor`.
        """
        known = self._data.registrations
        return {view: known.get(view, _NONE).transforms for view in self._select(where)}

    def totals(self, **where: Any) -> dict[ViewId, Affine]:
        """Return the transform of each view as a whole, from pixels of the full resolution to the world.

        Parameters
        ----------
        **where
            Which views; see `Editor`.

        Raises
        ------
        FormatError
            If a Java class is among the transforms.
        """
        known = self._data.registrations
        return {view: known.get(view, _NONE).total for view in self._select(where)}

    # -- edits -------------------------------------------------------------------------------------------

    def insert_transform(
        self,
        affine: AffineLike,
        *,
        name: str = "manually defined",
        at: Literal["outermost", "innermost"] | None = None,
        before: str | int | None = None,
        after: str | int | None = None,
        force: bool = False,
        **where: Any,
    ) -> None:
        """Add a transform to each view.

        Parameters
        ----------
        affine
            The transform, 3x4, or 4x4 with the last row 0 0 0 1.
        name
            How it is called; programs show it, and do nothing else with it.
        at
            "outermost" (applied last, in the world; the default) or "innermost" (applied first, to pixels).
        before, after
            In place of `at`: put it directly in front of or behind this one in the list, so outside or inside of it.
        force
            Take a singular matrix, too.
        **where
            Which views; see `Editor`.

        Raises
        ------
        InvalidInputError
            If the matrix or the name cannot be right, or more than one place is given.
        MissingKeyError
            If no view is selected, or one of them has no transform `before` or `after`.
        """
        if sum(each is not None for each in (at, before, after)) > 1:
            raise InvalidInputError(f"give one place: at={at!r}, before={before!r} or after={after!r}")
        if at not in (None, "outermost", "innermost"):
            raise InvalidInputError(
                f"at={at!r} is not known; it is 'outermost' (applied last) or 'innermost'"
            )
        transform = _transform(affine, name, force=force)

        def insert(view: ViewId, old: Transforms) -> Transforms:
            if before is not None or after is not None:
                place = self._only_place(view, old, before if after is None else after) + (after is not None)
            else:
                place = len(old) if at == "innermost" else 0
            return (*old[:place], transform, *old[place:])

        place: str = at or "outermost"
        if before is not None or after is not None:
            place = f"before {_said(before)}" if before is not None else f"after {_said(after)}"
        self._each(f"insert transform {name!r} {place}, {_numbers(transform)}", insert, where)

    def replace_transform(
        self,
        which: str | int,
        affine: AffineLike,
        *,
        name: str | None = None,
        force: bool = False,
        **where: Any,
    ) -> None:
        """Put another transform in the place of one. Views that do not have it are passed over.

        Parameters
        ----------
        which
            Its name or place.
        affine
            The new one, 3x4 likewise.
        name
            A new name; without it the name stays.
        force
            Take a singular matrix, too.
        **where
            Which views; see `Editor`.

        Raises
        ------
        InvalidInputError
            If the matrix or the name cannot be right, or a view has several transforms of the name.
        MissingKeyError
            If none of the views has such a transform.
        """
        new = _transform(affine, name, force=force)

        def put(view: ViewId, old: Transforms) -> Transforms | None:
            place = self._place(view, old, which)
            if place is None:
                return None
            named = new if name is not None else ViewTransform(affine=new.affine, name=old[place].name)
            return (*old[:place], named, *old[place + 1 :])

        renamed = "" if name is None else f" and call it {name!r}"
        self._each(f"replace transform {_said(which)} by {_numbers(new)}{renamed}", put, where, which)

    def remove_transform(self, which: str | int, **where: Any) -> None:
        """Remove a transform. Views that do not have it are passed over.

        Parameters
        ----------
        which
            Its name or place.
        **where
            Which views; see `Editor`.

        Raises
        ------
        InvalidInputError
            If a view has several transforms of the name.
        MissingKeyError
            If none of the views has such a transform.
        """

        def remove(view: ViewId, old: Transforms) -> Transforms | None:
            place = self._place(view, old, which)
            return None if place is None else (*old[:place], *old[place + 1 :])

        self._each(f"remove transform {_said(which)}", remove, where, which)

    def rename_transform(self, which: str | int, name: str, **where: Any) -> None:
        """Give a transform another name. Views that do not have it are passed over.

        Parameters
        ----------
        which
            Its name or place.
        name
            The new name.
        **where
            Which views; see `Editor`.

        Raises
        ------
        InvalidInputError
            If the name cannot be right, a view has several transforms of the old one, or it is a Java class.
        MissingKeyError
            If none of the views has such a transform.
        """
        _check_name(name)

        def rename(view: ViewId, old: Transforms) -> Transforms | None:
            place = self._place(view, old, which)
            if place is None:
                return None
            if old[place].affine is None:
                raise InvalidInputError(
                    f"the transform {which!r} of time {view.time}, setup {view.setup} is a Java class, which is kept "
                    "as it is; it can be removed or replaced, not renamed"
                )
            return (*old[:place], ViewTransform(affine=old[place].affine, name=name), *old[place + 1 :])

        self._each(f"rename transform {_said(which)} to {name!r}", rename, where, which)

    def compose_transforms(self, *, name: str = "composed", **where: Any) -> None:
        """Make one transform of all that a view has; it does not move. Views without any are passed over.

        Parameters
        ----------
        name
            How the one is called.
        **where
            Which views; see `Editor`.

        Raises
        ------
        InvalidInputError
            If the name cannot be right.
        FormatError
            If a Java class is among the transforms of a view.
        MissingKeyError
            If no view is selected, or none has transforms.
        """
        _check_name(name)

        def compose(view: ViewId, old: Transforms) -> Transforms | None:
            if not old:
                return None
            try:
                total = ViewRegistration(transforms=old).total
            except FormatError as error:
                raise FormatError(f"time {view.time}, setup {view.setup}: {error}") from None
            return (ViewTransform(affine=total, name=name),)

        self._each(f"compose all transforms into one, {name!r}", compose, where, 0)

    # -- how ---------------------------------------------------------------------------------------------

    def _each(
        self,
        line: str,
        edit: Callable[[ViewId, Transforms], Transforms | None],
        where: dict[str, Any],
        which: str | int | None = None,
    ) -> None:
        """Edit the transforms of each selected view; None passes a view over."""
        views = self._select(where)
        known = self._data.registrations
        changes: dict[ViewId, ViewRegistration] = {}
        for view in views:
            old = known.get(view, _NONE)
            new = edit(view, old.transforms)
            if new is not None:
                changes[view] = ViewRegistration(transforms=new, kept=old.kept)
        if not changes:
            names = Counter(
                name for view in views for name in {each.name for each in known.get(view, _NONE).transforms}
            )
            raise MissingKeyError(
                f"none of the {len(views)} selected views has a transform {_said(which)}; they have "
                + (
                    ", ".join(f"{name!r} ({count} views)" for name, count in names.most_common(20))
                    or "none at all"
                )
            )
        passed = f" (of {len(views)} selected)" if len(changes) < len(views) else ""
        self._stage_registrations(changes, f"{line}: {views_in_words(list(changes))}{passed}")

    def _place(self, view: ViewId, transforms: Transforms, which: str | int) -> int | None:
        """Return where a transform stands in the list of a view; None where the view does not have it."""
        if not isinstance(which, str):
            count = len(transforms)
            return range(count)[which] if -count <= which < count else None
        found = [place for place, each in enumerate(transforms) if each.name == which]
        if len(found) > 1:
            raise InvalidInputError(
                f"time {view.time}, setup {view.setup} has {len(found)} transforms {which!r}, at the places "
                f"{', '.join(map(str, found))} (0 is the outermost); give the place in the list in place of the name"
            )
        return found[0] if found else None

    def _only_place(self, view: ViewId, transforms: Transforms, which: str | int | None) -> int:
        assert which is not None
        place = self._place(view, transforms, which)
        if place is None:
            names = ", ".join(repr(each.name) for each in transforms) or "none"
            raise MissingKeyError(
                f"time {view.time}, setup {view.setup} has no transform {_said(which)}; it has {names}"
            )
        return place


def _said(which: str | int | None) -> str:
    return repr(which) if isinstance(which, str) else f"at place {which}"


def _transform(affine: AffineLike, name: str | None, *, force: bool) -> ViewTransform:
    if name is not None:
        _check_name(name)
    return ViewTransform(affine=Affine.from_array(affine) if force else usable(affine), name=name)


def _check_name(name: str) -> None:
    """Refuse what cannot be a name in XML, when it is given and not when the dataset is saved."""
    if not isinstance(name, str):
        raise InvalidInputError(f"the name of a transform is a text; found {name!r}")
    registration = ViewRegistration(transforms=(ViewTransform(affine=Affine.identity(), name=name),))
    xml.serialise(SpimData(registrations={ViewId(0, 0): registration}))


def _numbers(transform: ViewTransform) -> str:
    assert transform.affine is not None
    return "[" + " ".join(f"{value:g}" for value in transform.affine.values) + "]"
