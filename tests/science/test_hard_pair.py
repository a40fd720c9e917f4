"""What each hard scene says of itself is true of its pixels."""

from functools import lru_cache

import numpy as np
import pytest

from gpudiff.arrays.peaks import peaks
from gpudiff.arrays.render import moffat_mixture, stamp
from gpudiff.arrays.stamps import stamps
from gpudiff.model.hard_scene import SCENES, night_of_scene
from gpudiff.model.mask import UNUSABLE, bit
from gpudiff.model.scene import Night
from gpudiff.model.sky import Sky
from gpudiff.science.hard_pair import hard_pair

SIZE = 256


@lru_cache
def made(name, size=SIZE, **given):
    scene = SCENES[name]
    return hard_pair(scene, night_of_scene(scene, Night(**given), size), size)


def rows(pair, kind):
    return [row for row in pair.truth.rows() if row["kind"] == kind]


def flat(frame):
    """The image, its sky taken off, in units of the sky's noise."""
    sky = float(np.median(frame.image))
    return (frame.image - sky) / np.sqrt(sky / frame.gain + (frame.read_noise / frame.gain) ** 2)


def centroids(image, y, x):
    """(dy, dx) of the light above 3 sigma in 17 x 17 px about each position."""
    part, offset = stamps(image, y, x, 8), np.arange(-8, 9)
    part = np.where(part > 3, part, 1e-9)
    return (part.sum(2) @ offset) / part.sum((1, 2)), (part.sum(1) @ offset) / part.sum((1, 2))


def stars_of(image):
    """(y, x) of the bright peaks that are not at the rim."""
    y, x = peaks(image, 40)
    inside = (np.minimum(y, x) > 12) & (np.maximum(y, x) < len(image) - 12)
    return y[inside], x[inside]


@pytest.mark.parametrize("name", SCENES)
def test_the_perfect_difference_is_noise_of_the_variance_it_names(name):
    perfect = made(name).perfect
    ratio = perfect.image / np.sqrt(perfect.variance)
    ratio = ratio[(perfect.mask & bit(*UNUSABLE)) == 0]
    # Robust, for what changed is still there: 62,000 pixels give it to 0.4 %.
    assert 1.4826 * np.median(np.abs(ratio)) == pytest.approx(1, abs=0.02)
    assert np.median(ratio) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("name", ["standard", "heavy-wings", "undersampled", "misregistered", "rough-sky"])
def test_the_perfect_difference_holds_each_change_with_its_flux(name):
    pair = made(name, snr_low=200, snr_high=300, stars=0, galaxies=0, cosmic_rays=0, bad_columns=0)
    for row in rows(pair, "transient"):
        y, x = round(row["y"]), round(row["x"])
        total = pair.perfect.image[max(0, y - 15) : y + 16, max(0, x - 15) : x + 16].sum()
        noise = float(np.sqrt(pair.perfect.variance[max(0, y - 15) : y + 16, max(0, x - 15) : x + 16].sum()))
        # Heavy wings leave 6 % of the light outside 15 px.
        assert total == pytest.approx(row["flux"], rel=0.07, abs=4 * noise)


def width_of(image, row, asked):
    """FWHM of the Moffat profile that fits best at a row of the truth."""
    y, x = round(row["y"]), round(row["x"])
    seen = image[y - 8 : y + 9, x - 8 : x + 9]
    tried = np.arange(0.8, 1.25, 0.02) * asked
    shapes = [np.array([f * f, f * f, 0]) for f in tried]
    models = [stamp(row["x"] - x, row["y"] - y, shape, moffat_mixture(3.5), 8) for shape in shapes]
    left = [((seen - m * (m * seen).sum() / (m * m).sum()) ** 2).sum() for m in models]
    return tried[int(np.argmin(left))]


@pytest.mark.parametrize(
    ("name", "science", "template"),
    [("undersampled", 1.8, 1.7), ("standard", 4.2, 3.3), ("science-sharper", 3.2, 4.3)],
)
def test_the_images_are_as_sharp_as_the_scene_says(name, science, template):
    pair = made(name, snr_low=800, snr_high=1000, stars=0, galaxies=0, cosmic_rays=0, bad_columns=0)
    new, gone = rows(pair, "transient")[0], rows(pair, "vanished")[0]
    # The seeing varies by 8 % over the field.
    assert width_of(flat(pair.science), new, science) == pytest.approx(science, rel=0.13)
    assert width_of(flat(pair.template), gone, template) == pytest.approx(template, rel=0.13)


def test_a_template_of_one_exposure_is_as_noisy_as_one():
    one, ten = made("single-template"), made("standard")
    assert one.template.gain == one.science.gain
    assert ten.template.gain == pytest.approx(10 * ten.science.gain)


def test_a_crowded_field_has_light_nearly_everywhere():
    crowded, standard = ((flat(made(name).science) > 3).mean() for name in ("crowded", "standard"))
    assert crowded > 2 * standard


def test_a_misregistered_pair_is_off_by_about_its_rms():
    off = {}  # px in each coordinate, blends left out
    for name in ("misregistered", "standard"):
        pair = made(name, 384, stars=600, galaxies=0, variables=0)
        y, x = stars_of(flat(pair.template))
        here, there = centroids(flat(pair.science), y, x), centroids(flat(pair.template), y, x)
        away = np.abs(np.subtract(here, there))
        off[name] = np.median(away)
    assert off["standard"] < 0.1
    assert 0.12 < off["misregistered"] < 0.4  # the median of |N(0, 0.3)| is 0.2; these are some ten stars


def test_heavy_wings_are_heavier():
    wing, core = (made(name).perfect.psf[4] for name in ("heavy-wings", "standard"))
    middle = len(wing) // 2
    assert wing[middle, middle + 13] > 2.5 * core[middle, middle + 13]


def test_few_stars_are_fifteen_in_both_images():
    pair = made("few-stars", transients=1, vanished=0, snr_high=10)
    for frame in (pair.science, pair.template):
        y, _ = peaks(flat(frame), 25)
        assert 12 <= len(y) <= 15  # two may be one


def test_a_rough_sky_is_no_low_order_surface():
    def roughness(name):
        image = made(name, 512, stars=0, galaxies=0).science.image.astype(float)
        cells = np.median(image.reshape(16, 32, 16, 32).transpose(0, 2, 1, 3).reshape(16, 16, -1), -1)
        v, u = np.mgrid[-1:1:16j, -1:1:16j].reshape(2, -1)
        terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], -1)
        residual = cells.ravel() - terms @ np.linalg.lstsq(terms, cells.ravel(), rcond=None)[0]
        return residual.std() / np.median(cells)

    assert roughness("standard") < 0.004  # the noise of a median of 1,024 pixels is 0.001
    assert roughness("rough-sky") > 0.008


def test_without_a_mask_rays_and_hot_pixels_stay():
    pair = made("no-mask", cosmic_rays=400.0)
    assert pair.science.mask is None
    assert pair.template.mask is None
    hot = [row for row in rows(pair, "hot-pixel") if row["snr"] > 30]
    for row in hot:
        assert flat(pair.science)[round(row["y"]), round(row["x"])] > 20
        assert pair.perfect.mask[round(row["y"]), round(row["x"])] & bit("BAD")
    assert hot
    assert (pair.perfect.mask & bit("CR")).any()


def test_a_template_on_its_own_grid_shows_each_star_where_its_wcs_says():
    pair = made("own-grid", 384, registration=0.0, stars=600, galaxies=0, variables=0)
    image = flat(pair.template)
    y, x = stars_of(flat(pair.science))
    dy, dx = centroids(flat(pair.science), y, x)
    there = Sky(pair.template.wcs).to_pixels(*Sky(pair.science.wcs).to_sky(x + dx, y + dy))
    column, row = (np.rint(place).astype(int) for place in there)
    ty, tx = centroids(image, row, column)
    assert len(x) >= 4
    assert np.median(np.hypot(column + tx - there[0], row + ty - there[1])) < 0.12  # blends shift some
    assert np.hypot(there[0] - x, there[1] - y).max() > 10
    assert image.shape != pair.science.image.shape


def test_a_streak_is_where_the_truth_says():
    pair = made("streak", stars=0, galaxies=0)
    image = flat(pair.science)
    bright, faint = rows(pair, "streak")
    for row, peak in ((bright, 8.0), (faint, 1.5)):
        along, angle = np.arange(-50, 51), np.radians(row["trailAngle"])
        on = image[
            np.rint(row["y"] + along * np.sin(angle)).astype(int),
            np.rint(row["x"] + along * np.cos(angle)).astype(int),
        ]
        assert np.median(on) == pytest.approx(peak, rel=0.15, abs=0.5)  # 101 pixels, half a pixel off the line
        assert (pair.perfect.mask[round(row["y"]), round(row["x"])] & bit("STREAK")) > 0


def test_trails_are_as_long_and_point_as_the_truth_says():
    pair = made("trails", stars=0, galaxies=0, cosmic_rays=0, bad_columns=0, transients=0, variables=0, moving=2)
    for row in rows(pair, "moving"):
        assert 5 <= row["trailLength"] <= 40
        angle, half = np.radians(row["trailAngle"]), row["trailLength"] / 2
        yy, xx = np.indices(pair.perfect.image.shape)
        along = (xx - row["x"]) * np.cos(angle) + (yy - row["y"]) * np.sin(angle)
        across = (yy - row["y"]) * np.cos(angle) - (xx - row["x"]) * np.sin(angle)
        inside = (np.abs(along) < half + 8) & (np.abs(across) < 8)
        noise = np.sqrt(pair.perfect.variance[inside].sum())
        # 8 px hold 97 % of the light.
        agrees = abs(pair.perfect.image[inside].sum() - row["flux"]) < 0.05 * row["flux"] + 4 * noise
        assert agrees


def test_nothing_has_changed_where_nothing_should():
    assert not (made("nothing").truth["objectId"] > 0).any()


def test_the_same_seed_gives_the_same_pair():
    first, again, other = (made.__wrapped__("streak", seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first.science.image, again.science.image)
    assert np.array_equal(first.template.image, again.template.image)
    assert not np.array_equal(first.science.image, other.science.image)
