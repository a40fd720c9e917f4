"""gpudiff.science.own_planes: what science and template cutouts say of their own noise."""

import dataclasses

import numpy as np
import pytest
from scipy.signal import fftconvolve

from gpudiff.arrays.cutouts import cutouts
from gpudiff.model.mask import bit
from gpudiff.science.own_planes import own_planes

SIZE = 31


def planes(difference, x, y):
    images = [cutouts(plane, x, y, SIZE) for plane in (difference.science.image, difference.matched)]
    images = np.stack(images, axis=1)
    return images, own_planes(difference, images, x, y)


def grid(shape):
    y, x = np.mgrid[25 : shape[0] - 25 : SIZE, 25 : shape[1] - 25 : SIZE]
    return x.reshape(-1).astype(float), y.reshape(-1).astype(float)


@pytest.mark.parametrize(("fwhm", "convolve"), [((4.6, 3.8), "template"), ((3.8, 4.6), "science")])
def test_the_sky_scatters_as_the_variance_says(maker, fwhm, convolve):
    made = maker.run(maker.pair(fwhm=fwhm, scale=1.4, seed=71), convolve=convolve).difference
    images, own = planes(made, *grid(made.image.shape))
    for n in range(2):
        dark = np.abs(images[:, n]) < 4 * np.sqrt(np.median(own.variance[:, n]))
        seen = (1.4826 * np.median(np.abs(images[:, n][dark] - np.median(images[:, n][dark])))) ** 2
        # neighbours of a convolved image vary together: 60,000 pixels are some 3,000; stars' wings add a little
        assert seen == pytest.approx(np.median(own.variance[:, n]), rel=0.12)


def test_science_and_template_together_have_the_differences_variance(maker):
    made = maker.run(maker.pair(fwhm=(4.6, 3.8), seed=71), convolve="template", decorrelate=False).difference
    images, own = planes(made, *grid(made.image.shape))
    whole = cutouts(made.variance, *grid(made.image.shape), SIZE)
    ratio = own.variance.sum(1) / whole
    assert np.nanmedian(ratio) == pytest.approx(1, abs=0.02)
    bright = images[:, 0] > 20 * np.sqrt(np.median(own.variance[:, 0]))
    assert 0.6 < np.nanmedian(ratio[bright]) < 1.05  # there the difference's is raised for what stars leave


def test_on_stars_the_templates_variance_is_nearly_that_through_the_squared_kernel(maker):
    pair = maker.pair(fwhm=(4.6, 3.8), scale=1.4, seed=71)
    _, template = maker.exposures(pair)
    made = maker.run(pair, convolve="template").difference
    height, width = template.shape
    light = np.maximum(np.nan_to_num(template.image), 0)
    variance = template.sky_variance.cut(0, height, 0, width) + light / template.gain
    kernel = made.kernel[4].astype(float)
    expected = fftconvolve(variance, kernel**2, mode="same").astype(np.float32)
    x, y = grid(template.shape)
    _, own = planes(made, x, y)
    meant = cutouts(expected, x, y, SIZE)
    bright = meant > 1.5 * np.nanmedian(meant)
    assert bright.sum() > 300
    ratio = own.variance[:, 1][bright] / meant[bright]
    # the kernel is 10 px wide, its square narrower: peaks come out up to a seventh lower, flanks higher
    assert np.median(ratio) == pytest.approx(1, abs=0.05)
    assert np.percentile(np.abs(ratio - 1), 90) < 0.15


def test_beyond_the_image_nothing_is_known(done):
    made = done.difference
    marked = dataclasses.replace(made, science=dataclasses.replace(made.science, mask=made.science.mask | 8))
    _, own = planes(marked, np.array([0.0, 100.0]), np.array([2.0, 100.0]))
    assert np.isnan(own.variance[0, :, :, : SIZE // 2]).all()
    assert np.all(own.mask[0, :, :, : SIZE // 2] == bit("NO_DATA"))
    assert np.all(own.mask[1, 0] & 8)
    assert np.isfinite(own.variance[1]).all()


def test_each_has_its_own_psf(done):
    _, own = planes(done.difference, np.array([100.0]), np.array([100.0]))
    np.testing.assert_array_equal(own.psf[0], done.difference.science_psf[4])
    np.testing.assert_array_equal(own.psf[1], done.difference.matched_psf[4])
