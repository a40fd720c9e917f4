"""Point sources measured on stamps."""

import numpy as np
import pytest

from gpudiff.arrays.measure import (
    aperture,
    aperture_cuda,
    fit_points,
    fit_points_cuda,
    forced,
    forced_cuda,
    own_photons,
    psf_stamps,
    shifted,
    shifted_cuda,
    weighed,
    weighed_cuda,
)
from gpudiff.model.errors import WrongShape

HALF = 7


def star(dy=0.0, dx=0.0, flux=1.0, sigma=1.8, half=HALF):
    dy, dx, flux = (np.atleast_1d(np.asarray(a, float))[:, None, None] for a in (dy, dx, flux))
    rows, columns = np.mgrid[-half : half + 1, -half : half + 1]
    return (
        flux * np.exp(-((rows - dy) ** 2 + (columns - dx) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    ).astype(np.float32)


def noisy(count=800, flux=400.0, variance=9.0, seed=1):
    rng = np.random.default_rng(seed)
    dy, dx = rng.uniform(-0.5, 0.5, (2, count))
    data = star(dy, dx, np.full(count, flux)) + rng.normal(0, variance**0.5, (count, 15, 15)).astype(np.float32)
    return data, np.full(data.shape, 1 / variance, np.float32), np.repeat(star(), count, 0), dy, dx


def test_an_image_is_shifted_towards_larger_y_and_x():
    moved = shifted(star(), np.array([0.7]), np.array([-0.4]))
    np.testing.assert_allclose(moved, star(0.7, -0.4), atol=3e-4)  # light beyond the stamp's edge wraps


def test_a_noiseless_source_is_fitted_exactly():
    dy, dx, flux = np.array([0.4, -0.3, 1.3]), np.array([-0.2, 0.5, -0.8]), np.array([1000.0, -500.0, 30.0])
    fit = fit_points(star(dy, dx, flux), np.ones((3, 15, 15), np.float32), np.repeat(star(), 3, 0))
    np.testing.assert_allclose(fit.flux, flux, rtol=2e-3)  # the stamp cuts the light at 3.9 sigma
    np.testing.assert_allclose([fit.dy, fit.dx], [dy, dx], atol=5e-3)
    assert fit.converged.all()


def test_flux_errors_are_those_of_the_scatter():
    data, weight, psf, *_ = noisy()
    fit = fit_points(data, weight, psf)
    pull = (fit.flux - 400) / np.sqrt(fit.covariance[:, 0, 0])
    # 800 pulls: 3.5 % in the mean, 2.5 % in the scatter, four sigma; a position fitted along adds half a sigma
    # over the signal to noise of 21, squared: 0.05.
    assert abs(pull.mean()) < 0.14 + 0.05
    assert pull.std() == pytest.approx(1, abs=0.1)


def test_position_errors_are_those_of_the_scatter_and_belong_to_their_axis():
    data, weight, psf, dy, dx = noisy()
    weight[:, ::2] *= 0.2  # rows known less well: y and x differ
    data[:, ::2] += np.random.default_rng(2).normal(0, 6.0, data[:, ::2].shape)
    fit = fit_points(data, weight, psf)
    for offset, truth, axis in ((fit.dy, dy, 1), (fit.dx, dx, 2)):
        pull = (offset - truth) / np.sqrt(fit.covariance[:, axis, axis])
        assert pull.std() == pytest.approx(1, abs=0.12)


def test_chi2_is_the_number_of_pixels_less_three():
    data, weight, psf, *_ = noisy()
    fit = fit_points(data, weight, psf)
    assert (fit.pixels == 225).all()
    # 800 chi2 of 222 freedoms: sqrt(444 / 800) is 0.75, four sigma.
    assert fit.chi2.mean() == pytest.approx(222, abs=3)


def test_pixels_of_no_weight_do_not_count():
    data, weight = star(0.2, 0.1, 800.0), np.ones((1, 15, 15), np.float32)
    data[0, 5, 6] = data[0, 8, 8] = 1e6
    weight[0, 5, 6] = weight[0, 8, 8] = 0
    fit = fit_points(data, weight, star())
    assert fit.flux[0] == pytest.approx(800, rel=2e-3)
    assert fit.pixels[0] == 223


def test_a_source_far_from_the_middle_does_not_converge():
    fit = fit_points(star(4.0, 4.0, 1000.0), np.ones((1, 15, 15), np.float32), star())
    assert not fit.converged[0]
    assert (fit.dy[0], fit.dx[0]) == (0, 0)


def test_a_stamp_without_any_weight_gives_no_crash_and_no_number():
    fit = fit_points(np.zeros((1, 15, 15), np.float32), np.zeros((1, 15, 15), np.float32), star())
    assert np.isnan(fit.flux[0])
    assert fit.pixels[0] == 0


def test_a_forced_flux_is_unbiased_and_its_error_true():
    rng = np.random.default_rng(4)
    data = star(flux=np.full(1500, 12.0)) + rng.normal(0, 3, (1500, 15, 15))
    flux, error = forced(data, np.full(data.shape, 1 / 9), np.repeat(star(), 1500, 0))
    assert (flux - 12).mean() == pytest.approx(0, abs=4 * error[0] / 1500**0.5)
    assert flux.std() == pytest.approx(error[0], rel=0.08)  # 1500 samples, four sigma


@pytest.mark.parametrize("lost", [slice(0), slice(8, 9), slice(8, 15)])
def test_a_bright_fluxs_error_is_true_beside_columns_without_a_value(lost):
    rng, weight = np.random.default_rng(6), np.full((1500, 15, 15), 1 / 9)
    weight[:, :, lost] = 0
    profile = np.repeat(star(), 1500, 0)
    data = 3000 * profile + rng.normal(size=profile.shape) * np.sqrt(9 + 3000 * profile)
    flux, error = forced(data, weight, profile)
    photons = 3000 * own_photons(profile, weight)
    assert flux.std() == pytest.approx(np.sqrt(error[0] ** 2 + photons[0]), rel=0.08)  # as above


def test_an_aperture_sums_the_pixels_of_its_circle():
    data, variance = np.ones((1, 15, 15)), np.full((1, 15, 15), 4.0)
    flux, error = aperture(data, variance, np.zeros(1), np.zeros(1), 2.0)
    assert flux[0] == 13
    assert error[0] == pytest.approx(np.sqrt(13 * 4))


def test_an_aperture_with_a_hole_is_nan_and_one_beside_it_is_not():
    data = np.ones((2, 15, 15))
    data[0, 7, 8] = data[1, 0, 0] = np.nan
    flux, _ = aperture(data, np.ones_like(data), np.zeros(2), np.zeros(2), 2.0)
    assert np.isnan(flux[0])
    assert flux[1] == 13


def test_psf_stamps_follow_the_field_with_unit_sum():
    coefficients = np.array([star()[0], 0.2 * star(sigma=3.0)[0], np.zeros((15, 15))])
    found = psf_stamps(coefficients, 1, (100, 200), np.array([10, 10]), np.array([0, 199]))
    np.testing.assert_allclose(found.sum((1, 2)), 1, rtol=1e-5)
    left = coefficients[0] - coefficients[1]
    np.testing.assert_allclose(found[0], left / left.sum(), atol=1e-6)


# ---------------------------------------------------------------- the CUDA bodies
@pytest.mark.parametrize("side", [15, 19, 29])  # periods of 24, 25 and 36 px: with and without a highest frequency
def test_cuda_shift_agrees_with_the_definition(launcher, side):
    rng = np.random.default_rng(side)
    images = rng.normal(size=(4, side, side)).astype(np.float32)  # all frequencies alike
    dy, dx = rng.uniform(-2.5, 2.5, (2, 4))
    dy[1:3], dx[1:3] = (0, 1), (0, -40)
    moved = launcher.download(shifted_cuda(launcher, images, dy, dx))
    np.testing.assert_allclose(moved, shifted(images, dy, dx), atol=2e-6)  # NumPy transforms in float32


def test_a_pixel_without_a_value_has_no_weight():
    image, variance = np.full((2, 20, 20), 4, np.float32)
    image[9, 9], variance[10, 10], variance[11, 11] = np.nan, 0, np.nan
    data, weight = weighed(image, variance, np.array([10, 0]), np.array([10, 19]), 2)
    none = np.zeros((2, 5, 5), bool)
    none[0, [1, 2, 3], [1, 2, 3]] = none[1, :2] = none[1, :, 3:] = True
    np.testing.assert_array_equal(data, np.where(none, 0, 4))
    np.testing.assert_array_equal(weight, np.where(none, 0, np.float32(0.25)))


@pytest.mark.parametrize(("batch", "half"), [(1, 7), (9, 2)])
def test_cuda_cut_agrees_with_the_definition(launcher, batch, half):
    rng = np.random.default_rng(batch)
    image, variance = rng.uniform(-1, 4, (2, batch, 30, 41)).astype(np.float32)
    image[rng.random(image.shape) < 0.1] = np.nan
    places, counts = rng.integers(0, 30 * 41, (batch, 6)), rng.integers(1, 9, batch)
    planes = [launcher.upload(one, np.float32) for one in (image, variance)]
    lists = [launcher.upload(one, np.int32) for one in (counts, places)]
    found = [launcher.download(one) for one in weighed_cuda(launcher, *planes, *lists, 5, half)]
    for n, count in enumerate(np.minimum(counts, 5)):
        y, x = np.divmod(places[n, :count], 41)
        expected = weighed(image[n], variance[n], y, x, half)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one[n, :count], other)
            assert (one[n, count:] == 0).all()


def awkward(count, half):
    """(data, weight, psf) of noisy stars of either sign: off the middle, with holes, faint, one with no flux and
    one without any weight."""
    rng = np.random.default_rng(count)
    dy, dx = rng.uniform(-0.6, 0.6, (2, count))
    dy[-1] = 4.0 if count > 4 else 0.0  # beyond where a fit may go
    flux = rng.choice([-1, 1], count) * 10 ** rng.uniform(1.5, 4, count)
    weight = rng.uniform(0.1, 0.2, (count, 2 * half + 1, 2 * half + 1)).astype(np.float32)
    data = star(dy, dx, flux, half=half) + rng.normal(0, 2.6, weight.shape).astype(np.float32)
    weight[rng.random(weight.shape) < 0.05] = 0
    data[weight == 0] = 0
    if count > 4:
        data[0], weight[1], data[1], weight[2, :, half:] = 0, 0, 0, 0
    return data, weight, np.repeat(star(sigma=2.0, half=half), count, 0)


@pytest.mark.parametrize(("count", "half"), [(1, 7), (9, 7), (6, 14)])
def test_cuda_fit_agrees_with_the_definition(launcher, count, half):
    stamps = awkward(count, half)
    found, expected = fit_points_cuda(launcher, *stamps), fit_points(*stamps)
    for name in ("converged", "pixels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert expected.converged.all() == (count == 1)
    # NumPy's profiles come from transforms in float32, good to 1e-7 of the PSF; sources here have up to 500 sigma.
    sigma = np.sqrt(expected.covariance.diagonal(axis1=1, axis2=2))
    np.testing.assert_allclose(found.flux / sigma[:, 0], expected.flux / sigma[:, 0], atol=1e-4)
    np.testing.assert_allclose([found.dy, found.dx], [expected.dy, expected.dx], atol=1e-6)  # px
    scale = sigma[:, :, None] * sigma[:, None]
    np.testing.assert_allclose(found.covariance / scale, expected.covariance / scale, atol=2e-6)
    np.testing.assert_allclose(found.chi2, expected.chi2, rtol=2e-6)
    np.testing.assert_allclose(found.profile, expected.profile, atol=2e-8)  # of a peak of 0.04
    np.testing.assert_allclose(found.seen, expected.seen, atol=1e-7)


@pytest.mark.parametrize(("count", "half"), [(1, 7), (9, 14)])
def test_cuda_forced_flux_agrees_with_the_definition(launcher, count, half):
    data, weight, psf = awkward(count, half)
    found, expected = forced_cuda(launcher, data, weight, psf), forced(data, weight, psf)
    np.testing.assert_allclose(found, expected, rtol=1e-12)  # double sums in another order
    assert np.isnan(found[0]).sum() == (count > 4)


@pytest.mark.parametrize(("count", "half"), [(1, 7), (9, 14)])
def test_cuda_aperture_agrees_with_the_definition(launcher, count, half):
    rng = np.random.default_rng(half)
    data, variance = rng.normal(size=(2, count, 2 * half + 1, 2 * half + 1)).astype(np.float32) ** 2
    dy, dx = rng.uniform(-2.5, 2.5, (2, count))
    dy[0] = dx[0] = 0  # pixels at 5 px exactly
    data[-1, half, half], variance[-1, half, half] = np.nan, np.nan
    found = aperture_cuda(launcher, data, variance, dy, dx, 5.0)
    expected = aperture(data.astype(float), variance.astype(float), dy, dx, 5.0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.isnan(found[0][-1])


def test_no_stamps_are_measured_without_a_launch(launcher):
    nothing = np.empty((0, 15, 15), np.float32)
    assert fit_points_cuda(launcher, nothing, nothing, nothing).covariance.shape == (0, 3, 3)
    assert forced_cuda(launcher, nothing, nothing, nothing)[0].shape == (0,)


@pytest.mark.parametrize("side", [14, 77])
def test_cuda_body_refuses_a_side_it_has_no_room_for(launcher, side):
    stamps = np.zeros((1, side, side), np.float32)
    with pytest.raises(WrongShape, match="expected stamps of an odd side of at most 75 px"):
        fit_points_cuda(launcher, stamps, stamps, stamps)
