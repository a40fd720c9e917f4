"""The matched filter's score and the list of pixels above a threshold."""

import numpy as np
import pytest

from gpudiff.arrays.matched_filter import matched_filter
from gpudiff.model.errors import BadPsf, WrongShape


def gaussian(size, sigma=1.5, skew=0.0):
    """A PSF; `skew` makes it lopsided, so that convolution and correlation differ."""
    pixel = np.arange(size) - size // 2
    psf = np.exp(-(pixel[:, None] ** 2 + pixel**2) / (2 * sigma**2)) * (1 + skew * pixel / size)
    return (psf / psf.sum()).astype(np.float32)


def noise(rng, shape):
    """Noise of varying variance, with pixels that have no value of every kind."""
    variance = rng.uniform(1, 9, shape).astype(np.float32)
    difference = (rng.normal(size=shape) * np.sqrt(variance)).astype(np.float32)
    difference[..., 6, 5:9] = np.nan
    variance[..., 2, ::5] = np.nan
    variance[..., 3, ::4] = 0
    variance[..., -1, :3] = -1
    variance[..., 0, 0] = np.inf
    return difference, variance


def pixel_by_pixel(difference, variance, psf):
    """The score, straight from the docstring."""
    (height, width), half = difference.shape, len(psf) // 2
    score = np.zeros(difference.shape)
    known = np.isfinite(difference) & np.isfinite(variance) & (variance > 0)
    for y, x in zip(*np.nonzero(known), strict=True):
        flux = norm = 0.0
        for j in range(max(0, y - half), min(height, y + half + 1)):
            for i in range(max(0, x - half), min(width, x + half + 1)):
                if known[j, i]:
                    p = float(psf[j - y + half, i - x + half])
                    flux += p * difference[j, i] / variance[j, i]
                    norm += p * p / variance[j, i]
        score[y, x] = flux / np.sqrt(norm)
    return score


def test_every_pixel_is_the_ratio_of_its_definition():
    difference, variance = noise(np.random.default_rng(1), (17, 19))
    psf = gaussian(5, skew=0.8)
    score, _ = matched_filter(difference, variance, psf, 5)
    # Rounded to float32; scores are of order 1.
    np.testing.assert_allclose(score, pixel_by_pixel(difference, variance, psf), atol=1e-6)


def test_noise_gives_scores_of_unit_variance():
    rng = np.random.default_rng(2)
    variance = rng.uniform(1, 100, (300, 300)).astype(np.float32)
    score, _ = matched_filter((rng.normal(size=variance.shape) * np.sqrt(variance)), variance, gaussian(11), 5)
    # About 4 pi sigma^2 = 28 pixels share one value: 3,200 independent ones, so 1.3 % in the scatter.
    assert abs(score.std() - 1) < 0.05


def test_a_star_scores_its_signal_to_noise():
    psf = gaussian(15)
    difference = np.zeros((41, 41), np.float32)
    difference[13:28, 11:26] = -200 * psf
    score, (y, x, found) = matched_filter(difference, np.full_like(difference, 4), psf, 7)
    expected = -200 * np.sqrt((psf.astype(float) ** 2).sum() / 4)
    assert abs(score[20, 18] - expected) < 1e-5  # float32
    best = np.argmin(found)
    assert (y[best], x[best]) == (20, 18)


def test_the_list_holds_the_pixels_that_reach_the_threshold_in_order():
    difference, variance = noise(np.random.default_rng(3), (60, 50))
    score, (y, x, found) = matched_filter(difference, variance, gaussian(7), 2)
    assert y.size == np.count_nonzero(np.abs(score) >= 2) > 0
    np.testing.assert_array_equal(found, score[y, x])
    assert (np.diff(y * 50 + x) > 0).all()


def test_pixels_without_a_value_score_zero():
    nothing = np.full((9, 9), np.nan, np.float32)
    score, (y, _, _) = matched_filter(nothing, np.ones((9, 9), np.float32), gaussian(5), 1)
    np.testing.assert_array_equal(score, 0)
    assert y.size == 0


@pytest.mark.parametrize(
    ("psf", "error"),
    [
        (np.ones((4, 4)), BadPsf),
        (np.ones((3, 5)), BadPsf),
        (np.zeros((3, 3)), BadPsf),
        (np.full((3, 3), np.nan), BadPsf),
    ],
)
def test_a_psf_that_is_not_one_is_refused(psf, error):
    with pytest.raises(error, match="matched filter: expected"):
        matched_filter(np.zeros((9, 9)), np.ones((9, 9)), psf, 5)


def test_planes_of_different_shapes_are_refused():
    with pytest.raises(WrongShape, match=r"got \(9, 9\) and \(9, 8\)"):
        matched_filter(np.zeros((9, 9)), np.ones((9, 8)), gaussian(3), 5)
