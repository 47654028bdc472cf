"""The synthetic recording: the same each time, right where tiles overlap, noisy as a camera is."""

import numpy as np
import pytest

from npy2bdv.errors import InvalidInputError
from npy2bdv.sample import Recording

TINY = Recording(shape=(8, 40, 48))


def test_views_are_those_recorded_in_order() -> None:
    found = [(v.time, v.channel, v.tile) for v in TINY.views()]
    everything = [(t, c, k) for t in (0, 1) for c in ("488", "561") for k in range(4)]
    assert found == [v for v in everything if v not in TINY.missing]
    assert len(found) == 15
    assert all(v.stack.shape == (8, 40, 48) and v.stack.dtype == np.uint16 for v in TINY.views())


def test_the_default_is_the_size_promised() -> None:
    recording = Recording()
    n_views = recording.n_times * len(recording.channels) * recording.n_tiles - len(recording.missing)
    assert n_views * np.prod(recording.shape) * 2 == 58_982_400
    assert recording.voxel_size_xyz[2] > recording.voxel_size_xyz[0]


def test_the_seed_decides_everything() -> None:
    first, again = TINY.view(1, "488", 2).stack, TINY.view(1, "488", 2).stack
    np.testing.assert_array_equal(first, again)
    other = Recording(shape=TINY.shape, seed=1).view(1, "488", 2).stack
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("channel", TINY.channels)
def test_tiles_match_where_they_overlap_but_their_noise_does_not(channel: str) -> None:
    recording = Recording(shape=(6, 60, 50), grid=(2, 3), overlap=0.3)
    assert recording.scene_shape == (6, 42 + 60, 2 * 35 + 50)
    scene = np.full(recording.scene_shape, np.nan)
    compared = 0
    for tile in range(recording.n_tiles):
        x, y, z = recording.tile_origin_xyz(tile)
        light = recording.light(0, channel, tile)
        place = scene[z : z + 6, y : y + 60, x : x + 50]
        known = ~np.isnan(place)
        np.testing.assert_allclose(light[known], place[known], rtol=1e-5)
        compared += known.sum()
        place[...] = light
    assert not np.isnan(scene).any()
    assert compared == 6 * 6 * 60 * 50 - scene.size

    left, right = recording.view(0, channel, 0).stack, recording.view(0, channel, 1).stack
    assert not np.array_equal(left[:, :, 35:], right[:, :, :15])


def test_a_scene_has_contents_and_moves() -> None:
    for channel in TINY.channels:
        light = TINY.light(0, channel, 0)
        assert light.max() > 10 * np.median(light)
    assert not np.allclose(TINY.light(0, "488", 0), TINY.light(1, "488", 0), atol=1)


def test_the_camera_has_offset_gain_shot_noise_and_read_noise() -> None:
    """2 counts per electron, Poisson light, 1.5 electrons of read noise, offset 100."""
    recording = Recording()
    light = recording.light(0, "488", 0)
    counts = recording.view(0, "488", 0).stack.astype(float)
    for low, high in ((7, 9), (15, 20), (100, 150)):
        chosen = (light > low) & (light < high)
        assert chosen.sum() > 3000
        residual = counts[chosen] - 100 - 2 * light[chosen]
        assert residual.mean() == pytest.approx(0, abs=0.5)
        assert residual.var() == pytest.approx(4 * (light[chosen].mean() + 1.5**2), rel=0.1)


def test_a_recording_refuses_nonsense() -> None:
    with pytest.raises(InvalidInputError, match=r"at least 1 and an overlap in \[0, 1\)"):
        Recording(overlap=1)
    with pytest.raises(InvalidInputError, match=r"shape=\(0, 4, 4\)"):
        Recording(shape=(0, 4, 4))


def test_unknown_views_are_not_made_up() -> None:
    with pytest.raises(InvalidInputError, match="no view"):
        TINY.view(0, "640", 0)
    with pytest.raises(InvalidInputError, match="no view"):
        TINY.view(2, "488", 0)
