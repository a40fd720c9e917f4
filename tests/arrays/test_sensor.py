import numpy as np
import pytest

from gpudiff.arrays import sensor


def test_the_noise_is_photons_and_read_noise():
    rng = np.random.default_rng(1)
    out = sensor.add_noise(np.full((400, 400), 500.0, np.float32), 1, 10.0, rng)
    # 160,000 pixels: the mean is known to 0.06, the variance to 0.4 %.
    assert out.mean() == pytest.approx(500, abs=0.3)
    assert out.var() == pytest.approx(600, rel=0.02)


def test_the_mean_of_n_exposures_has_a_variance_n_times_smaller():
    rng = np.random.default_rng(2)
    out = sensor.add_noise(np.full((400, 400), 500.0, np.float32), 5, 10.0, rng)
    assert out.var() == pytest.approx(120, rel=0.02)  # 160,000 pixels: known to 0.4 %


def test_saturated_pixels_bleed_along_their_column():
    image = np.zeros((100, 10), np.float32)
    image[40:50, 3] = 2000
    full = sensor.bleed(image, image >= 1000, 1000)
    rows = np.flatnonzero(full[:, 3])
    assert rows[0] < 40
    assert rows[-1] > 49
    assert (image[full] == 1000).all()
    assert not full[:, [2, 4]].any()


def test_bad_columns_reach_an_edge_of_the_sensor():
    out = sensor.bad_columns((50, 60), 5, np.random.default_rng(3))
    for column in np.flatnonzero(out.any(0)):
        assert out[0, column] or out[-1, column]
    assert 1 <= out.any(0).sum() <= 5


def test_a_cosmic_ray_is_where_it_is_said_to_be_with_the_charge_it_is_said_to_have():
    image = np.zeros((200, 200), np.float32)
    rays = sensor.add_cosmic_rays(image, 1, np.random.default_rng(4))
    y, x = np.nonzero(image)
    assert image.sum() == pytest.approx(rays[0, 2], rel=1e-5)
    # The track's middle, to the pixel's own size and the grain of the charge.
    assert x.mean() == pytest.approx(rays[0, 0], abs=2)
    assert y.mean() == pytest.approx(rays[0, 1], abs=2)


def test_no_cosmic_rays_leave_the_image_alone():
    image = np.zeros((20, 20), np.float32)
    assert sensor.add_cosmic_rays(image, 0, np.random.default_rng(5)).shape == (0, 3)
    assert not image.any()
