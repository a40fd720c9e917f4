"""How good a difference says it is, as a whole and on a grid."""

import dataclasses

import numpy as np
import pytest

from gpudiff.model.tables import Table, flag
from gpudiff.science.quality import assess, cell_of, poor, poor_notes


@pytest.fixture(scope="module")
def whole(maker):
    """A pair of 640 px, 3 x 3 cells."""
    return maker.run(maker.pair(size=640, stars=250, transients=20, seed=71, slope=0.02))


@pytest.fixture(scope="module")
def broken(maker, whole):
    """The same with a corner of the template moved by 2 px, and noise that nobody said in another."""

    def change(image):
        image[420:, :200] += np.random.default_rng(1).normal(0, 40, (220, 200)).astype(np.float32)

    template = whole.pair.template.image.copy()
    template[:210, :210] = np.roll(template[:210, :210], (2, -1), (0, 1))
    pair = whole.pair.with_science(change)
    return maker.run(dataclasses.replace(pair, template=dataclasses.replace(pair.template, image=template)))


def test_cells_tile_the_frame(whole):
    cells = whole.difference.cells
    assert len(cells) == 9
    area = (cells["x1"] - cells["x0"]).astype(int) * (cells["y1"] - cells["y0"])
    assert area.sum() == 640 * 640
    x, y = np.array([0, 639, 300]), np.array([0, 0, 639])
    assert cell_of(whole.difference, y, x).tolist() == [0, 2, 7]


def test_a_good_subtraction_has_ones_everywhere(whole):
    cells = whole.difference.cells
    assert np.abs(cells["noiseRatio"] - 1).max() < 0.05  # 4,000 pixels: 1.1 %
    assert np.abs(cells["scoreStd"] - 1).max() < 0.12  # some 1,000 independent ones: 2.5 %
    assert np.abs(cells["backgroundSigma"]).max() < 0.08
    assert np.nanmax(cells["chi2"]) < 1.5
    assert np.nanmax(cells["residual"]) < 0.03
    assert poor_notes(whole.difference) == ()


def test_noise_is_told_where_the_template_has_most_of_it(maker, whole):
    """As when the science image is the deeper one, and is convolved: the template's noise is as it was."""
    pair = whole.pair
    made = maker.run(dataclasses.replace(pair, science=pair.template, template=pair.science))
    assert made.difference.quality.convolved == "SCIENCE"
    assert np.abs(made.difference.cells["noiseRatio"] - 1).max() < 0.05  # 4,000 pixels: 1.1 %


def test_widths_and_scale_are_those_of_the_place(whole):
    cells, recipe = whole.difference.cells, whole.pair.recipe
    u = (cells["x0"] + cells["x1"]) / recipe.size - 1
    v = (cells["y0"] + cells["y1"]) / recipe.size - 1
    wide = 1 + recipe.widen * (u - v)
    np.testing.assert_allclose(cells["scienceFwhm"], recipe.fwhm[0] * wide, rtol=0.03)  # 20 stars a cell
    np.testing.assert_allclose(cells["templateFwhm"], recipe.fwhm[1] * wide, rtol=0.03)
    np.testing.assert_allclose(cells["matchedFwhm"], recipe.fwhm[0] * wide, rtol=0.03)
    np.testing.assert_allclose(cells["kernelSum"], 1 / (1 + recipe.slope * u), rtol=0.01)


def test_detections_and_stars_are_counted_once(whole):
    cells, sources = whole.difference.cells, whole.sources
    assert cells["nDetections"].sum() == len(sources)
    assert cells["nFlagged"].sum() == sources["flagged"].sum()
    assert cells["nStars"].sum() == whole.difference.quality.candidates
    assert cells["nUsed"].sum() == whole.difference.quality.candidates_used


def test_poor_cells_are_named_with_their_numbers(broken):
    assert set(np.nonzero(broken.difference.cells["poor"])[0]) == {0, 6}
    note = poor_notes(broken.difference)[-1]
    assert note in broken.difference.notes
    assert "in 2 of 9 cells, the worst: x 0 to 213, y 0 to 213: std of the score" in note


def test_a_cell_whose_stars_are_left_flags_all_that_is_in_it_and_a_noisy_one_what_its_noise_makes(broken):
    sources, cells = broken.sources, broken.difference.cells
    at = cell_of(broken.difference, sources["y"], sources["x"])
    flagged = (sources["flags"] & flag("POOR_SUBTRACTION")) != 0
    noise = (at == 6) & (sources["snr"] < 5 * cells["scoreStd"][6])
    np.testing.assert_array_equal(flagged, (at == 0) | noise)
    assert noise.any()
    assert ((at == 6) & ~noise).any()


def test_stars_that_were_moved_leave_their_light_in_their_cell(broken):
    cells = broken.difference.cells
    assert cells["residual"][0] > 0.1
    assert np.delete(cells["residual"], [0, 6]).max() < 0.05


@pytest.mark.parametrize(("changed", "poor_cells"), [(0.6, 0), (0.9, 1)])
def test_a_cell_is_poor_where_nearly_all_its_stars_leave_light_not_where_half_of_them_changed(
    whole, changed, poor_cells
):
    stars = whole.difference.stars
    here = np.nonzero((stars["x"] < 213) & (stars["y"] < 213))[0]
    rows = here[: round(changed * len(here))]
    chi2, residual = stars["chi2"].copy(), stars["residual"].copy()
    chi2[rows], residual[rows] = 12.0, 0.3
    made = assess(dataclasses.replace(whole.difference, stars=stars.replace(chi2=chi2, residual=residual)))
    assert made.cells["poor"].sum() == poor_cells


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"score_std": 1.3}, "scatter on blank sky is 1.30"),
        ({"chi2": 6.0}, "does not fit its stars: reduced chi2 6.0"),
        ({"chi2_held_back": 7.0}, "held back: reduced chi2 7.0"),
        ({"stars_left": 0.4, "star_residual": 0.1}, "40 % of the kernel candidates"),
        ({"stars_left": 0.4, "star_residual": 0.01}, ""),
        ({"stars_left": 3 / 9, "star_residual": 0.1, "candidates": 9}, ""),  # 0.25 +- 0.14
        ({"stars_left": 4 / 9, "star_residual": 0.1, "candidates": 9}, "44 % of the kernel candidates"),
        ({"chi2_held_back": np.nan}, ""),
    ],
)
def test_a_poor_frame_says_why(whole, changed, says):
    quality = dataclasses.replace(whole.difference.quality, **changed)
    said = poor(dataclasses.replace(whole.difference, quality=quality))
    assert says in said
    assert bool(said) == bool(says)


def test_without_kernel_stars_the_rest_is_still_known(whole):
    made = dataclasses.replace(whole.difference, stars=Table.empty(whole.difference.stars.schema))
    made = assess(made)
    assert np.isnan(made.quality.stars_left)
    assert np.isfinite(made.cells["scoreStd"]).all()
    assert not made.cells["poor"].any()
