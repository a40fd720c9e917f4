"""What a detection is not."""

import dataclasses

import numpy as np
import pytest

from gpudiff.model.tables import flag
from gpudiff.science.judge import _explained


def near(done, y, x, radius=6.0):
    return done.sources.take(np.hypot(done.sources["y"] - y, done.sources["x"] - x) < radius)


def has(sources, name):
    return (sources["flags"] & flag(name)) != 0


def noiseless(maker, y, x, flux, recipe):
    return (flux * maker.profile(recipe, recipe.fwhm[0], y, x, *np.mgrid[:384, :384])).astype(np.float32)


@pytest.fixture(scope="module")
def pair(maker):
    return maker.pair(stars=60, seed=91)


def empty_place(pair, reach=30):
    """(y, x) of the whole pixel farthest from all stars."""
    rows, columns = np.mgrid[reach : 384 - reach, reach : 384 - reach]
    distance = np.min([np.hypot(rows - y, columns - x) for y, x, _ in pair.stars], axis=0)
    at = np.unravel_index(distance.argmax(), distance.shape)
    return int(at[0]) + reach, int(at[1]) + reach


@pytest.mark.parametrize("fwhm", [(4.6, 3.6), (3.6, 4.6)], ids=["wider", "sharper"])
def test_cosmic_rays_give_no_unflagged_detection(maker, fwhm):
    made = maker.pair(stars=60, seed=92, fwhm=fwhm)
    rng = np.random.default_rng(1)

    def strike(image):
        for y, x, angle, charge in rng.uniform((20, 20, 0, 300), (360, 360, 3.14, 4000), (25, 4)):
            for step in np.arange(rng.integers(1, 12)):
                image[int(y + step * np.sin(angle)), int(x + step * np.cos(angle))] += charge

    done = maker.run(made.with_science(strike))
    assert len(done.unflagged_false()) <= 1


def test_hot_pixels_of_the_template_give_no_unflagged_detection(maker, pair):
    image = pair.template.image.copy()
    y, x = np.random.default_rng(2).integers(20, 360, (2, 40))
    image[y, x] += 3000
    done = maker.run(dataclasses.replace(pair, template=dataclasses.replace(pair.template, image=image)))
    assert len(done.unflagged_false()) <= 1


def test_a_star_that_moved_by_a_pixel_is_a_dipole(maker, pair):
    y, x, flux = pair.stars[np.argmin(np.abs(pair.stars[:, :2] - 192).max(1))]
    moved = noiseless(maker, y + 0.7, x + 0.7, flux, pair.recipe) - noiseless(maker, y, x, flux, pair.recipe)
    sources = near(maker.run(pair.with_science(lambda image: image.__iadd__(moved))), y, x)
    assert len(sources) >= 1
    assert sources["flagged"].all()
    assert sources["isDipole"].any()
    assert (sources["isDipole"] == has(sources, "DIPOLE")).all()


def test_a_new_source_on_a_faint_star_is_no_dipole_and_not_flagged(maker, pair):
    inside = np.abs(pair.stars[:, :2] - 192).max(1) < 150
    y, x, _ = pair.stars[inside][np.argmin(pair.stars[inside, 2])]
    new = noiseless(maker, y + 1.5, x, 8e3, pair.recipe)
    sources = near(maker.run(pair.with_science(lambda image: image.__iadd__(new))), y + 1.5, x, 2)
    assert len(sources) == 1
    assert not sources["flagged"].any()


@pytest.mark.parametrize("fwhm", [(4.6, 3.6), (3.6, 4.6)], ids=["wider", "sharper"])
def test_saturated_stars_give_no_unflagged_detection(maker, fwhm):
    bright = [[100.3, 120.6, 3e6], [280.2, 250.9, 8e5], [200.0, 60.0, 1.5e6], [60.5, 330.5, 4e5]]
    done = maker.run(maker.pair(bright, stars=60, seed=93, fwhm=fwhm, saturation=20000.0))
    assert len(done.unflagged_false()) == 0
    assert np.isnan(done.difference.image[100, 121])


def test_bright_unsaturated_stars_give_no_unflagged_detection(maker):
    bright = [[100.3, 120.6, 1.2e6], [280.2, 250.9, 8e5], [200.0, 60.0, 1.5e6], [60.5, 330.5, 4e5]]
    done = maker.run(maker.pair(bright, stars=60, seed=94))
    assert len(done.unflagged_false()) == 0


def drawn(maker, pair, y, x, length, angle, flux):
    """A trail with its middle at (y, x), without noise."""
    trail = np.zeros((384, 384), np.float32)
    for step in np.linspace(-length / 2, length / 2, 60):
        at = y + step * np.sin(np.radians(angle)), x + step * np.cos(np.radians(angle))
        trail += noiseless(maker, *at, flux / 60, pair.recipe)
    return trail


@pytest.mark.parametrize(("length", "angle"), [(10.0, 20.0), (14.0, 75.0), (20.0, -40.0)])
def test_a_trail_has_its_length_and_angle_and_is_not_flagged(maker, pair, length, angle):
    y, x = empty_place(pair)
    trail = drawn(maker, pair, y, x, length, angle, 3e4)
    sources = near(maker.run(pair.with_science(lambda image: image.__iadd__(trail))), y, x, 4)
    assert len(sources) == 1
    assert sources["trailLength"][0] == pytest.approx(length, rel=0.2)
    assert (sources["trailAngle"][0] - angle + 90) % 180 - 90 == pytest.approx(0, abs=8)
    assert not sources["flagged"][0]


@pytest.mark.parametrize(("length", "angle"), [(55.0, 70.0), (80.0, -25.0)])
def test_a_long_trail_is_one_source(maker, length, angle):
    quiet = maker.pair(stars=40, seed=92)
    trail = drawn(maker, quiet, 190, 170, length, angle, 2e3 * length)
    made = maker.run(quiet.with_science(lambda image: image.__iadd__(trail))).sources
    sources = made.take((np.hypot(made["y"] - 190, made["x"] - 170) < length / 2 + 5) & ~made["flagged"])
    assert len(sources) == 1
    assert sources["trailLength"][0] == pytest.approx(length, rel=0.1)
    assert np.hypot(sources["y"][0] - 190, sources["x"][0] - 170) < 2  # an end is known to a third of a PSF


def test_a_trail_that_points_at_a_brighter_source_ends_before_it(maker, pair):
    y, x = empty_place(pair)
    light = drawn(maker, pair, y, x, 16.0, 0.0, 1e4) + noiseless(maker, y, x + 26, 3e4, pair.recipe)
    sources = near(maker.run(pair.with_science(lambda image: image.__iadd__(light))), y, x, 4)
    assert sources["trailLength"] == pytest.approx(16.0, rel=0.2)


def test_a_galaxy_like_residual_is_not_point_like(maker, pair):
    y, x = empty_place(pair)
    rows, columns = np.mgrid[:384, :384]
    wide = (400 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 5.0**2))).astype(np.float32)
    sources = near(maker.run(pair.with_science(lambda image: image.__iadd__(wide))), y, x)
    assert has(sources, "NOT_POINT_LIKE").any()
    assert sources["flagged"].all()


def test_a_source_at_the_edge_is_flagged_edge(maker, pair):
    place = next(
        (8.0, float(x)) for x in range(40, 340) if np.hypot(pair.stars[:, 0] - 8, pair.stars[:, 1] - x).min() > 25
    )
    new = noiseless(maker, *place, 2e4, pair.recipe)
    sources = near(maker.run(pair.with_science(lambda image: image.__iadd__(new))), *place, 3)
    assert len(sources) == 0 or has(sources, "EDGE").all()


def test_a_source_too_faint_to_show_apart_from_masked_pixels_is_flagged_masked(maker, pair):
    y, x = empty_place(pair)
    new = noiseless(maker, y, x, 1.6e3, pair.recipe)

    def change(image):
        image += new
        image[y - 1 : y + 2, x - 1 : x + 2] = np.nan

    sources = near(maker.run(pair.with_science(change)), y, x, 4)
    assert len(sources) >= 1
    assert has(sources, "MASKED").all()
    assert sources["flagged"].all()


def test_a_source_that_shows_on_both_sides_of_a_bad_column_is_not_flagged(maker, pair):
    y, x = empty_place(pair)
    new = noiseless(maker, y, x, 2e4, pair.recipe)

    def change(image):
        image += new
        image[:, x + 1] = np.nan

    sources = near(maker.run(pair.with_science(change)), y, x, 4)
    assert sources["flagged"].tolist() == [False]


@pytest.mark.parametrize(("place", "explained"), [((0, 8), True), ((8, 0), False)])
def test_beside_a_star_the_threshold_is_in_units_of_the_scatter_at_that_place_beside_others(
    done, place, explained
):
    rng, made = np.random.default_rng(4), done.difference
    y, x = (plane.ravel() for plane in np.mgrid[20:380:40, 20:380:40])
    score = rng.standard_normal((400, 400)).astype(np.float32)
    score[y, x + 8] = rng.choice([-3, 3], len(y))
    score[y, x - 8] = rng.choice([-3, 3], len(y))
    flat, matched = np.full(score.shape, 200, np.float32), np.zeros_like(score)
    matched[y, x] = 100 * made.matched_psf[4].max() * np.sqrt(200 / (made.psf[4].astype(float) ** 2).sum())
    made = dataclasses.replace(made, score=score, image=score, matched=matched, variance=flat)
    at = np.array([y[30] + place[0]]), np.array([x[30] + place[1]])
    assert _explained(made, *at, np.array([6.0]), 5.0).tolist() == [explained]
