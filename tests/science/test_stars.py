"""Stars seen in both images."""

import dataclasses

import numpy as np
import pytest

from gpudiff.model.errors import NoStars
from gpudiff.science.stars import _described, find_stars, prominent, sky_noise

MARGIN = 25


def found(maker, pair, **match):
    settings = maker.settings(**match).match
    return find_stars(*maker.exposures(pair), settings, MARGIN)


def matched(stars, truth):
    """Row of the true star nearest to each one found, and its distance."""
    distance = np.hypot(stars.y[:, None] - truth[:, 0], stars.x[:, None] - truth[:, 1])
    return distance.argmin(1), distance.min(1)


@pytest.fixture(scope="module")
def pair(maker):
    return maker.pair(stars=90, seed=11)


def test_bright_stars_are_found_and_nothing_else(maker, pair):
    stars = found(maker, pair)
    rows, distance = matched(stars, pair.stars)
    assert distance.max() < 1.8  # the brightest pixel of a faint star may be its neighbour
    inside = ((pair.stars[:, :2] > MARGIN + 1) & (pair.stars[:, :2] < 383 - MARGIN - 1)).all(1)
    assert set(np.nonzero(inside & (pair.stars[:, 2] > 2e4))[0]) <= set(rows)


def test_noise_peaks_on_a_galaxy_do_not_stand_out_and_stars_do(maker, pair):
    science = maker.exposures(pair)[0]
    rows, columns = np.mgrid[:384, :384]
    galaxy = 300 * np.exp(-np.hypot(rows - 192, columns - 192) / 60)
    galaxy[260, 120] += 5
    galaxy += 40 * np.exp(-0.5 * ((rows - 150) ** 2 + (columns - 230) ** 2) / 2.0**2)
    made = dataclasses.replace(science, image=(galaxy * sky_noise(science)).astype(np.float32), gain=np.inf)
    assert list(prominent(made, np.array([260, 150]), np.array([120, 230]), 25.0)) == [False, True]


def test_hot_pixels_in_both_images_are_no_stars(maker, pair):
    science, template = maker.exposures(pair)
    y, x = (axis.ravel() for axis in np.mgrid[35:350:20, 35:350:20])
    for exposure in (science, template):
        exposure.image[y, x] += 200 * sky_noise(exposure)
    stars = find_stars(science, template, maker.settings().match, MARGIN)
    assert matched(stars, pair.stars)[1].max() < 5  # the brightest pixel of a star may be a hot one on it
    assert stars.width("science") * 2.3548 == pytest.approx(4.6, rel=0.05)  # and widens it


def test_pairs_of_hot_pixels_in_both_images_are_no_stars(maker, pair):
    science, template = maker.exposures(pair)
    y, x = (axis.ravel() for axis in np.mgrid[35:350:20, 35:350:20])
    for exposure in (science, template):
        exposure.image[y, x] += 300 * sky_noise(exposure)
        exposure.image[y, x + 1] += 200 * sky_noise(exposure)
    stars = find_stars(science, template, maker.settings().match, MARGIN)
    assert matched(stars, pair.stars)[1].max() < 5  # the brightest pixel of a star may be a hot one on it


def test_pixels_of_the_template_that_are_bad_here_and_there_take_few_stars(maker, pair):
    science, template = maker.exposures(pair)
    before = len(find_stars(science, template, maker.settings().match, MARGIN))
    bad = np.random.default_rng(12).random(template.shape) < 0.015
    template.mark(*np.nonzero(bad), "BAD")
    # 69 % have no bad pixel among the 25 of the core; within 9 px 0.4 % have none
    assert len(find_stars(science, template, maker.settings().match, MARGIN)) > 0.5 * before


@pytest.mark.parametrize(("fwhm", "star"), [(0.5, False), (1.2, True), (2.0, True)])
def test_a_star_sharper_than_any_optics_make_it_is_none(maker, pair, fwhm, star):
    science = maker.exposures(pair)[0]
    rows, columns = np.mgrid[:384, :384]
    image = 100 * np.exp(-4 * np.log(2) * ((rows - 150) ** 2 + (columns - 230) ** 2) / fwhm**2)
    made = dataclasses.replace(science, image=(image * sky_noise(science)).astype(np.float32))
    assert prominent(made, np.array([150]), np.array([230]), 25.0).tolist() == [star]


def test_no_star_is_nearer_to_the_edge_than_its_stamp_needs(maker, pair):
    stars = found(maker, pair)
    assert min(stars.y.min(), stars.x.min()) > MARGIN
    assert max(stars.y.max(), stars.x.max()) < 384 - MARGIN


def test_their_widths_are_those_of_the_two_images(maker, pair):
    stars = found(maker, pair)
    # The width grows by 3 % towards the edge; the median is that of the centre to a few 0.1 %.
    assert stars.width("science") * 2.3548 == pytest.approx(4.6, rel=0.02)
    assert stars.width("template") * 2.3548 == pytest.approx(3.6, rel=0.02)


@pytest.mark.parametrize(("stars", "width"), [(40, 1.95), (10, 10.0)])
def test_light_too_flat_to_have_a_width_is_no_star_where_a_quarter_has_one(maker, pair, stars, width):
    science = maker.exposures(pair)[0]
    y, x = (axis.ravel() for axis in np.mgrid[50:350:30, 50:350:30])
    science.image[y, x] = 1e4 + np.arange(100) * 7 % 100
    shapes = np.zeros((3, 100))
    shapes[2] = np.where(np.arange(100) < stars, 1.95, 10.0)
    found = _described(science, y, x, shapes, shapes)
    assert found.width("science") == width
    assert found.stellar.sum() == (stars if width < 10 else 100 - stars)


def described(science, width, seed):
    """`_described` stars of such widths, pixels, at any places, each measured with an error of 3 %."""
    rng = np.random.default_rng(seed)
    y, x = rng.integers(20, 360, (2, len(width)))
    shapes = np.zeros((2, 3, len(width)))
    shapes[:, 2] = width * np.exp(rng.normal(0, 0.03, (2, len(width))))
    science.image[y, x] = 1e3 * np.exp(rng.normal(0, 1, len(width)))
    return _described(science, y, x, *shapes)


def test_stars_are_told_from_three_times_as_many_galaxies(maker, pair):
    for seed in range(10):
        size = np.random.default_rng(seed).lognormal(0.7, 0.5, 120)  # of galaxies before they are blurred, px
        width = np.hypot(1.95, np.concatenate([np.zeros(40), size]))
        stars = described(maker.exposures(pair)[0], width, seed)
        assert stars.stellar[:40].mean() > 0.9
        # one in six is widened by less than 15 %, five standard errors
        assert stars.stellar[40:].mean() < 0.35
        # as many of these as stars widen the median by a few per cent; by half, were they all taken for stars
        assert stars.width("science") == pytest.approx(1.95, rel=0.08)


def test_stars_are_stars_though_their_width_varies_by_half_over_the_field(maker, pair):
    for seed in range(10):
        science = maker.exposures(pair)[0]
        y, x = np.random.default_rng(seed).integers(20, 360, (2, 120))  # the places of `described`
        stars = described(science, 1.6 + 0.8 * x / 384 + 0.2 * (y / 192 - 1) ** 2, seed)
        assert stars.stellar.mean() > 0.95


def test_a_star_that_the_template_lacks_is_no_candidate(maker):
    pair = maker.pair(stars=60, transients=6, snr=(200.0, 300.0), seed=12)
    new = pair.changes[pair.changes[:, 2] > 0]
    assert matched(found(maker, pair), new)[1].min() > 5


def test_saturated_and_masked_stars_are_no_candidates(maker):
    pair = maker.pair(stars=60, seed=13, saturation=4000.0)
    science, template = maker.exposures(pair)
    template.mark(*np.nonzero(pair.template.image > 2500), "BAD")
    stars = find_stars(science, template, maker.settings().match, MARGIN)
    assert pair.science.image[stars.y, stars.x].max() < 4000
    assert not template.mask[stars.y, stars.x].any()


def test_they_are_spread_over_the_frame(maker, pair):
    stars = found(maker, pair, candidates=40)
    assert len(stars) == 40
    quarter = (stars.y > 192) * 2 + (stars.x > 192)
    assert np.bincount(quarter, minlength=4).min() >= 5


def test_a_galaxy_is_not_stellar_and_a_close_pair_not_isolated(maker):
    pair = maker.pair(stars=50, seed=14, extra=[[100, 100, 5e4], [100, 113, 3e4]])
    rows, columns = np.mgrid[:384, :384]
    galaxy = 400 * np.exp(-np.hypot(rows - 200, columns - 200) / 6)
    planes = {
        name: dataclasses.replace(
            getattr(pair, name), image=(getattr(pair, name).image + galaxy).astype(np.float32)
        )
        for name in ("science", "template")
    }
    stars = found(maker, dataclasses.replace(pair, **planes))
    at = {(100, 100): stars.isolated, (200, 200): stars.stellar}
    for (y, x), flag in at.items():
        near = np.hypot(stars.y - y, stars.x - x) < 3
        assert not flag[near].any()
    assert stars.stellar.mean() > 0.8


@pytest.mark.parametrize("count", [0, 2])
def test_fewer_than_three_stars_are_refused(maker, count):
    pair = maker.pair(stars=0, extra=np.array([[150, 160, 8e4], [250, 200, 8e4]])[:count], seed=15)
    with pytest.raises(NoStars, match=f"science: expected at least 3 .* got {count}$"):
        found(maker, pair)


def test_a_star_with_a_masked_pixel_beside_its_core_is_a_candidate(maker, pair):
    science, template = maker.exposures(pair)
    whole = find_stars(science, template, maker.settings().match, MARGIN)
    science.mark(whole.y + 3, whole.x + 1, "BAD")
    found = find_stars(science, template, maker.settings().match, MARGIN)
    assert len(found) > 0.9 * len(whole)  # of two that are near one may mask the other


def test_a_mask_of_the_stars_themselves_is_told_when_it_leaves_none(maker, pair):
    science, template = maker.exposures(pair)
    lit = science.image > 5 * sky_noise(science)
    science.mark(*np.nonzero(lit), "BAD")
    with pytest.raises(NoStars, match=r"beside masked pixels: science in \d\d+ patches \(BAD \d.* bad_bits"):
        find_stars(science, template, maker.settings().match, MARGIN)


def test_lines_that_leave_no_star_of_the_template_whole_are_told(maker, pair):
    science, template = maker.exposures(pair)
    template.mark(*np.nonzero(np.indices(template.shape)[1] % 10 == 0), "BAD")
    with pytest.raises(NoStars, match=r"in 39 patches \(BAD 10.*39 rows and columns.*interpolate over them"):
        find_stars(science, template, maker.settings().match, MARGIN)


def test_sky_noise_is_that_of_a_pixel(maker, pair):
    science, _ = maker.exposures(pair)
    expected = np.sqrt(300 / maker.gain + (maker.read_noise / maker.gain) ** 2)
    assert sky_noise(science) == pytest.approx(expected, rel=0.01)


def test_defocused_stars_are_found_in_the_middle_of_their_rings(maker):
    pair = maker.pair(seed=16, stars=60, fwhm=(3.6, 3.6), ring=4.5, star_flux=(6e4, 4e5))
    stars = found(maker, pair)
    assert np.median(matched(stars, pair.stars)[1]) < 1.0  # the brightest pixel is 4.5 px away
    assert len(stars) > 35
