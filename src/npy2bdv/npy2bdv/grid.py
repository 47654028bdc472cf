"""The numbering of setups in the established interface: a grid of illuminations, channels, tiles and angles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npy2bdv.errors import InvalidInputError
from npy2bdv.model.spimdata import ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from npy2bdv.existing import Existing


def place_in_grid(indices: Mapping[str, int], counts: Mapping[str, int]) -> int:
    """Return the setup id: illuminations, channels, tiles and angles are counted in this order, angles fastest."""
    setup = 0
    for name in ATTRIBUTES:
        setup = setup * counts[name] + indices[name]
    return setup


def check_grid(existing: Existing, counts: Mapping[str, int]) -> None:
    """Refuse counts with which the setups of a dataset would have other ids than they have.

    Only what is counted slowest may grow: illuminations always, channels where there is one illumination, tiles
    where there is one of both, angles where there is one of all others.

    Raises
    ------
    InvalidInputError
        If it is so, or if there are more of one than the counts say.
    """
    for id_, setup in sorted(existing.data.setups.items()):
        indices = {name: setup.attributes.get(name, 0) for name in ATTRIBUTES}
        for name, index in indices.items():
            if index >= counts[name]:
                raise InvalidInputError(
                    f"the dataset has {name} {index} (setup {id_}), and n{name}s={counts[name]} was given; give "
                    "how many there are, old and new"
                )
        found = place_in_grid(indices, counts)
        if found != id_:
            raise InvalidInputError(
                f"setup {id_} of the dataset ({', '.join(f'{name} {index}' for name, index in indices.items())}) would "
                f"be setup {found} among {' x '.join(f'{counts[name]} {name}s' for name in ATTRIBUTES)}, and ids of "
                'setups do not change. Append by npy2bdv.create(..., mode="a"), which takes any setups'
            )
