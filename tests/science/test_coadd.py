"""gpudiff.science.coadd: a template from earlier exposures, against what was put into them."""

import threading
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from headers import tangent
from scipy import ndimage

from gpudiff.model.config import Configuration, override
from gpudiff.model.errors import NoOverlap
from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.model.mask import bit
from gpudiff.model.sky import Sky
from gpudiff.science import clean_stars
from gpudiff.science.calibrate import calibrate
from gpudiff.science.coadd import coadd, empty_grid, on_grid, weights_of
from gpudiff.science.cosmic_rays import mark_cosmic_rays

SIZE, GAIN, READ_NOISE, FWHM, SKY = 320, 1.5, 5.0, 4.0, 300.0
SETTINGS = override(Configuration(), "match", threads=1)


def wcs(dx: float = 0.0, dy: float = 0.0, turn: float = 0.0) -> dict:
    return tangent(150.0, 2.0, SIZE / 2 + 0.5 + dx, SIZE / 2 + 0.5 + dy, np.degrees(turn))


@cache
def stars() -> np.ndarray:
    """(60, 3) x, y, flux of stars 30 px and more apart on the first exposure."""
    rng = np.random.default_rng(5)
    grid = np.stack(np.meshgrid(*[np.arange(20, SIZE, 40)] * 2), -1).reshape(-1, 2)
    return np.c_[grid + rng.uniform(-5, 5, grid.shape), 4000 * 20 ** rng.uniform(0, 1, len(grid))]


def light(x: float, y: float, flux: float, fwhm: float = FWHM) -> np.ndarray:
    """(SIZE, SIZE) a Gaussian star."""
    axis, sigma = np.arange(SIZE), fwhm / 2.3548
    across, up = (np.exp(-0.5 * ((axis - c) / sigma) ** 2) for c in (x, y))
    return flux / (2 * np.pi * sigma**2) * up[:, None] * across


def exposure(
    number: int, fwhm: float = FWHM, sky: float = SKY, clear: float = 1.0, place=(0.0, 0.0, 0.0)
) -> Frame:
    """One exposure, its seed its number."""
    rng, cards = np.random.default_rng(number), wcs(*place)
    x, y = Sky(cards).to_pixels(*Sky(wcs()).to_sky(stars()[:, 0], stars()[:, 1]))
    mean = sky + sum(light(a, b, clear * f, fwhm) for a, b, f in zip(x, y, stars()[:, 2], strict=True))
    image = (rng.poisson(mean * GAIN) + rng.normal(0, READ_NOISE, mean.shape)) / GAIN
    seen = Observation(FrameId(number, 0, 1), "r", 60000.0 + number, 60000.001 + number, exposure_s=30.0)
    names = {"digest": f"{number:032d}", "wcs": cards}
    return Frame(f"night/{number}.fits", seen, image.astype(np.float32), gain=GAIN, read_noise=READ_NOISE, **names)


@cache
def same(count: int = 9) -> tuple[Frame, ...]:
    """Exposures alike, on one grid."""
    return tuple(exposure(number) for number in range(1, count + 1))


@cache
def dithered() -> tuple[Frame, ...]:
    """Six exposures of their own seeing, sky, transparency and place."""
    rng = np.random.default_rng(2)
    conditions = [(rng.uniform(3.5, 4.6), rng.uniform(250, 450), rng.uniform(0.8, 1.1)) for _ in range(5)]
    places = [(*rng.uniform(-5, 5, 2), rng.uniform(-0.01, 0.01)) for _ in conditions]
    return exposure(1), *(
        exposure(n + 2, *c, place=p) for n, (c, p) in enumerate(zip(conditions, places, strict=True))
    )


def test_an_exposure_is_cleaned_by_one_thread_however_many_there_are(monkeypatch):
    frame, threads = exposure(1), set()

    def noted(*given):
        threads.add(threading.get_ident())
        return mark_cosmic_rays(*given)

    monkeypatch.setattr(clean_stars, "mark_cosmic_rays", noted)
    settings = override(SETTINGS, "match", threads=2)
    on_grid(calibrate(frame, settings), frame, settings)
    assert threads == {threading.get_ident()}


def added(frames):
    """(template, coverage, inputs, layers) of exposures, on the first one's grid."""
    grid = calibrate(frames[0], SETTINGS)
    layers = [on_grid(grid, frame, SETTINGS) for frame in frames]
    return *coadd(layers, grid, SETTINGS), layers


@cache
def made(which) -> tuple:
    return added(which())


@cache
def six() -> Frame:
    """The template of six exposures alike."""
    return added(same(6))[0]


def blank(template: Frame) -> np.ndarray:
    """Bool: sky that all exposures show."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    far = np.isfinite(template.image) & (np.minimum(rows, columns) > 16) & (np.maximum(rows, columns) < SIZE - 17)
    for x, y, _ in stars():
        far &= np.hypot(rows - y, columns - x) > 14
    return far


def under_psf(image: np.ndarray) -> np.ndarray:
    """Sums under a Gaussian as wide as the stars, whose noise is the pixels' where it is white."""
    sigma = FWHM / 2.3548
    return ndimage.gaussian_filter(np.nan_to_num(image), sigma) * 2 * np.sqrt(np.pi) * sigma


def test_the_depth_grows_as_the_root_of_the_exposures():
    template, *_, layers = made(same)
    noise = template.image[blank(template)].std()
    # 38,000 pixels: 0.4 %, and the sky's own variance was measured
    assert layers[0].noise / noise == pytest.approx(3.0, rel=0.02)


def test_the_variance_is_right_where_nothing_was_resampled():
    template, *_ = made(same)
    here = blank(template)
    assert template.image[here].var() / np.median(template.variance[here]) == pytest.approx(1, abs=0.02)


def test_the_variance_is_right_under_a_psf_where_exposures_were_resampled():
    """Eight sets of exposures: 2 % need the sky of 5,000 PSFs."""
    ratio = []
    for seed in range(0, 800, 100):
        frames = [exposure(n + seed, place=place) for n, place in enumerate(PLACES, 1)]
        template, *_ = added(frames)
        here = blank(template)
        ratio.append((under_psf(template.image)[here] ** 2).mean() / np.median(template.variance[here]))
    assert np.mean(ratio) == pytest.approx(1, abs=0.02)


PLACES = [(0.0, 0.0, 0.0), (3.3, -2.6, 0.004), (-4.45, 1.5, -0.006), (2.5, 4.5, 0.002)]


def test_stars_keep_their_flux_in_the_first_exposure_s_unit():
    template, *_ = made(dithered)
    x, y, flux = stars()[(stars()[:, :2] > 30).all(1) & (stars()[:, :2] < SIZE - 30).all(1)].T
    rows, columns = np.mgrid[:SIZE, :SIZE]
    seen = [template.image[np.hypot(rows - b, columns - a) < 11].sum() for a, b in zip(x, y, strict=True)]
    # the scale is that of 60 stars against a single exposure; apertures hold 380 px of sky noise
    assert np.median(seen / flux) == pytest.approx(1, abs=0.01)


def test_no_star_is_clipped_by_seeing_and_registration():
    _, count, _, _ = made(dithered)
    x, y, _ = stars()[(stars()[:, :2] > 30).all(1) & (stars()[:, :2] < SIZE - 30).all(1)].T
    assert (count[np.rint(y).astype(int), np.rint(x).astype(int)] == 6).all()


def test_sharper_and_deeper_exposures_weigh_more():
    grid = calibrate(exposure(1), SETTINGS)
    plain, sharp, bright = (on_grid(grid, exposure(*a), SETTINGS) for a in ((1,), (2, 3.2), (3, FWHM, 900.0)))
    first, second, third = weights_of([plain, sharp, bright])
    assert third < first < second


@pytest.mark.parametrize("which", [0, 3])
def test_a_transient_in_one_exposure_leaves_less_than_a_hundredth(which):
    """120 sigma in its exposure; what is left is compared with the same exposures without it."""
    flux, at = 12000.0, (141.0, 182.0)
    frames = list(same(6))
    frames[which] = replace(frames[which], image=frames[which].image + light(*at, flux).astype(np.float32))
    template, count, *_ = added(frames)
    left = under_psf(template.image - six().image)[182, 141] / under_psf(light(*at, flux))[182, 141]
    assert abs(left) < 0.01
    assert count[182, 141] == 5


def test_a_moving_object_leaves_nothing_anywhere_on_its_way():
    frames = [
        replace(f, image=f.image + light(100.0 + 9 * n, 140.0 + 4 * n, 20000.0).astype(np.float32))
        for n, f in enumerate(same(6))
    ]
    change = added(frames)[0].image - six().image
    # a plain mean would leave a sixth of its peak of 1000; what is left is the noise of the two exposures cut out
    assert np.abs(change[blank(six())]).max() < 18


def test_cosmic_rays_and_a_satellite_leave_nothing():
    frames = [replace(f, image=f.image.copy()) for f in same(6)]
    frames[1].image[150:152, 60:75] += 3000
    frames[4].image[np.arange(SIZE), np.arange(SIZE)] += 400
    change = added(frames)[0].image - six().image
    # a sixth of them would be 500 and 67; on the flank of a star a faint satellite is not told from the star
    assert np.abs(change[blank(six())]).max() < 18


def test_a_pixel_that_no_exposure_shows_has_no_value_and_one_that_saturates_says_so():
    masks = np.zeros((SIZE, SIZE), np.int32)
    masks[200, 50] = bit("BAD")
    one = masks.copy()
    one[100:103, 100:103] = bit("SAT")
    frames = [replace(f, mask=one if n == 2 else masks) for n, f in enumerate(same(3))]
    template, count, *_ = added(frames)
    assert template.mask[200, 50] == bit("NO_DATA")
    assert np.isnan(template.image[200, 50])
    assert count[200, 50] == 0
    assert template.mask[101, 101] == bit("SAT")


def test_where_exposures_end_fewer_count_and_the_variance_says_so():
    template, count, *_ = made(dithered)
    few, all_of_them = count[:3] < 6, count[150:170] == 6
    assert few.any()
    assert np.nanmedian(template.variance[:3][few]) > np.nanmedian(template.variance[150:170][all_of_them])


def test_the_psf_is_that_of_the_sum():
    template, *_ = made(same)
    size = template.psf.shape[1]
    axis = np.arange(size) - size // 2
    image = np.maximum(template.psf[4], 0)
    width = np.sqrt((image * axis**2).sum() / image.sum())
    # of 64 stars; wings of noise widen it a little
    assert width * 2.3548 == pytest.approx(FWHM, rel=0.05)


def test_what_went_in_is_told():
    template, _, inputs, _ = made(dithered)
    assert inputs["name"].tolist() == [f"{n}.fits" for n in range(1, 7)]
    assert inputs["digest"][0] == f"{1:032d}"
    assert inputs["weight"].sum() == pytest.approx(1)
    assert template.observation.exposure_s == 180
    assert (template.observation.mjd_start_tai, template.observation.mjd_end_tai) == (60001.0, 60006.001)


def test_the_digest_follows_from_what_went_in():
    assert added(same(3))[0].digest == added(same(3))[0].digest != added(same(2))[0].digest


def test_zero_points_win_over_stars():
    grid = calibrate(replace(exposure(1), zero_point=25.0), SETTINGS)
    layer = on_grid(grid, replace(exposure(2), zero_point=25.5), SETTINGS)
    assert layer.scale == pytest.approx(10 ** (-0.2))


def test_a_grid_without_pixels_is_filled_by_wcs():
    frames = dithered()
    grid = empty_grid(frames[0], (200, 200), {**wcs(), "CRPIX1": 100.5, "CRPIX2": 100.5})
    first = on_grid(grid, frames[1], SETTINGS)
    layers = [first, *(on_grid(grid, frame, SETTINGS, first.exposure) for frame in frames[2:5])]
    template, count, *_ = coadd(layers, grid, SETTINGS)
    assert template.image.shape == (200, 200)
    assert np.median(count) == 4


def test_an_exposure_of_another_sky_is_refused():
    grid = calibrate(exposure(1), SETTINGS)
    elsewhere = replace(exposure(2), wcs={**wcs(), "CRVAL2": 9.0}, image=exposure(2).image[::-1].copy())
    with pytest.raises(NoOverlap):
        on_grid(grid, elsewhere, SETTINGS)
