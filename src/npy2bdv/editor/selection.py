"""Which views an edit is for: by ids, or by labels of attributes; nothing given means all."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from npy2bdv.errors import InvalidInputError, MissingKeyError
from npy2bdv.model.spimdata import ATTRIBUTES, SpimData, ViewId

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN = 20


class Selector:
    """Finds views and setups. What it had to look up is remembered as long as setups and labels stay the same."""

    def __init__(self) -> None:
        self._data = SpimData()
        self._attributes: dict[str, _Attribute] = {}
        self._times: frozenset[int] = frozenset()
        self._setups: list[int] = []

    def views(self, data: SpimData, where: Mapping[str, object]) -> tuple[ViewId, ...]:
        """Return the views that fit, by time, then setup; missing ones are left out.

        Parameters
        ----------
        data
            The dataset.
        where
            ``view`` (a `ViewId` or pair (time, setup), or several), or any of ``time`` and ``setup`` (an id, a range
            or list of ids) and attributes (an id or label, or several). None is the same as not given.

        Raises
        ------
        MissingKeyError
            If there is nothing that fits; the message says what there is.
        InvalidInputError
            If `view` is given together with others.
        """
        given = {name: value for name, value in where.items() if value is not None}
        self._look_up(data)
        missing = data.missing or frozenset()
        if "view" in given:
            if len(given) > 1:
                raise InvalidInputError(
                    f"give either view= or {', '.join(f'{name}=' for name in given if name != 'view')}, not both"
                )
            asked = _views_of(given["view"])
            for view in asked:
                self._check_view(data, view)
            found = tuple(sorted(view for view in set(asked) if view not in missing))
        else:
            times = self._find_times(data, given.pop("time", None))
            setups = self._find_setups(data, given)
            found = tuple(
                view for time in times for setup in setups if (view := ViewId(time, setup)) not in missing
            )
        if not found:
            raise MissingKeyError(
                f"no view is selected by {_words(where)}: what fits is missing; the dataset has "
                f"{_some(data.timepoints.ids)} as time points and {_some(self._setups)} as setups, and "
                f"{len(missing)} missing views"
            )
        return found

    def setups(self, data: SpimData, where: Mapping[str, object]) -> tuple[int, ...]:
        """Return the ids of the setups that fit, in order; `where` as in `views`, without ``view`` and ``time``.

        Raises
        ------
        MissingKeyError
            If there is none that fits.
        InvalidInputError
            If ``view`` or ``time`` is given.
        """
        self._look_up(data)
        given = {name: each for name, each in where.items() if each is not None}
        for name in ("view", "time"):
            if name in given:
                raise InvalidInputError(
                    f"{name}={given[name]!r} selects views, but this is one of all time points of a setup: give setup= "
                    "or attributes"
                )
        return tuple(self._find_setups(data, given))

    def ids(self, data: SpimData, attribute: str, value: object) -> list[int]:
        """Return the ids of an attribute that an id or label, or several, name."""
        self._look_up(data)
        return sorted({id_ for each in _several(value) for id_ in self._ids_of(attribute, each)})

    def _look_up(self, data: SpimData) -> None:
        before, self._data = self._data, data
        if before.setups is not data.setups or before.attributes is not data.attributes:
            self._setups = sorted(data.setups)
            self._attributes = {}
        if before.timepoints is not data.timepoints:
            self._times = frozenset(data.timepoints.ids)

    def _attribute(self, name: str) -> _Attribute:
        """Return what there is of an attribute."""
        if name not in self._attributes:
            names = dict.fromkeys((*ATTRIBUTES, *self._data.attributes))
            if name not in names:
                raise MissingKeyError(
                    f"there is no attribute {name!r} in this dataset; it has {', '.join(names)}, and views are also "
                    "selected by time, setup or view"
                )
            self._attributes[name] = _Attribute(self._data, name)
        return self._attributes[name]

    def _find_times(self, data: SpimData, asked: object) -> Sequence[int]:
        ids = data.timepoints.ids
        if asked is None:
            return ids
        found = _ids(asked, self._times)
        if not found or not self._times.issuperset(found):
            raise MissingKeyError(
                f"time={asked!r} selects nothing; the dataset has {_some(ids)} as time points"
            )
        return found

    def _find_setups(self, data: SpimData, given: Mapping[str, object]) -> Sequence[int]:
        found: set[int] | None = None
        for name, value in given.items():
            if name == "setup":
                fitting = set(_ids(value, data.setups))
                if not fitting or not fitting <= data.setups.keys():
                    raise MissingKeyError(
                        f"setup={value!r} selects nothing; the dataset has {_some(self._setups)} as setups"
                    )
            else:
                fitting = {
                    setup
                    for each in _several(value)
                    for id_ in self._ids_of(name, each)
                    for setup in self._attribute(name).setups.get(id_, ())
                }
            found = fitting if found is None else found & fitting
        if found is None:
            return self._setups
        if not found:
            raise MissingKeyError(f"no setup has {_words(given)}; " + self._what_there_is(given))
        return sorted(found)

    def _ids_of(self, name: str, value: object) -> list[int]:
        """Return the ids of an attribute that a label (text) or an id names."""
        attribute = self._attribute(name)
        if isinstance(value, str):
            found = attribute.ids.get(value, [])
        else:
            found = [id_ for id_ in [_index(value, name)] if id_ in attribute.labels]
        if not found:
            raise MissingKeyError(f"{name}={value!r} selects nothing; {self._what_there_is({name: value})}")
        return found

    def _what_there_is(self, names: Iterable[str]) -> str:
        parts = []
        for name in names:
            if name == "setup":
                parts.append(f"setups: {_some(self._setups)}")
                continue
            labels = [f"{id_} {label!r}" for id_, label in self._attribute(name).labels.items()]
            more = f" ... ({len(labels)} in all)" if len(labels) > _SHOWN else ""
            parts.append(f"{name}: {', '.join(labels[:_SHOWN])}{more}")
        return "the dataset has " + "; ".join(parts)

    def _check_view(self, data: SpimData, view: ViewId) -> None:
        if view.time not in self._times or view.setup not in data.setups:
            raise MissingKeyError(
                f"there is no view of time point {view.time}, setup {view.setup}; the dataset has "
                f"{_some(data.timepoints.ids)} as time points and {_some(self._setups)} as setups"
            )


class _Attribute:
    """The values of one attribute: setups by id, labels by id (what has no name is called by its id), ids by label."""

    def __init__(self, data: SpimData, name: str) -> None:
        self.setups: dict[int, set[int]] = {}
        for setup in data.setups.values():
            entity = data.entity(name, setup)
            if entity is not None:
                self.setups.setdefault(entity.id, set()).add(setup.id)
        group = data.attributes.get(name)
        entities = group.entities if group is not None else {}
        self.labels = {
            id_: str(id_) if id_ not in entities or (label := entities[id_].name) is None else label
            for id_ in sorted({*self.setups, *entities})
        }
        self.ids: dict[str, list[int]] = {}
        for id_, label in self.labels.items():
            self.ids.setdefault(label, []).append(id_)


def _views_of(value: object) -> list[ViewId]:
    """Return one view or several, given as `ViewId`, as pairs, or as something that has an ``id`` (a `View`)."""
    try:
        if hasattr(value, "id"):
            value = value.id
        if isinstance(value, tuple) and len(value) == 2 and all(hasattr(each, "__index__") for each in value):
            return [ViewId(operator.index(value[0]), operator.index(value[1]))]
        several = [each.id if hasattr(each, "id") else each for each in value]  # type: ignore[attr-defined]
        return [ViewId(operator.index(time), operator.index(setup)) for time, setup in several]
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"view={value!r} is not understood; give a pair (time point, setup), or a list of them"
        ) from None


def _ids(value: object, known: Iterable[int]) -> list[int]:
    """Return ids in order: those given, or those of a range or slice that exist."""
    if isinstance(value, slice):
        first, last = min(known, default=0), max(known, default=-1)
        start = first if value.start is None else value.start
        stop = last + 1 if value.stop is None else value.stop
        value = range(start, stop, value.step or 1)
    if isinstance(value, range):
        return sorted(id_ for id_ in known if id_ in value)
    return sorted({_index(each, "an id") for each in _several(value)})


def _several(value: object) -> Iterable[object]:
    return value if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def _index(value: object, what: str) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InvalidInputError(
            f"{what} is a whole number, or a label as text, or a list of these; found {value!r}"
        ) from None


def _words(where: Mapping[str, object]) -> str:
    """Say what was asked for."""
    given = {name: value for name, value in where.items() if value is not None}
    return ", ".join(f"{name}={value!r}" for name, value in given.items()) or "this (everything)"


def _some(ids: Sequence[int]) -> str:
    """Return ids for a message, cut where they are many."""
    if not ids:
        return "none"
    if len(ids) > 2 and ids[-1] - ids[0] == len(ids) - 1:
        return f"{ids[0]} to {ids[-1]}"
    more = f" ... {ids[-1]} ({len(ids)} in all)" if len(ids) > _SHOWN else ""
    return ", ".join(map(str, ids[:_SHOWN])) + more
