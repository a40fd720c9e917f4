"""Wings of saturated stars that a matching kernel does not reach."""

import numpy as np
import pytest

from gpudiff.arrays.afar import Afar
from gpudiff.arrays.saturated import SaturatedStar
from gpudiff.arrays.wings import FEWEST, without_wings
from tests.arrays.test_afar import Counting, Device

FWHM, CORE = 4.0, 12
SHAPE = (320, 320)


def sky(stars, share, seed=1):
    """(image with noise of 1 and rings of `share` of each star's flux, its noise alone, what is lost): a core."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    noise = np.random.default_rng(seed).normal(0, 1, SHAPE).astype(np.float32)
    image, lost = noise.copy(), np.zeros(SHAPE, bool)
    for one in stars:
        distance = np.hypot(rows - one.y, columns - one.x)
        image += np.float32(share * one.flux) * np.exp(-distance / 6).astype(np.float32)
        lost |= distance < CORE
    image[lost] = np.nan
    return image, noise, lost


@pytest.fixture
def stars():
    place = [(60, 70), (62.3, 160.4), (70, 250), (160, 60), (150.5, 150), (165, 251), (250, 80), (255, 160.7)]
    return [SaturatedStar(y, x, flux, 5.0) for (y, x), flux in zip(place, range(2, 10), strict=True)]


def near(image, stars, reach=24):
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    distance = np.min([np.hypot(rows - one.y, columns - one.x) for one in stars], 0)
    return image[(distance > CORE) & (distance < reach)]


def test_rings_in_proportion_to_flux_are_taken_out(stars):
    image, noise, lost = sky(stars, 0.6)
    before = float(near(image - noise, stars).mean())
    without_wings(image, np.ones(SHAPE, np.float32), lost, stars, FWHM)
    assert before > 0.15
    assert abs(float(near(image - noise, stars).mean())) < 0.03  # three errors of the mean of 10,808 pixels
    assert float(near(image - noise, stars).std()) < 0.1  # a tenth of the noise: the profile is of 300 px a ring
    assert np.isnan(image[lost]).all()


def test_where_there_are_no_rings_next_to_nothing_is_taken(stars):
    image, noise, lost = sky(stars, 0.0)
    without_wings(image, np.ones(SHAPE, np.float32), lost, stars, FWHM)
    assert float(near(image - noise, stars).std()) < 0.05  # of what noise alone puts into a ring's mean, half


def test_a_few_stars_have_no_profile_of_their_own(stars):
    image, _, lost = sky(stars, 0.6)
    before = image.copy()
    few = [*stars[: FEWEST - 1], SaturatedStar(250.0, 80.0, 0.0, 5.0)]  # the last is not known how bright
    without_wings(image, np.ones(SHAPE, np.float32), lost, few, FWHM)
    np.testing.assert_array_equal(image, before)


def test_planes_on_a_device_come_out_the_same(stars):
    image, _, lost = sky(stars, 0.6)
    launcher = Counting()
    planes = [image, np.ones(SHAPE, np.float32), lost]
    kinds = [np.float32, np.float32, bool]
    there = [
        Afar(Device(launcher), launcher.upload(plane[None], np.uint8 if kind is bool else kind), kind)
        for plane, kind in zip(planes, kinds, strict=True)
    ]
    without_wings(*there, stars, FWHM)
    without_wings(*planes, stars, FWHM)
    np.testing.assert_array_equal(np.asarray(there[0]), image)
