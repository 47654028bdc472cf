"""A synthetic light-sheet recording, for the demo, the tests and the documentation."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from npy2bdv.errors import InvalidInputError
from npy2bdv.model.pyramid import Region, Zyx

# Light, in photoelectrons per pixel: what falls on the camera everywhere, and what the tissue adds unfocused.
_BACKGROUND, _HAZE = 8.0, 14.0
# Camera, as an sCMOS sensor: counts = offset + gain * (electrons + read noise).
_OFFSET, _GAIN, _READ_NOISE = 100.0, 2.0, 1.5
# Mean distance between nuclei, and length on which tissue dims the sheet, in micrometres.
_SPACING, _DIMMING = 11.0, 250.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampleView:
    """One stack of a `Recording`, and where it belongs.

    Parameters
    ----------
    time, channel, tile
        Which view this is: time point from 0, channel name, tile number from 0.
    tile_origin_xyz
        Place of the first pixel of the stack in the scene, in pixels.
    stack
        The pixels (z, y, x), uint16.
    """

    time: int
    channel: str
    tile: int
    tile_origin_xyz: tuple[int, int, int]
    stack: NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A small embryo with beads around it, seen by a light-sheet microscope in overlapping tiles.

    Tiles are cut from one scene for each channel and time point: where they overlap they match, except for
    the noise of the camera. Channel "488" shows nuclei, which move a little from one time point to the next;
    channel "561" shows membranes, and beads that stay in place. All of it follows from the seed. Views are
    made one at a time, when asked for.

    Parameters
    ----------
    shape
        Size of a tile (z, y, x), in pixels. The default makes a recording of 59 MB.
    grid
        Number of tiles along (y, x). Tiles are numbered along x first.
    overlap
        Part of a tile that it shares with its neighbour.
    n_times
        Number of time points.
    missing
        Views that were not recorded: (time, channel, tile).
    seed
        Another seed, another embryo.

    Examples
    --------
    >>> recording = Recording(shape=(8, 40, 48))
    >>> len(list(recording.views()))
    15
    >>> view = next(recording.views())
    >>> view.time, view.channel, view.tile, view.stack.shape, view.stack.dtype
    (0, '488', 0, (8, 40, 48), dtype('uint16'))
    """

    shape: Zyx = (32, 240, 256)
    grid: tuple[int, int] = (2, 2)
    overlap: float = 0.15
    n_times: int = 2
    missing: tuple[tuple[int, str, int], ...] = ((1, "561", 3),)
    seed: int = 0

    channels: tuple[str, ...] = field(default=("488", "561"), init=False)
    voxel_size_xyz: tuple[float, float, float] = field(default=(0.4, 0.4, 1.2), init=False)
    unit: str = field(default="micrometer", init=False)

    def __post_init__(self) -> None:
        if min(*self.shape, *self.grid, self.n_times) < 1 or not 0 <= self.overlap < 1:
            raise InvalidInputError(
                "a recording has sizes, tiles and time points of at least 1 and an overlap in [0, 1); "
                f"found shape={self.shape}, grid={self.grid}, n_times={self.n_times}, overlap={self.overlap}"
            )

    @property
    def n_tiles(self) -> int:
        """How many tiles there are."""
        return math.prod(self.grid)

    @property
    def scene_shape(self) -> Zyx:
        """Size of the scene that the tiles cover together (z, y, x), in pixels."""
        x, y, _ = self.tile_origin_xyz(self.n_tiles - 1)
        return self.shape[0], y + self.shape[1], x + self.shape[2]

    def tile_origin_xyz(self, tile: int) -> tuple[int, int, int]:
        """Place of the first pixel of a tile in the scene, in pixels."""
        row, column = divmod(tile, self.grid[1])
        step_y, step_x = (max(1, round(n * (1 - self.overlap))) for n in self.shape[1:])
        return column * step_x, row * step_y, 0

    def views(self) -> Iterator[SampleView]:
        """Make the views that were recorded: by time, then channel, then tile."""
        for time in range(self.n_times):
            for channel in self.channels:
                for tile in range(self.n_tiles):
                    if (time, channel, tile) not in self.missing:
                        yield self.view(time, channel, tile)

    def view(self, time: int, channel: str, tile: int) -> SampleView:
        """Make one view, with the noise of the camera."""
        light = self.light(time, channel, tile)
        rng = np.random.default_rng((self.seed, time, self.channels.index(channel), tile))
        return SampleView(
            time=time,
            channel=channel,
            tile=tile,
            tile_origin_xyz=self.tile_origin_xyz(tile),
            stack=_camera(light, rng),
        )

    def light(self, time: int, channel: str, tile: int) -> NDArray[np.float32]:
        """Give what falls on the camera: the view (z, y, x) without noise, in photoelectrons.

        Tiles are equal where they overlap, but for rounding.
        """
        if not (0 <= time < self.n_times and channel in self.channels and 0 <= tile < self.n_tiles):
            raise InvalidInputError(
                f"there is no view of time {time}, channel {channel!r}, tile {tile} in this recording of "
                f"{self.n_times} time points, channels {self.channels} and {self.n_tiles} tiles"
            )
        canvas = _Canvas(
            image=np.zeros(self.shape, np.float32),
            origin_xyz=self.tile_origin_xyz(tile),
            voxel_size_xyz=self.voxel_size_xyz,
        )
        cells = _Cells.in_scene(self.scene_shape, self.voxel_size_xyz, self.seed).at(time)
        if channel == self.channels[0]:
            canvas.draw_nuclei(cells)
        else:
            canvas.draw_membranes(cells)
            canvas.draw_beads(self.scene_shape, self.seed)
        canvas.draw_haze(self.scene_shape)
        return canvas.image


class _Cells(NamedTuple):
    """The cells of the embryo; lengths in micrometres, one row for each cell."""

    centre_xyz: NDArray[np.float64]
    velocity_xyz: NDArray[np.float64]
    radius_xyz: NDArray[np.float64]
    angle: NDArray[np.float64]
    light: NDArray[np.float64]
    phase: NDArray[np.float64]

    @classmethod
    def in_scene(cls, scene: Zyx, voxel_size_xyz: tuple[float, float, float], seed: int) -> "_Cells":
        """Place cells on a shaken lattice inside the embryo."""
        rng = np.random.default_rng((seed, 1))
        centre, half_axes = _embryo(scene, voxel_size_xyz)
        n = np.ceil(half_axes / _SPACING).astype(int)
        lattice = np.stack(np.meshgrid(*(np.arange(-k, k + 1) for k in n), indexing="ij"), axis=-1).reshape(
            -1, 3
        )
        # Every other layer is shifted by half a cell, as spheres are packed.
        places = _SPACING * (lattice + 0.5 * (lattice[:, 2:] % 2) * [1, 1, 0])
        places += rng.normal(0, 0.2 * _SPACING, places.shape)
        places = places[((places / half_axes) ** 2).sum(axis=1) < 0.85]
        count = len(places)
        return cls(
            centre_xyz=centre + places,
            velocity_xyz=rng.normal([0.6, 0.2, 0], 0.5, (count, 3)),
            radius_xyz=rng.uniform(2.8, 4.4, (count, 3)),
            angle=rng.uniform(0, math.pi, count),
            light=rng.lognormal(math.log(190), 0.35, count),
            phase=rng.uniform(0, 2 * math.pi, count),
        )

    def at(self, time: int) -> "_Cells":
        return self._replace(centre_xyz=self.centre_xyz + time * self.velocity_xyz)


@dataclass(slots=True, kw_only=True, eq=False)
class _Canvas:
    """The image of a tile, on which things are drawn in micrometres of the scene."""

    image: NDArray[np.float32]
    origin_xyz: tuple[int, int, int]
    voxel_size_xyz: tuple[float, float, float]

    def draw_nuclei(self, cells: _Cells) -> None:
        """Draw soft ellipsoids with an uneven inside."""
        for centre, radius, angle, light, phase in zip(
            cells.centre_xyz, cells.radius_xyz, cells.angle, cells.light, cells.phase, strict=True
        ):
            box, z, y, x = self._box(centre, radius.max() * 1.4)
            u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
            distance = np.sqrt((u / radius[0]) ** 2 + (v / radius[1]) ** 2 + (z / radius[2]) ** 2)
            inside = np.clip(3.5 - 3 * distance, 0, 1)
            texture = 1 + 0.35 * np.cos(1.4 * u + 0.9 * z + phase) * np.cos(0.9 * v - 1.1 * z + 0.5 * u)
            self.image[box] += light * inside * texture

    def draw_membranes(self, cells: _Cells) -> None:
        """Draw a thin shell around each cell."""
        for centre, radius, light in zip(cells.centre_xyz, cells.radius_xyz, cells.light, strict=True):
            outer = radius * 1.45
            box, z, y, x = self._box(centre, outer.max() * 1.5)
            distance = np.sqrt((x / outer[0]) ** 2 + (y / outer[1]) ** 2 + (z / outer[2]) ** 2)
            blur = 0.1 + 0.2 * (z / outer[2]) ** 2  # along z the microscope sees less sharply
            self.image[box] += 0.045 * light / blur * np.exp(-(((distance - 1) / blur) ** 2))

    def draw_beads(self, scene: Zyx, seed: int) -> None:
        """Draw beads, as the microscope blurs them, in the gel around the embryo."""
        rng = np.random.default_rng((seed, 2))
        size = np.array(scene[::-1]) * self.voxel_size_xyz
        places = rng.uniform(0, size, (max(8, round(size.prod() / 4000)), 3))
        lights = rng.uniform(300, 900, len(places))
        centre, half_axes = _embryo(scene, self.voxel_size_xyz)
        outside = (((places - centre) / half_axes) ** 2).sum(axis=1) > 1
        for place, light in zip(places[outside], lights[outside], strict=True):
            box, z, y, x = self._box(place, 5.0)
            self.image[box] += light * np.exp(-(x**2 + y**2) / (2 * 0.45**2) - z**2 / (2 * 1.4**2))

    def draw_haze(self, scene: Zyx) -> None:
        """Add light out of focus and the background; dim what the sheet, coming along x, reaches late."""
        (centre_x, centre_y, centre_z), (half_x, half_y, half_z) = _embryo(scene, self.voxel_size_xyz)
        z, y, x = self._coordinates([(0, n) for n in self.image.shape])
        flat = ((x - centre_x) / half_x) ** 2 + ((y - centre_y) / half_y) ** 2
        self.image += np.clip(_HAZE * (1.3 - flat - ((z - centre_z) / half_z) ** 2), 0, _HAZE)
        self.image *= np.exp(-x / _DIMMING)
        self.image += np.float32(_BACKGROUND)

    def _box(
        self, centre_xyz: NDArray[np.float64], reach: float
    ) -> tuple[Region, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Find the pixels within reach of a point: their region, and z, y, x from there as open grids."""
        bounds = []
        for centre, voxel, origin, size in zip(
            centre_xyz[::-1], self.voxel_size_xyz[::-1], self.origin_xyz[::-1], self.image.shape, strict=True
        ):
            first, last = (centre - reach) / voxel - origin, (centre + reach) / voxel - origin
            start = min(max(0, math.ceil(first)), size)
            bounds.append((start, min(max(start, math.floor(last) + 1), size)))
        z, y, x = self._coordinates(bounds)
        box = (slice(*bounds[0]), slice(*bounds[1]), slice(*bounds[2]))
        return box, z - centre_xyz[2], y - centre_xyz[1], x - centre_xyz[0]

    def _coordinates(self, bounds: Sequence[tuple[int, int]]) -> tuple[NDArray[np.float64], ...]:
        """Give z, y, x of pixels in the scene, as open grids."""
        places = zip(bounds, self.origin_xyz[::-1], self.voxel_size_xyz[::-1], strict=True)
        return np.ix_(*((np.arange(*b) + origin) * voxel for b, origin, voxel in places))


def _embryo(
    scene: Zyx, voxel_size_xyz: tuple[float, float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give centre and half axes (x, y, z) of the embryo, in micrometres; it reaches beyond the scene in z."""
    size = np.array(scene[::-1]) * voxel_size_xyz
    return size / 2, size * [0.44, 0.40, 0.75]


def _camera(light: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint16]:
    """Turn photoelectrons into counts.

    The shot noise is a normal variable bent to the variance and the skewness of a Poisson variable (Cornish
    and Fisher 1938): ten times faster than drawing from that, and as good above a few electrons.
    """
    normal = rng.standard_normal(light.shape, np.float32)
    electrons = light + np.sqrt(light) * normal + (normal**2 - 1) / 6
    electrons += _READ_NOISE * rng.standard_normal(light.shape, np.float32)
    counts = np.rint(_OFFSET + _GAIN * electrons)
    return np.clip(counts, 0, 65535).astype(np.uint16)
