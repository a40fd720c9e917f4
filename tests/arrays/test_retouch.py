"""Changes to planes that host and device both hold."""

import numpy as np
import pytest

from gpudiff.arrays import retouch


@pytest.fixture(params=[(1, 37, 45), (9, 16, 33)], ids=["one", "raft"])
def planes(request):
    rng = np.random.default_rng(3)
    made = rng.normal(0, 5, request.param).astype(np.float32)
    made[0, 3, 4] = np.nan
    return made


def pixels(planes, count=100):
    return np.random.default_rng(4).choice(planes.size, count, replace=False)


def test_single_pixels_get_their_values(launcher, planes):
    there, at = launcher.upload(planes.copy(), np.float32), pixels(planes)
    values = np.arange(100, dtype=np.float32)
    retouch.put_cuda(launcher, there, at, values)
    retouch.put(planes, at, values)
    np.testing.assert_array_equal(launcher.download(there), planes)
    assert planes.flat[at[7]] == 7


def test_single_pixels_are_marked(launcher, planes):
    flags = np.zeros(planes.shape, np.uint8)
    there, at = launcher.upload(flags.copy(), np.uint8), pixels(planes)
    retouch.mark_cuda(launcher, there, at)
    retouch.mark(flags, at)
    np.testing.assert_array_equal(launcher.download(there), flags)
    assert flags.sum() == 100


def test_an_empty_list_launches_nothing(planes):
    retouch.put_cuda(None, planes, np.empty(0, int), np.empty(0))
    retouch.mark_cuda(None, planes, np.empty(0, int))


@pytest.mark.parametrize("cells", [1, 16])
def test_a_smooth_sky_is_subtracted(launcher, planes, cells):
    batch, height, width = planes.shape
    rng = np.random.default_rng(5)
    rows, columns = rng.normal(0, 3, (batch, height, cells)), rng.normal(0, 1, (batch, cells, width))
    there = launcher.upload(planes.copy(), np.float32)
    retouch.take_sky_cuda(launcher, there, rows, columns)
    expected = planes - rows @ columns
    # float32 sums of up to 16 products of some units.
    np.testing.assert_allclose(launcher.download(there), expected, atol=2e-5)
    retouch.take_sky(planes, rows.astype(np.float32), columns.astype(np.float32))
    np.testing.assert_allclose(planes, expected, atol=2e-5)


def test_planes_are_multiplied_by_smooth_ones(launcher, planes):
    batch, height, width = planes.shape
    rng = np.random.default_rng(5)
    rows, columns = rng.normal(0, 1, (batch, height, 3)), rng.normal(0, 1, (batch, 3, width))
    there = launcher.upload(planes.copy(), np.float32)
    retouch.lift_cuda(launcher, there, rows, columns)
    expected = planes * (rows @ columns)
    # float32 sums of 3 products, times some units.
    np.testing.assert_allclose(launcher.download(there), expected, atol=2e-5)
    retouch.lift(planes, rows.astype(np.float32), columns.astype(np.float32))
    np.testing.assert_allclose(planes, expected, atol=2e-5)


@pytest.mark.parametrize("divides", [False, True])
def test_each_image_has_its_own_factor_to_the_bit(launcher, planes, divides):
    factors = np.linspace(0.3, 2.7, len(planes), dtype=np.float32)
    there = launcher.upload(planes.copy(), np.float32)
    retouch.rescale_cuda(launcher, there, factors, divides)
    retouch.rescale(planes, factors, divides)
    np.testing.assert_array_equal(launcher.download(there), planes)
