import numpy as np
import pytest

from gpudiff.arrays.artefacts import add_ghost, add_halo, add_spikes, add_streak, hot_pixels, rough_surface


def blank():
    return np.zeros((201, 301), np.float32)


def test_a_streak_has_its_peak_on_the_line_and_half_of_it_half_a_width_away():
    image = blank()
    add_streak(image, 150, 100, np.radians(30), 8.0, 6.0)
    for along in (-60, 0, 60):
        x, y = 150 + along * np.cos(np.radians(30)), 100 + along * np.sin(np.radians(30))
        assert image[round(y), round(x)] == pytest.approx(8, rel=0.06)  # half a pixel off the line at most
    add_streak(level := blank(), 150, 100, 0.0, 8.0, 6.0)
    np.testing.assert_allclose(level[103], 4, rtol=1e-6)


def test_spikes_are_brighter_than_what_lies_between_them():
    image = blank()
    add_spikes(image, 150, 100, 1e6, np.radians(45), 4.0)
    assert image[140, 190] == pytest.approx(100 / (1 + 40 * 2**0.5 / 20) ** 2, rel=1e-4)
    assert image[100, 190] < 1e-6 * image[140, 190]


def test_a_halo_falls_and_a_ghost_is_a_ring():
    image = blank()
    add_halo(image, 150, 100, 1e6)
    assert image[100, 150] == pytest.approx(4)
    assert image[100, 165] == pytest.approx(2)
    add_ghost(ghost := blank(), 150, 100, 1e6)
    assert ghost[100, 150] == 0
    assert ghost[100, 190] == ghost[140, 150] == pytest.approx(3)


def test_no_pixel_is_hot_twice():
    made = hot_pixels((50, 60), 400, np.random.default_rng(1))
    assert len({(x, y) for x, y, _ in made}) == 400
    assert made[:, 0].max() < 60
    assert (made[:, 2] >= 200).all()


@pytest.mark.parametrize("shape", [(256, 200), (160, 500)])
def test_a_rough_surface_is_rough_at_its_scale_and_smooth_below(shape):
    made = rough_surface(shape, 20.0, np.random.default_rng(2))
    assert made.shape == shape
    assert made.mean() == pytest.approx(0, abs=1e-4)
    assert made.std() == pytest.approx(1, abs=1e-4)
    # Neighbours of a field smoothed by s px differ by 1 / (sqrt(2) s) rms.
    assert np.diff(made, axis=1).std() == pytest.approx(1 / (2**0.5 * 20), rel=0.3)
