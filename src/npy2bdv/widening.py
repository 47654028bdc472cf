"""Levels that are added to views when their pixels are there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from npy2bdv.errors import InvalidInputError
from npy2bdv.model.pyramid import Pyramid
from npy2bdv.setups import pyramid_of
from npy2bdv.stream import make_levels

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from npy2bdv.checkpoints import Safety
    from npy2bdv.engine import Engine
    from npy2bdv.model.pyramid import Zyx
    from npy2bdv.model.spimdata import ViewId
    from npy2bdv.setups import Chunks, DraftSetup, Levels
    from npy2bdv.storage.base import Codec, Container, FormatCard


def with_levels(known: DraftSetup, levels: Levels, chunks: Chunks, card: FormatCard) -> DraftSetup:
    """Return a setup with further levels.

    Raises
    ------
    InvalidInputError
        If a factor or block cannot be right, or a level is there already.
    """
    more = pyramid_of(known.pyramid.shape, known.value.voxel_size, levels, chunks)
    pyramid = Pyramid(
        shape=known.pyramid.shape,
        factors=known.pyramid.factors + more.factors,
        chunks=known.pyramid.chunks + more.chunks,
    )
    if len(set(pyramid.factors)) < pyramid.n_levels:
        raise InvalidInputError(f"a level with these factors is there already: {pyramid.factors}")
    card.check(pyramid, known.dtype)
    if (1, 1, 1) not in known.pyramid.factors:
        for each in more.factors:
            _relative(each, known.pyramid.factors[0])
    return replace(known, pyramid=pyramid)


def fill(
    narrow: Mapping[int, DraftSetup],
    wider: Mapping[int, DraftSetup],
    views: Iterable[ViewId],
    empty: Collection[ViewId],
    *,
    container: Container,
    codec: Codec,
    engine: Engine,
    safety: Safety,
) -> Iterator[tuple[int, int]]:
    """Make the levels that setups have more than they had, and fill them; yield (planes read, planes in all).

    Parameters
    ----------
    narrow, wider
        The setups without and with the levels.
    views
        All views.
    empty
        Those of which no plane has come: they get levels, too, and nothing in them.
    container, codec, engine, safety
        Where they are stored, how, by what, and what keeps them safe.
    """
    views = sorted(views)
    total = sum(narrow[view.setup].pyramid.level_shape(0)[0] for view in views)
    safety.levels(complete=False)
    added = {}
    for view in views:  # all before any is filled: a kill leaves no view without its levels
        known = narrow[view.setup]
        pyramid, first = wider[view.setup].pyramid, known.pyramid.n_levels
        added[view] = container.add_levels(view, pyramid, first, known.dtype, codec)
    container.flush()
    for view, arrays in added.items():
        pyramid, first = wider[view.setup].pyramid, narrow[view.setup].pyramid.n_levels
        safety.added(view, first, zip(pyramid.factors[first:], arrays, strict=True))
    done = 0
    for view, arrays in added.items():
        if view in empty:
            continue
        pyramid, first = wider[view.setup].pyramid, narrow[view.setup].pyramid.n_levels
        base = pyramid.factors.index((1, 1, 1)) if (1, 1, 1) in pyramid.factors[:first] else 0
        source = container.level(view, base)
        factors = (_relative(each, pyramid.factors[base]) for each in pyramid.factors[first:])
        for planes in make_levels(engine, source, list(zip(factors, arrays, strict=True))):
            yield done + planes, total
        done += source.shape[0]
    engine.drain()
    container.flush()
    safety.levels(complete=True)


def _relative(factors: Zyx, base: Zyx) -> Zyx:
    """Return factors against a stored level, whose own must divide them."""
    if any(factor % divisor for factor, divisor in zip(factors, base, strict=True)):
        raise InvalidInputError(
            f"the level {factors} cannot be made from the stored level {base}, whose factors do not divide it; "
            "choose multiples of them"
        )
    z, y, x = (factor // divisor for factor, divisor in zip(factors, base, strict=True))
    return z, y, x
