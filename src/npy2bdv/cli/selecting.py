"""Which views a command is for, as typed on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from npy2bdv.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from npy2bdv.model.spimdata import SpimData


_REPEATED = "A label, or an id; may be repeated."


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Where:
    """Which views; without any of these all. Missing views are passed over."""

    time: Annotated[str | None, Parameter(help='Ids of time points: "3", "0,2,5", "0-99".')] = None
    setup: Annotated[str | None, Parameter(help='Ids of setups: "3", "0,2,5", "0-99".')] = None
    channel: Annotated[tuple[str, ...], Parameter(help=_REPEATED, negative="", show_default=False)] = ()
    tile: Annotated[tuple[str, ...], Parameter(help=_REPEATED, negative="", show_default=False)] = ()
    angle: Annotated[tuple[str, ...], Parameter(help=_REPEATED, negative="", show_default=False)] = ()
    illumination: Annotated[tuple[str, ...], Parameter(help=_REPEATED, negative="", show_default=False)] = ()
    attribute: Annotated[
        tuple[str, ...],
        Parameter(
            help="Another attribute, as NAME=LABEL or NAME=ID; may be repeated.",
            negative="",
            show_default=False,
        ),
    ] = ()

    def of(self, data: SpimData) -> dict[str, Any]:
        """Return the selection as the library takes it, for this dataset."""
        found: dict[str, Any] = {
            name: _ids(text, f"--{name}")
            for name, text in (("time", self.time), ("setup", self.setup))
            if text is not None
        }
        labels = {
            "channel": list(self.channel),
            "tile": list(self.tile),
            "angle": list(self.angle),
            "illumination": list(self.illumination),
        }
        for text in self.attribute:
            name, equals, label = text.partition("=")
            if not (name and equals and label):
                raise InvalidInputError(
                    f"--attribute {text!r} is not understood; write NAME=LABEL or NAME=ID"
                )
            labels.setdefault(name, []).append(label)
        return found | {name: _labels(data, name, texts) for name, texts in labels.items() if texts}


def _ids(text: str, option: str) -> range | list[int]:
    """Read ids such as "3", "0,2,5" or "0-99"; a run alone stands for those that there are."""
    parts: list[range] = []
    for part in text.split(","):
        first, dash, last = (each.strip() for each in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InvalidInputError(f'{option} {text!r} is not understood; write ids: "3", "0,2,5" or "0-99"')
        parts.append(range(int(first), int(last or first) + 1))
    if len(parts) == 1 and len(parts[0]) != 1:
        return parts[0]
    return [id_ for part in parts for id_ in part]


def _labels(data: SpimData, name: str, texts: Iterable[str]) -> list[int | str]:
    """Take a text for a label where there is such a label, else for an id if it is a number."""
    group = data.attributes.get(name)
    known = {entity.name for entity in group.entities.values()} if group is not None else set()
    return [int(text) if text not in known and text.isdecimal() else text for text in texts]
