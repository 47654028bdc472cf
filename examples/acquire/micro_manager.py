"""Record a sequence of Micro-Manager (by pymmcore-plus) into a dataset for BigStitcher.

Positions become tiles, where the stage was; channels and time points are what they are. Run as it is, it records from
a camera and stages that are made of Python:

    python micro_manager.py scan.xml
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import useq
from pymmcore_plus.experimental.unicore import (
    CameraDevice,
    ShutterDevice,
    StageDevice,
    UniMMCore,
    XYStageDevice,
)

import npy2bdv


class DatasetHandler:
    """Takes the frames of a sequence: ``core.run_mda(sequence, output=DatasetHandler("scan.xml"))``.

    Parameters
    ----------
    path
        The XML.
    z_step
        Distance of planes, in micrometres.
    options
        As `npy2bdv.create` takes them.
    """

    def __init__(self, path: str, *, z_step: float = 1.0, **options: Any) -> None:
        self._path, self._z_step, self._options = path, z_step, options

    def sequenceStarted(self, sequence: useq.MDASequence, meta: Mapping[str, Any]) -> None:
        self._writer = npy2bdv.create(self._path, **self._options)
        self._depth = max(1, sequence.sizes.get("z", 1))
        self._setups: dict[tuple[str, int], int] = {}
        self._views: dict[tuple[int, int], npy2bdv.ViewStream] = {}

    def frameReady(self, frame: np.ndarray, event: useq.MDAEvent, meta: Mapping[str, Any]) -> None:
        index = event.index
        channel = event.channel.config if event.channel else "0"
        key = channel, index.get("p", 0)
        if key not in self._setups:
            pixel = meta.get("pixel_size_um") or 1.0
            first_z = (event.z_pos or 0.0) - index.get("z", 0) * self._z_step
            self._setups[key] = self._writer.add_setup(
                shape=(self._depth, *frame.shape),
                dtype=frame.dtype,
                channel=channel,
                tile=key[1],
                voxel_size_xyz=(pixel, pixel, self._z_step),
                unit="micrometer",
                stage_position_xyz=(event.x_pos or 0.0, event.y_pos or 0.0, first_z),
                exposure_time=meta.get("exposure_ms", 0.0),
                exposure_unit="ms",
            )
        view = self._setups[key], index.get("t", 0)
        if view not in self._views:
            self._views[view] = self._writer.stream(setup=view[0], time=view[1])
        stream, z = self._views[view], index.get("z", 0)
        stream.put(frame[np.newaxis], z)
        if z == self._depth - 1:  # the last plane of this stack: what it needs in memory is free again
            self._views.pop(view).close()

    def sequenceFinished(self, sequence: useq.MDASequence) -> None:
        for (
            stream
        ) in self._views.values():  # what a cancelled sequence left open: planes that never came are noted
            stream.close()
        self._writer.close()


# -- from here on: a microscope made of Python, in place of yours ------------------------------------------


class PretendCamera(CameraDevice):
    """Shows the number of the frame in every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self._exposure, self._frames = 1.0, 0

    def get_exposure(self) -> float:
        return self._exposure

    def set_exposure(self, exposure: float) -> None:
        self._exposure = exposure

    def shape(self) -> tuple[int, int]:
        return 64, 96

    def dtype(self) -> type[np.uint16]:
        return np.uint16

    def start_sequence(self, n: int | None, get_buffer: Any) -> Any:
        for _ in range(n or 1):
            get_buffer(self.shape(), self.dtype())[:] = self._frames
            self._frames += 1
            yield {}


class PretendFocus(StageDevice):
    """A stage along z."""

    _z = 0.0

    def set_position_um(self, val: float) -> None:
        self._z = val

    def get_position_um(self) -> float:
        return self._z

    def home(self) -> None: ...

    def stop(self) -> None: ...

    def set_origin(self) -> None: ...


class PretendStage(XYStageDevice):
    """A stage along x and y."""

    _xy = (0.0, 0.0)

    def set_position_um(self, x: float, y: float) -> None:
        self._xy = x, y

    def get_position_um(self) -> tuple[float, float]:
        return self._xy

    def home(self) -> None: ...

    def stop(self) -> None: ...

    def set_origin_x(self) -> None: ...

    def set_origin_y(self) -> None: ...


class PretendShutter(ShutterDevice):
    """A shutter."""

    _open = False

    def get_open(self) -> bool:
        return self._open

    def set_open(self, open: bool) -> None:
        self._open = open


def pretend_microscope() -> UniMMCore:
    """Return a core with these devices. Yours: ``CMMCorePlus()``, then ``loadSystemConfiguration("my.cfg")``."""
    core = UniMMCore()
    devices = {
        "Camera": PretendCamera(),
        "Shutter": PretendShutter(),
        "Z": PretendFocus(),
        "XY": PretendStage(),
    }
    for name, device in devices.items():
        core.loadPyDevice(name, device)
        core.initializeDevice(name)
    core.setCameraDevice("Camera")
    core.setShutterDevice("Shutter")
    core.setFocusDevice("Z")
    core.setXYStageDevice("XY")
    return core


if __name__ == "__main__":
    sequence = useq.MDASequence(
        stage_positions=[(0, 0, 100), (80, 0, 100)],
        z_plan={"range": 8, "step": 2},
        time_plan={"interval": 0, "loops": 2},
        axis_order="tpz",
    )
    handler = DatasetHandler(sys.argv[1], z_step=2.0, overwrite=True)
    core = pretend_microscope()
    core.mda.run(sequence, output=handler)
