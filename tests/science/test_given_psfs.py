"""Cutouts: the matching kernel made of two given PSFs."""

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import convolve

from gpudiff.model.config import Configuration, override
from gpudiff.model.errors import NoStars, WrongShape
from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.model.tables import flag
from gpudiff.science.given_psfs import quotient, width
from gpudiff.science.quality import poor
from gpudiff.science.subtract import subtract

SETTINGS = override(Configuration(), "match", threads=1)
SKY, STAR, GAIN, READ_NOISE = 300.0, 60_000.0, 1.5, 6.0


def gaussian(sigma: float, half: int = 15, y: float = 0.0, x: float = 0.0) -> np.ndarray:
    axis = np.arange(-half, half + 1)
    image = np.exp(-((axis[:, None] - y) ** 2 + (axis - x) ** 2) / (2 * sigma**2))
    return image / (2 * np.pi * sigma**2)


def cutout(sigma: float, seed: int, new: float = 0.0, scale: float = 1.0, half: int = 20, **more) -> Frame:
    """A cutout with one bright star off its middle and a new source of flux `new` at it."""
    light = SKY + scale * (STAR * gaussian(sigma, half, 6, -5) + new * gaussian(sigma, half))
    variance = light / GAIN + (READ_NOISE / GAIN) ** 2
    image = light + np.random.default_rng(seed).normal(size=light.shape) * np.sqrt(variance)
    given = {"psf": gaussian(sigma), "variance": variance.astype(np.float32), **more}
    return Frame("a.fits", Observation(FrameId(1, 0, 0)), image.astype(np.float32), **given)


def test_the_quotient_takes_one_psf_to_the_other():
    matched = convolve(gaussian(1.6, 25), quotient(gaussian(2.2), gaussian(1.6), 12), mode="constant")
    expected = gaussian(2.2, 25)
    # 0.2 % of the peak: where the sharper PSF has little power the regularisation keeps some of it back
    np.testing.assert_allclose(matched, expected, atol=0.002 * expected.max())


def test_the_width_of_a_gaussian_is_its_sigma():
    assert width(gaussian(2.2)) == pytest.approx(2.2, abs=0.1)  # the area above half is counted in whole pixels


def test_a_new_source_in_a_cutout_is_found_with_its_flux():
    made, sources = subtract(cutout(2.2, 1, new=3000.0), cutout(1.6, 2), SETTINGS)
    near = np.hypot(sources["y"] - 20, sources["x"] - 20) < 1
    assert near.sum() == 1
    assert abs(sources["psfFlux"][near][0] - 3000) < 4 * sources["psfFluxErr"][near][0]
    assert made.quality.candidates == 0


@pytest.mark.parametrize("new", [6000.0, 60_000.0])
def test_a_cutouts_sky_that_is_not_quite_known_is_no_correlated_noise(new):
    expected = new / np.sqrt(4 * np.pi * 2.2**2 * 2 * (SKY / GAIN + (READ_NOISE / GAIN) ** 2))
    for seed in range(4):  # its offset comes from the source: of a bright one the variance was five times this
        made, sources = subtract(cutout(2.2, seed, new=new), cutout(1.6, 10 + seed), SETTINGS)
        assert not any("correlated" in note for note in made.notes)
        assert sources["snr"].max() > 0.9 * expected  # of both images' noise; one draw is off by a few percent


def test_a_good_cutout_is_not_called_poor_by_chance():
    for seed in range(12):  # 20 independent values of the score say its scatter to 16 %
        made, _ = subtract(cutout(2.2, seed, new=30_000.0), cutout(1.6, 20 + seed), SETTINGS)
        assert not any("POOR" in note for note in made.notes), made.notes


@pytest.mark.parametrize(("half", "most"), [(20, 1.6), (40, 1.4)])
def test_a_cutout_whose_score_scatters_too_much_is_poor(half, most):
    made, _ = subtract(cutout(2.2, 1, half=half), cutout(1.6, 2, half=half), SETTINGS)
    for scatter, bad in ((most - 0.1, False), (most + 0.1, True)):
        quality = dataclasses.replace(made.quality, score_std=scatter)
        assert bool(poor(dataclasses.replace(made, quality=quality))) == bad


@pytest.mark.parametrize(
    ("science", "template", "new"), [(2.2, 1.6, 3e5), (2.2, 1.6, -3e4), (1.4, 1.9, 3e4), (1.4, 1.9, -3e4)]
)
def test_bright_sources_have_the_errors_they_say_whatever_was_convolved(science, template, new):
    pulls = []
    known = {"variance": None, "gain": GAIN, "read_noise": READ_NOISE, "half": 35}
    for seed in range(24):
        after = cutout(science, seed, new=max(new, 0), **known)
        _, found = subtract(after, cutout(template, 50 + seed, new=max(-new, 0), **known), SETTINGS)
        row = found.take([np.hypot(found["y"] - 35, found["x"] - 35).argmin()])
        flux = (row["psfFlux"] - new) / row["psfFluxErr"]
        pulls.append(np.concatenate([flux, (row["y"] - 35) / row["yErr"], (row["x"] - 35) / row["xErr"]]))
    flux, *place = np.array(pulls).T
    # 24 pulls: 14 % a sigma, of both axes 10 %; the level of so small a sky adds 10 % to the flux
    assert 0.65 < flux.std() < 1.5
    assert 0.65 < np.std(place) < 1.3


def test_the_light_of_a_source_is_no_sky_of_a_cutout():
    pulls = []
    for seed in range(8):
        _, sources = subtract(cutout(2.2, seed, new=30_000.0, half=15), cutout(1.6, 10 + seed, half=15), SETTINGS)
        near = np.hypot(sources["y"] - 15, sources["x"] - 15) < 1
        pulls.append(((sources["psfFlux"] - 30_000) / sources["psfFluxErr"])[near][0])
    assert abs(np.mean(pulls)) < 1.1  # three errors of the mean of eight


def test_a_cutout_with_too_little_sky_to_measure_is_not_called_poor():
    made, sources = subtract(cutout(2.2, 1, new=3000.0, half=15), cutout(1.6, 2, half=15), SETTINGS)
    assert np.isnan(made.quality.score_std)
    assert len(sources)
    assert not any("POOR" in note for note in made.notes)
    assert not (sources["flags"] & flag("POOR_SUBTRACTION")).any()


def test_the_star_of_a_cutout_is_subtracted_to_the_noise():
    made, _ = subtract(cutout(2.2, 1), cutout(1.6, 2), SETTINGS)
    chi = (made.image / np.sqrt(made.variance))[20:33, 9:22]
    assert np.sqrt(np.nanmean(chi**2)) < 1.25  # 169 px: 1 +- 0.05, and 0.1 % of 500 sigma


def test_cutouts_with_zero_points_are_scaled_by_them():
    pair = cutout(2.2, 1, zero_point=27.0), cutout(1.6, 2, scale=2.0, zero_point=27.0 + 2.5 * np.log10(2))
    made, _ = subtract(*pair, SETTINGS)
    assert made.quality.kernel_sum == pytest.approx(0.5)


def test_it_is_said_that_no_star_was_used():
    made, _ = subtract(cutout(2.2, 1), cutout(1.6, 2), SETTINGS)
    assert any("the two PSFs that were given" in note for note in made.notes)
    assert made.quality.algorithm == "given-psfs"


def test_zogy_is_called_so_without_stars_too():
    made, _ = subtract(cutout(2.2, 1), cutout(1.6, 2), override(SETTINGS, "match", algorithm="zogy"))
    assert made.quality.algorithm == "zogy"


def test_one_given_psf_is_not_enough():
    with pytest.raises(NoStars):
        subtract(cutout(2.2, 1, half=40), cutout(1.6, 2, half=40, psf=None), SETTINGS)


def test_a_cutout_below_24_px_is_refused():
    tiny = Frame("a.fits", Observation(FrameId(1, 0, 0)), np.ones((23, 30), np.float32), psf=gaussian(2.0))
    with pytest.raises(WrongShape, match="at least 24 x 24"):
        subtract(tiny, tiny, SETTINGS)
