"""What every engine behind `--algorithm` owes, beside `match` (test_match.py)."""

import dataclasses

import numpy as np
import pytest

from gpudiff.model.errors import NoStars
from gpudiff.science.delta import delta
from gpudiff.science.pair import roles
from gpudiff.science.psf import psf_of
from gpudiff.science.stars import find_stars
from gpudiff.science.whole_image import whole_image

pytestmark = pytest.mark.parametrize("engine", [delta, whole_image])


def fitted(engine, maker, pair):
    """(fit, stars) with the template convolved."""
    chosen = maker.settings(convolve="template").match
    science, template = maker.exposures(pair)
    stars = find_stars(science, template, chosen, 25)
    parts = roles(science, template, stars, chosen)
    psf = psf_of(template, stars, "template")
    return engine(science, template, stars, psf, parts.widths, chosen), stars


def test_the_kernel_sum_follows_a_gradient_of_transparency(engine, maker):
    fit, _ = fitted(engine, maker, maker.pair(seed=33, stars=110, slope=0.1, scale=1.4))
    for x in (60, 192, 324):
        expected = 1.4 / (1 + 0.1 * (2 * x / 384 - 1))
        assert fit.kernel.at(192, x).sum() == pytest.approx(expected, rel=0.015)  # as for match


def test_stars_that_were_held_back_are_predicted_to_their_noise(engine, maker):
    fit, _ = fitted(engine, maker, maker.pair(seed=37, stars=110))
    # 80 stars of 625 pixels: chi2 scatters by 0.6 %; the fit's own error and 7 % of the variance guessed add some.
    assert fit.chi2 == pytest.approx(1, abs=0.06)
    assert fit.chi2_held_back == pytest.approx(1, abs=0.08)
    assert fit.used.mean() > 0.9


def test_a_variable_star_is_left_out_and_does_not_move_the_scale(engine, maker):
    pair = maker.pair(seed=35, stars=60)
    brightest = np.argmax(pair.stars[:, 2] * (np.abs(pair.stars[:, :2] - 192).max(1) < 150))
    y, x, flux = pair.stars[brightest]

    def brighten(image):
        image += 0.4 * flux * maker.profile(pair.recipe, 4.6, y, x, *np.mgrid[:384, :384]).astype(np.float32)

    fit, stars = fitted(engine, maker, pair.with_science(brighten))
    variable = np.hypot(stars.y - y, stars.x - x) < 2
    assert not fit.used[variable].any()
    assert fit.kernel.at(192, 192).sum() == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("count", [5, 15])
def test_few_stars_are_enough_for_the_scale(engine, maker, count):
    fit, _ = fitted(engine, maker, maker.pair(seed=36, stars=count, star_flux=(4e4, 1.5e5)))
    assert fit.kernel.at(192, 192).sum() == pytest.approx(1, rel=0.02)


def test_a_template_of_other_stars_gives_no_kernel(engine, maker):
    pair, other = maker.pair(seed=38, stars=60), maker.pair(seed=39, stars=60)
    with pytest.raises(NoStars, match="expected at least 3"):
        fitted(engine, maker, dataclasses.replace(pair, template=other.template))


def test_a_frame_of_odd_sides_with_a_masked_corner_is_subtracted_either_way_round(engine, maker):
    pair = maker.pair(seed=42, stars=90, fwhm=(3.8, 4.4), transients=12, snr=(12.0, 40.0))
    mask = np.zeros((371, 347), np.int32)
    mask[:40, :50] = 1
    frames = {
        name: dataclasses.replace(frame, image=frame.image[:371, :347].copy(), mask=mask)
        for name, frame in (("science", pair.science), ("template", pair.template))
    }
    name = engine.__name__.replace("_", "-")
    done = maker.run(dataclasses.replace(pair, **frames), convolve="science", algorithm=name)
    inside = ((pair.changes[:, 0] < 350) & (pair.changes[:, 1] < 326)) & (pair.changes[:, :2] > 60).any(1)
    assert done.difference.quality.algorithm == name
    assert (done.nearest()[inside] >= 0).all()
    assert len(done.unflagged_false()) <= 1  # 5 sigma in 1.2e5 pixels: fewer than 0.1 expected
