"""The PSF of an exposure."""

import dataclasses

import numpy as np
import pytest

from gpudiff.model.errors import BadPsf
from gpudiff.model.kernel import PsfModel
from gpudiff.science.psf import given, psf_of
from gpudiff.science.stars import find_stars

SHAPE = (400, 300)


def bell(sigma=2.0, half=12):
    axis = np.arange(-half, half + 1)
    image = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / sigma**2)
    return image / image.sum()


def measured(maker, **recipe):
    pair = maker.pair(**recipe)
    exposures = maker.exposures(pair)
    stars = find_stars(*exposures, maker.settings().match, 25)
    return pair, psf_of(exposures[0], stars, "science")


def truth(maker, pair, y, x, half=22):
    axis = np.arange(-half, half + 1)
    grid = np.meshgrid(y + axis, x + axis, indexing="ij")
    return maker.profile(pair.recipe, pair.recipe.fwhm[0], y, x, *grid)


def radius(half=22):
    axis = np.arange(-half, half + 1)
    return np.hypot(axis, axis[:, None])


@pytest.mark.parametrize("beta", [0.0, 3.5])
@pytest.mark.parametrize("at", [(192, 192), (60, 330)])
def test_the_flux_within_a_radius_is_that_of_the_true_psf(maker, beta, at):
    pair, model = measured(maker, beta=beta, seed=21, stars=110)
    found, true = model.at(*at, 22), truth(maker, pair, *at)
    for r in (2.5, 4.6, 7.0):
        inside = radius() <= r
        # 80 stars of a few 100 sigma give 0.3 %, at a corner 0.6 %.
        assert found[inside].sum() == pytest.approx(true[inside].sum(), abs=0.015)


def test_its_width_follows_the_field(maker):
    pair, model = measured(maker, seed=22, widen=0.06, stars=110)
    inside = radius() <= 7
    for y, x in ((60, 60), (192, 192), (330, 60), (60, 330)):
        r2 = [
            ((p * radius() ** 2)[inside].sum() / p[inside].sum())
            for p in (model.at(y, x, 22), truth(maker, pair, y, x))
        ]
        # 12 % between corners; a width in a polynomial of the pixels and the noise leave 3 %.
        assert np.sqrt(r2[0]) == pytest.approx(np.sqrt(r2[1]), rel=0.03)


def test_it_has_unit_sum_everywhere(maker):
    _, model = measured(maker, seed=23)
    for at in ((0, 0), (200, 100), (383, 383)):
        assert model.at(*at).sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("stars", "order"), [(5, 0), (9, 1), (16, 2)])
def test_a_psf_varies_over_the_field_as_freely_as_two_stars_a_term_tell(maker, stars, order):
    _, model = measured(maker, seed=24, stars=stars)
    assert model.order == order


def test_one_given_psf_holds_for_the_whole_frame():
    model = given(3 * bell(), SHAPE, "a")
    for at in ((0, 0), (399, 299)):
        np.testing.assert_allclose(model.at(*at)[8:17, 8:17], bell()[8:17, 8:17], rtol=1e-3)  # corners are cut off


def test_nine_given_psfs_stand_at_the_centres_of_the_thirds_rows_outer():
    widths = 2 + 0.1 * np.arange(9).reshape(3, 3)
    model = given(np.array([bell(s) for s in widths.ravel()]), SHAPE, "a")
    for j in range(3):
        for i in range(3):
            at = model.at((2 * j + 1) * SHAPE[0] / 6, (2 * i + 1) * SHAPE[1] / 6)
            # Six terms through nine planes whose widths grow linearly: the peak to 1 %, its range is 50 %.
            assert at.max() == pytest.approx(bell(widths[j, i]).max(), rel=0.02)


def test_a_frames_own_psf_is_used_instead_of_its_stars(maker):
    pair = maker.pair(stars=40, seed=25)
    science, template = maker.exposures(pair)
    stars = find_stars(science, template, maker.settings().match, 25)
    own = dataclasses.replace(science, frame=dataclasses.replace(science.frame, psf=bell(3.3)))
    assert psf_of(own, stars, "science").at(100, 100).max() == pytest.approx(bell(3.3).max(), rel=5e-3)  # corners


def holed():
    image = bell()
    image[3, 3] = np.nan
    return image


@pytest.mark.parametrize(
    "psf",
    [
        bell()[:, :-1],
        bell()[:-1, :-1],
        np.array([bell()] * 3),
        np.empty((0, 5, 5)),
        np.ones((1, 1)),
        np.zeros((9, 9)),
        -bell(),
        holed(),
        np.array([bell()] * 8 + [0 * bell()]),
        bell().ravel(),
        np.ones((1, 1, 5, 5)),
    ],
    ids=[
        "oblong",
        "even",
        "three",
        "none",
        "one pixel",
        "zero",
        "negative",
        "nan",
        "one of nine zero",
        "flat",
        "4d",
    ],
)
def test_what_is_no_psf_is_refused(psf):
    with pytest.raises(BadPsf, match=r"a\.fits: expected a"):
        given(psf, SHAPE, "a.fits")


def test_a_very_large_given_psf_is_cut():
    model = given(bell(half=60), SHAPE, "a")
    assert model.half == 40
    assert model.at(10, 10).max() == pytest.approx(bell().max(), rel=1e-6)


def test_a_psf_at_many_positions_is_that_at_each():
    rng = np.random.default_rng(5)
    model = PsfModel(0.2 * rng.uniform(0, 1, (6, 9, 9)) + np.eye(6)[0][:, None, None], 2, (300, 200))
    y, x = np.array([3, 150, 299]), np.array([199, 20, 0])
    each = [model.at(*place) for place in zip(y, x, strict=True)]
    np.testing.assert_allclose(model.at_all(y, x), each, rtol=1e-13)  # summed in another order
