"""A template on a grid of its own, brought onto the science frame's: rendered there, so the truth is known."""

import dataclasses
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from headers import tangent

from gpudiff.arrays.remembered import Remembered
from gpudiff.model.config import Configuration, override
from gpudiff.model.errors import NoOverlap, WrongShape
from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.model.mask import UNUSABLE, bit
from gpudiff.model.sky import Sky
from gpudiff.science import align as stage
from gpudiff.science.align import align
from gpudiff.science.asterisms import bright_stars
from gpudiff.science.calibrate import calibrate
from gpudiff.science.noise import scatter
from gpudiff.science.subtract import subtract

SIZE, GAIN, READ_NOISE = 640, 1.6, 5.0
ARCSEC = 1 / 3600
CHANGES = np.array([(70.0 + 100 * i, 75.0 + 98 * j) for i in range(6) for j in range(6)]) + 0.37
"""x, y of what only the science frame shows."""


def wcs(turn: float = 0.0, middle: tuple[float, float] | None = None, sip: float = 0.0, **more: Any) -> dict:
    """0.2 arcsec a pixel, turned by degrees, with the sky's (150, 2.2) at `middle`, 0-based (x, y)."""
    x, y = middle or (SIZE / 2, SIZE / 2)
    cards = tangent(150.0, 2.2, x + 1, y + 1, turn)
    if sip:
        cards |= {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2}
        cards |= {"A_2_0": sip, "A_0_2": -0.5 * sip, "B_1_1": 0.8 * sip, "B_2_0": 0.4 * sip}
    return cards | more


def render(x, y, flux, fwhm, sky, gain, rng, shape=(SIZE, SIZE)) -> np.ndarray:
    """float32 ADU: Gaussians over the sky with photon and read noise."""
    image, sigma, reach = np.full(shape, float(sky)), fwhm / 2.3548, 24
    for at_x, at_y, light in zip(x, y, flux, strict=True):
        rows = np.arange(max(0, int(at_y) - reach), min(shape[0], int(at_y) + reach))
        columns = np.arange(max(0, int(at_x) - reach), min(shape[1], int(at_x) + reach))
        if len(rows) and len(columns):
            down, across = (np.exp(-0.5 * ((a - b) / sigma) ** 2) for a, b in ((rows, at_y), (columns, at_x)))
            image[np.ix_(rows, columns)] += light / (2 * np.pi * sigma**2) * np.outer(down, across)
    return ((rng.poisson(image * gain) + rng.normal(0, READ_NOISE, shape)) / gain).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Scene:
    """Two frames and the flux of each change."""

    science: Frame
    template: Frame
    flux: np.ndarray

    def claiming(self, **cards: Any) -> "Scene":
        """The same with other words in the template's WCS, or none with {}."""
        said = self.template.wcs | cards if cards else {}
        return dataclasses.replace(self, template=dataclasses.replace(self.template, wcs=said))


def made(
    seed=1, cards=None, shape=(SIZE, SIZE), fwhm=(4.2, 3.3), stars=500, template_seed=None, epochs=5
) -> Scene:
    """A scene whose template was taken on the grid of `cards`; another sky in it with a `template_seed`."""
    cards = cards or wcs()
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-60, SIZE + 60, (2, stars))
    light = np.minimum(300 * 10 ** rng.exponential(0.7, stars), 3e5)
    flux = 250 * rng.uniform(10, 60, len(CHANGES))
    all_x, all_y = np.concatenate([x, CHANGES[:, 0]]), np.concatenate([y, CHANGES[:, 1]])
    science = render(all_x, all_y, np.concatenate([light, flux]), fwhm[0], 300, GAIN, rng)
    if template_seed:
        x, y = np.random.default_rng(template_seed).uniform(-60, SIZE + 60, (2, stars))
    there = Sky(cards).to_pixels(*Sky(wcs()).to_sky(x, y))
    template = render(*there, light, fwhm[1], 250, epochs * GAIN, rng, shape)
    seen = Observation(FrameId(7, 0, 3), mjd_start_tai=60000.0, mjd_end_tai=60000.001)
    first = Frame("science", seen, science, gain=GAIN, read_noise=READ_NOISE, wcs=wcs(), digest="a" * 32)
    second = Frame(
        "template", seen, template, gain=epochs * GAIN, read_noise=READ_NOISE, wcs=cards, digest="b" * 32
    )
    return Scene(first, second, flux)


def settings(how: str = "auto") -> Configuration:
    return override(Configuration(), "match", align=how)


def aligned(scene: Scene, how: str = "auto"):
    configuration = settings(how)
    return align(calibrate(scene.science, configuration), calibrate(scene.template, configuration), configuration)


class Done:
    """A scene subtracted: `found`, `false`, `bias`, `blank` score."""

    def __init__(self, scene: Scene, how: str = "auto"):
        self.difference, sources = subtract(scene.science, scene.template, settings(how))
        apart = np.hypot(sources["x"][:, None] - CHANGES[:, 0], sources["y"][:, None] - CHANGES[:, 1])
        self.found = int((apart.min(0) < 1.5).sum())
        self.false = int(((apart.min(1) > 4) & ~sources["flagged"]).sum())
        self.bias = float((sources["psfFlux"][apart.argmin(0)].sum() / scene.flux.sum()) - 1)
        self.notes = " | ".join(self.difference.notes)

    def blank(self) -> float:
        """Standard deviation of the score, clipped: most pixels are sky."""
        return scatter(self.difference.score[np.isfinite(self.difference.image)])


OWN_GRID = wcs(2.0, (351.3, 340.8), sip=2e-5)


@pytest.fixture(scope="module")
def own_grid() -> Scene:
    """Turned by 2 degrees, shifted, distorted, of another shape."""
    return made(cards=OWN_GRID, shape=(690, 710))


@pytest.fixture(scope="module")
def own_grid_done(own_grid) -> Done:
    return Done(own_grid)


def test_on_a_grid_of_its_own_all_changes_are_found_and_nothing_else(own_grid_done):
    assert own_grid_done.found == len(CHANGES)
    assert own_grid_done.false <= 1  # noise alone gives 0.2 above 5 sigma in so many pixels


def test_on_a_grid_of_its_own_fluxes_are_true(own_grid_done):
    assert abs(own_grid_done.bias) < 0.01  # 36 changes of 10 to 60 sigma: 0.3 % of noise, the rest is ours


def test_on_a_grid_of_its_own_the_score_on_blank_sky_is_unit_normal(own_grid_done):
    # the engine's own, and seen here, where faint stars below the limit add a little
    assert own_grid_done.difference.quality.score_std == pytest.approx(1, abs=0.02)
    assert own_grid_done.blank() == pytest.approx(1, abs=0.04)


def test_what_was_done_is_said(own_grid_done):
    assert "resampled by WCS" in own_grid_done.notes
    assert "stars coincide within 0.0" in own_grid_done.notes


def test_the_digest_stays_that_of_the_original(own_grid):
    template = aligned(own_grid)
    assert template.frame.digest == "b" * 32
    assert template.frame.wcs == own_grid.science.wcs
    assert template.resampled
    assert not template.variance_known


@pytest.mark.parametrize("shift", [(0.5, 0.5), (0.5, 0.0)])
@pytest.mark.parametrize("epochs", [1, 5])
def test_half_a_pixel_leaves_the_score_unit_normal(shift, epochs):
    done = Done(made(5, cards=wcs(middle=(320 + shift[0], 320 + shift[1])), epochs=epochs), "wcs")
    assert "resampled by WCS" in done.notes
    assert done.difference.quality.score_std == pytest.approx(1, abs=0.02)
    assert done.found == len(CHANGES)
    assert done.false <= 1


def test_noise_that_the_kernel_does_not_blur_is_whitened():
    done = Done(made(6, cards=wcs(2.0), fwhm=(3.0, 3.6), epochs=1))
    assert "whitened" in done.notes
    assert done.difference.quality.score_std == pytest.approx(1, abs=0.02)


def test_a_stale_wcs_does_an_aligned_pair_no_harm():
    scene = made(2)
    stale = Done(scene.claiming(CRVAL1=150 + 5 * ARCSEC))
    fresh = Done(scene)
    assert "pixel by pixel: taken as aligned" in stale.notes
    assert np.array_equal(stale.difference.image, fresh.difference.image, equal_nan=True)


@pytest.mark.parametrize("off", [{"CRVAL2": 3.2}, {"CRVAL2": 2.2 + 1 / 6}, {"CRVAL1": 330.0, "CRVAL2": -40.0}])
def test_a_wcs_that_puts_an_aligned_template_elsewhere_does_no_harm(off):
    template = aligned(made(2).claiming(**off))
    assert not template.resampled
    assert "the WCS put the template " in template.notes[-1]
    assert "coincide within 0.0" in template.notes[-1]


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (690, 710)])
def test_a_wcs_that_puts_a_turned_template_elsewhere_gives_way_to_the_stars(shape):
    template = aligned(made(4, cards=wcs(17.0, (330.0, 312.0)), shape=shape).claiming(CRVAL2=3.2))
    assert template.resampled
    assert re.search(r"put the template \d+ px away, wrongly: resampled by stars", " ".join(template.notes))


def test_an_offset_of_a_third_of_a_pixel_is_taken_up_by_the_kernel():
    scene = made(3, cards=wcs(middle=(320.2, 319.78)))
    assert not aligned(scene).resampled
    done = Done(scene)
    assert done.found == len(CHANGES)
    assert done.false <= 1
    assert abs(done.bias) < 0.01  # as above


def test_a_wcs_that_is_off_by_five_arcsec_gives_way_to_the_stars():
    scene = made(4, cards=wcs(2.0, (330.0, 312.0))).claiming(CRVAL1=150 + 5 * ARCSEC)
    done = Done(scene)
    assert "wrongly: resampled by stars" in done.notes
    assert (done.found, done.false <= 1) == (len(CHANGES), True)


def test_a_wcs_that_is_off_by_a_pixel_is_put_right():
    scene = made(4, cards=wcs(2.0, (330.0, 312.0))).claiming(CRVAL1=150 + 0.2 * ARCSEC)
    note = aligned(scene).notes[-1]
    assert "resampled by WCS" in note
    assert "after a map of order 0 was fitted" in note


@pytest.mark.parametrize("turn", [0.0, 4.0, 181.0])
def test_stars_alone_are_enough(turn):
    scene = made(7, cards=wcs(turn, (338.0, 309.0), sip=1e-5), stars=800).claiming()
    done = Done(scene, "stars")
    assert "resampled by stars" in done.notes
    assert done.found >= len(CHANGES) - 2  # a change in a corner may lie off the template
    assert done.false <= 1


def test_without_wcs_stars_that_do_not_coincide_bring_the_template_there():
    done = Done(made(7, cards=wcs(1.0, (325.0, 316.0))).claiming())
    assert "without two WCS" in done.notes
    assert done.found == len(CHANGES)
    assert done.false <= 1


def test_a_template_that_is_not_where_two_equal_wcs_put_it_is_brought_there_by_its_stars():
    done = Done(made(7, cards=wcs(0.0, (346.0, 309.0))).claiming(**wcs()))
    assert "by two WCS that agree" in done.notes
    assert done.found >= len(CHANGES) - 2  # a change near the edge may lie off the template
    assert done.false <= 1


def test_without_wcs_a_mirrored_template_is_turned_over():
    done = Done(made(16, cards=wcs(1.0, CD1_1=0.2 * ARCSEC)).claiming())
    assert done.found == len(CHANGES)
    assert done.false <= 1


def test_without_wcs_an_aligned_template_is_left_alone():
    assert not aligned(made(2).claiming()).resampled


def test_without_wcs_another_field_is_taken_as_aligned():
    assert not aligned(made(12, template_seed=99).claiming()).resampled


def test_pixels_that_the_template_does_not_cover_have_no_data():
    scene = made(8, cards=wcs(1.0, (320.0, 170.0)), shape=(500, 640))
    template = aligned(scene)
    assert template.image.shape == (SIZE, SIZE)
    assert (template.mask[:140] & bit("NO_DATA")).all()
    assert not (template.mask[170:480, 40:-40] & bit(*UNUSABLE)).any()
    assert "covers 7" in template.notes[-1]


def test_a_mirrored_template_is_turned_over():
    done = Done(made(16, cards=wcs(1.0, CD1_1=0.2 * ARCSEC)))
    assert done.found == len(CHANGES)
    assert done.false <= 1


def test_a_small_distorted_template_covers_its_own_part_only():
    template = aligned(made(17, cards=wcs(1.0, (160.0, 160.0), sip=2e-4), shape=(320, 320)))
    covered = (template.mask & bit("NO_DATA")) == 0
    rows, columns = np.nonzero(covered)
    assert covered.mean() == pytest.approx(0.25, abs=0.03)  # half the field each way
    assert np.ptp(rows) < 400
    assert np.ptp(columns) < 400


def test_holes_stay_holes():
    scene = made(18, cards=wcs(middle=(330.0, 320.0)))
    scene.template.image[300:340, 200:240] = np.nan
    template = aligned(scene)
    hole = (template.mask & bit("NO_DATA")) != 0
    assert hole[300:340, 190:230].all()
    assert not hole[290:298, 20:600].any()


@pytest.mark.parametrize("extra", [0.0, 8.0])
def test_a_variance_plane_goes_along(extra):
    """Where one part of the template is shallower the plane is kept pixel by pixel, else as a smooth one."""
    scene = made(19, cards=wcs(middle=(330.0, 320.0)))
    image = scene.template.image
    variance = np.maximum(image, 1) / scene.template.gain + (READ_NOISE / scene.template.gain) ** 2
    variance[:, :300] += extra**2
    image[:, :300] += np.random.default_rng(1).normal(0, extra, (SIZE, 300))
    scene = dataclasses.replace(
        scene, template=dataclasses.replace(scene.template, variance=variance.astype("f4"))
    )
    plane = aligned(scene).sky_variance.cut(0, SIZE, 0, SIZE)
    quiet = float(np.median(variance[:, 300:]))
    assert np.median(plane[:, :285]) == pytest.approx(quiet + extra**2, rel=0.05)  # a mesh of noisy cells
    assert np.median(plane[:, 295:-20]) == pytest.approx(quiet, rel=0.05)


def test_the_stars_of_a_template_that_comes_again_are_remembered(monkeypatch):
    looked_at = []

    def noted(exposure, **given):
        looked_at.append(exposure.name)
        return bright_stars(exposure, **given)

    monkeypatch.setattr(stage, "bright_stars", noted)
    scene, device = made(2), SimpleNamespace(remembered=Remembered())
    first, again = (calibrate(scene.template, settings()) for _ in range(2))
    for template in (first, again):
        assert not align(calibrate(scene.science, settings()), template, settings(), device).resampled
    assert looked_at == ["science", "template", "science"]


def test_with_hardly_a_star_the_wcs_is_believed():
    scene = made(20, cards=wcs(2.0), stars=0)
    for x, y in ((200.0, 210.0), (420.0, 230.0), (330.0, 460.0)):
        rows, columns = np.mgrid[:SIZE, :SIZE]
        spot = 300 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 4)
        scene.template.image[:] += spot.astype(np.float32)
    assert re.search(r"resampled by WCS, unchecked: 3\d and 3 bright stars", aligned(scene).notes[-1])


def test_a_finer_grid_keeps_the_flux():
    cards = wcs(1.0, (430.0, 430.0))
    cards |= {key: 0.75 * cards[key] for key in cards if key.startswith("CD")}
    done = Done(made(9, cards=cards, shape=(860, 860), fwhm=(4.2, 4.4)))
    assert done.difference.quality.kernel_sum == pytest.approx(1, abs=0.01)  # equal exposures of equal stars
    assert abs(done.bias) < 0.012  # as above, with a wider template


def test_bright_undersampled_stars_are_suspect():
    template = aligned(made(10, cards=wcs(2.0), fwhm=(2.6, 2.0)))
    at = np.unravel_index(template.image.argmax(), template.image.shape)
    assert template.mask[at] & bit("SUSPECT")
    assert ((template.mask & bit("SUSPECT")) != 0).mean() < 0.05


def test_cosmic_rays_are_found_before_they_are_blurred():
    scene = made(11, cards=wcs(2.0))
    scene.template.image[300, 200:204] += 2000
    template = aligned(scene)
    assert "cosmic-ray and hot pixels found before it was resampled" in " ".join(template.notes)
    assert (template.mask & bit("CR")).any()


def test_stars_of_another_field_are_refused_with_the_numbers():
    with pytest.raises(NoOverlap, match=r"by WCS \d+ of \d+ stars coincide.*pixel by pixel \d+ of \d+"):
        aligned(made(12, cards=wcs(2.0), template_seed=99))


def test_stars_without_a_common_pattern_are_refused():
    with pytest.raises(NoOverlap, match="no pattern of its"):
        aligned(made(12, template_seed=99), "stars")


def test_a_wcs_far_away_is_refused():
    with pytest.raises(NoOverlap, match=r"whose WCS lies 180\d\d px away"):
        aligned(made(13).claiming(CRVAL2=3.2), "wcs")


def test_another_field_far_away_is_refused_with_the_distance():
    with pytest.raises(NoOverlap, match=r"pixel by pixel \d+ of \d+ stars.*put the template 180\d\d px away"):
        aligned(made(12, template_seed=99).claiming(CRVAL2=3.2))


@pytest.mark.parametrize("how", ["auto", "none", "wcs"])
def test_two_shapes_with_nothing_to_go_by_are_refused(how):
    scene = made(14, shape=(SIZE, SIZE - 3)).claiming()
    with pytest.raises(WrongShape, match="template: expected a"):
        aligned(scene, how)


def test_none_takes_the_grids_as_they_are():
    template = aligned(made(15).claiming(CRVAL2=2.3), "none")
    assert not template.resampled
    assert template.frame.wcs == wcs()
    assert template.notes[-1] == "the WCS put the template 1808 px away: taken as aligned"
