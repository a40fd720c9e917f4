"""Two exposures as a pair."""

from types import SimpleNamespace

import numpy as np
import pytest

from gpudiff.model.errors import WrongShape
from gpudiff.science.pair import bare, check_shapes, crossed_notes, roles, seeing_notes
from gpudiff.science.stars import find_stars


@pytest.fixture(scope="module")
def exposures(maker):
    return maker.exposures(maker.pair(stars=40, seed=51))


def test_pixel_grids_of_two_sizes_are_refused(maker, exposures):
    _, template = maker.exposures(maker.pair(stars=40, size=300, seed=51))
    with pytest.raises(WrongShape, match=r"template: expected .*\(384, 384\).* got \(300, 300\)"):
        check_shapes(exposures[0], template)


def test_stars_wider_than_a_psf_can_be_are_said():
    widths = {"science": 1.7, "template": 6.8}
    (note,) = seeing_notes(SimpleNamespace(width=widths.get))
    assert "stars of FWHM 16.0 px lose light" in note
    assert seeing_notes(SimpleNamespace(width=lambda which: 5.0)) == ()


def test_psfs_that_are_long_in_different_directions_are_said():
    y, x = np.mgrid[-15:16, -15:16]
    along, across, round_, wide = (
        np.exp(-0.5 * (y**2 / down**2 + x**2 / right**2)) for down, right in ((3, 2), (2, 3), (2, 2), (3, 3))
    )
    (note,) = crossed_notes(along, across)
    assert "at 0 degrees the convolved stars are wider (7.1 px against 4.7)" in note
    assert crossed_notes(along, round_) == crossed_notes(along, along) == crossed_notes(wide, along) == ()
    assert crossed_notes(round_, wide) == ()  # wider all round: `Roles.notes` says so


def test_the_noise_of_round_psfs_is_not_taken_for_a_direction():
    y, x = np.mgrid[-30:31, -30:31]
    rng = np.random.default_rng(3)
    for _ in range(20):  # that of the mean of eight stars whose peaks are 90 sigma
        pair = np.exp(-0.5 * (y**2 + x**2) / 1.6**2) + rng.normal(0, 0.004, (2, 61, 61))
        assert crossed_notes(*pair) == ()


@pytest.mark.parametrize(("fwhm", "convolved"), [((4.6, 3.6), "TEMPLATE"), ((3.6, 4.6), "SCIENCE")])
def test_the_sharper_image_is_convolved(maker, fwhm, convolved):
    science, template = maker.exposures(maker.pair(stars=60, fwhm=fwhm, seed=52))
    settings = maker.settings().match
    parts = roles(science, template, find_stars(science, template, settings, 25), settings)
    assert parts.name == convolved
    assert parts.convolved is (science if convolved == "SCIENCE" else template)
    np.testing.assert_allclose(np.array(parts.widths) * 2.3548, [4.6, 3.6], rtol=0.02)


@pytest.mark.parametrize("choice", ["template", "science"])
def test_the_configuration_may_say_which(maker, exposures, choice):
    settings = maker.settings(convolve=choice).match
    parts = roles(*exposures, find_stars(*exposures, settings, 25), settings)
    assert parts.name == choice.upper()
    assert bare(parts).convolved is parts.convolved.image
    assert bare(parts).target_gain == parts.target.gain
