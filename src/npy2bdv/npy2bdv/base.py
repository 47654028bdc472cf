"""What the established writer and editor share."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from npy2bdv.errors import InvalidInputError, OutOfRangeError
from npy2bdv.handle import Handle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from npy2bdv.model.spimdata import ViewId, ViewTransform


class BdvBase(Handle):
    """What writer and editor share."""

    __version__ = version("npy2bdv")
    compressions_supported: tuple[str | None, ...] = (None, "gzip", "lzf")


def matrix_of(transforms: Sequence[ViewTransform], index: int, view: ViewId) -> NDArray[np.float64]:
    """Return one of the transforms of a view as a 3x4 matrix."""
    if not 0 <= index < len(transforms):
        raise OutOfRangeError(
            f"there is no transform {index} of time {view.time}, setup {view.setup}: it has {len(transforms)}, "
            "counted from 0 (outermost)"
        )
    affine = transforms[index].affine
    if affine is None:
        raise InvalidInputError(f"the transform {transforms[index].name!r} is a Java class, not a matrix")
    return np.asarray(affine)
