"""Arrays that do harm to whoever reads them; in a module of their own, so that other processes find them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Deadly:
    """Ends the process that first reads plane `at`."""

    def __init__(self, shape: tuple[int, ...], at: int, marker: Path) -> None:
        self.shape, self.dtype = shape, np.dtype("uint16")
        self._at, self._marker = at, marker
        self.read = 0

    def __getitem__(self, key: Any) -> NDArray[Any]:
        planes = key[0]
        if planes.start <= self._at < planes.stop and not self._marker.exists():
            self._marker.touch()
            os._exit(3)
        part: NDArray[Any] = self.pixels()[key]
        return part

    def pixels(self) -> NDArray[Any]:
        return np.arange(np.prod(self.shape)).reshape(self.shape).astype("uint16")


class Fragile(Deadly):
    """Fails where a file is not there."""

    def __getitem__(self, key: Any) -> NDArray[Any]:
        if key[0].stop > self._at and not self._marker.exists():
            raise KeyboardInterrupt
        self.read += 1
        part: NDArray[Any] = self.pixels()[key]
        return part
