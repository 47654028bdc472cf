"""Edits of transforms, for any selection of views."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from npy2bdv.editor.session import Session
from npy2bdv.errors import InvalidInputError, MissingKeyError
from npy2bdv.model.spimdata import ViewRegistration, ViewTransform
from npy2bdv.setups import usable

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from npy2bdv.model.affine import Affine
    from npy2bdv.model.spimdata import ViewId

_NONE = ViewRegistration()


class TransformEdits(Session):
    """The part of `Editor` that is about transforms. A view's transforms are listed outermost (applied last) first."""

    def transforms(self, **where: Any) -> dict[ViewId, tuple[ViewTransform, ...]]:
        """Return the transforms of each view, outermost (applied last) first."""
        known = self._data.registrations
        return {view: known.get(view, _NONE).transforms for view in self._select(where)}

    def insert_transform(
        self,
        affine: ArrayLike | Affine,
        *,
        name: str = "manually defined",
        at: Literal["outermost", "innermost"] = "outermost",
        **where: Any,
    ) -> None:
        """Add a transform to each view."""
        if at not in ("outermost", "innermost"):
            raise InvalidInputError(
                f"at={at!r} is not known; it is 'outermost' (applied last) or 'innermost'"
            )
        transform = ViewTransform(affine=usable(affine), name=name)
        known = self._data.registrations
        changes = {}
        for view in self._select(where):
            old = known.get(view, _NONE)
            both = (transform, *old.transforms) if at == "outermost" else (*old.transforms, transform)
            changes[view] = replace(old, transforms=both)
        self._stage_registrations(changes, f"insert transform {name!r} {at}, {len(changes)} views")

    def remove_transform(self, name: str, **where: Any) -> None:
        """Remove a transform by its name."""
        known = self._data.registrations
        changes = {}
        for view in self._select(where):
            old = known.get(view, _NONE)
            left = tuple(each for each in old.transforms if each.name != name)
            if len(left) < len(old.transforms):
                changes[view] = replace(old, transforms=left)
        if not changes:
            raise MissingKeyError(f"none of the views has a transform {name!r}")
        self._stage_registrations(changes, f"remove transform {name!r}, {len(changes)} views")
