"""The established interface: `BdvWriter` and `BdvEditor`, as acquisition scripts know them.

A thin layer over `npy2bdv.writer`, `npy2bdv.dataset` and `npy2bdv.editor`. Stacks, `subsamp`, `blockdim` and
`virtual_stack_dim` are (z, y, x); `calibration` and names that end in ``_xyz`` are (x, y, z).
"""

from npy2bdv.npy2bdv.base import BdvBase
from npy2bdv.npy2bdv.editor import BdvEditor
from npy2bdv.npy2bdv.writer import BdvWriter

__all__ = ["BdvBase", "BdvEditor", "BdvWriter"]
