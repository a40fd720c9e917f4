"""gpudiff.edges.picture: one PNG, whatever the difference looks like."""

import dataclasses

import numpy as np
import pytest

from gpudiff.edges.picture import write_picture
from gpudiff.edges.picture_cutouts import chosen, cutout, rank
from gpudiff.edges.picture_planes import block_extreme, block_mean, brightest
from gpudiff.edges.picture_quality import normalised, stack
from gpudiff.model.errors import StoreFailed
from gpudiff.model.mask import bit
from gpudiff.model.tables import DIASOURCE, Table


def drawn(path) -> np.ndarray:
    from matplotlib.image import imread

    return imread(path)


def test_the_picture_is_a_page_of_a_readable_size(tmp_path, made_difference, made_sources):
    write_picture(tmp_path / "r.png", made_difference, made_sources)
    height, width, _ = drawn(tmp_path / "r.png").shape
    assert 1500 < width < 3000
    assert 800 < height < 2500


def test_the_marks_are_on_it_in_their_colours(tmp_path, made_difference, made_sources):
    write_picture(tmp_path / "with.png", made_difference, made_sources)
    rgb = np.round(drawn(tmp_path / "with.png")[..., :3] * 255).astype(int)
    for colour in ((0x0A, 0x7C, 0xFF), (0xFF, 0x7A, 0x00)):
        # a circle of 1.5 points at 110 dpi covers some hundred pixels; half of them are not blended
        assert (np.abs(rgb - colour).max(-1) < 12).sum() > 50


def test_no_sources_make_a_page_without_the_enlarged_ones(tmp_path, made_difference, made_sources):
    write_picture(tmp_path / "with.png", made_difference, made_sources)
    write_picture(tmp_path / "none.png", made_difference, Table.empty(DIASOURCE))
    assert drawn(tmp_path / "none.png").shape[0] < drawn(tmp_path / "with.png").shape[0]


def test_a_difference_without_one_usable_pixel_is_still_drawn(tmp_path, made_difference, made_sources):
    nothing = np.full(made_difference.image.shape, np.nan, np.float32)
    lost = np.full(made_difference.mask.shape, bit("NO_DATA"))
    science = dataclasses.replace(made_difference.science, mask=lost)
    difference = dataclasses.replace(
        made_difference, science=science, image=nothing, variance=nothing, score=nothing, mask=lost
    )
    write_picture(tmp_path / "r.png", difference, made_sources)
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["星.fits", "a$b_$.fits"])
def test_a_name_that_the_font_or_mathematics_has_not_is_no_warning(tmp_path, made_difference, made_sources, name):
    frame = dataclasses.replace(made_difference.science.frame, name=name)
    science = dataclasses.replace(made_difference.science, frame=frame)
    write_picture(tmp_path / "r.png", dataclasses.replace(made_difference, science=science), made_sources)
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_is_not_there_is_named(tmp_path, made_difference, made_sources):
    with pytest.raises(StoreFailed, match=r"nowhere/r\.png"):
        write_picture(tmp_path / "nowhere" / "r.png", made_difference, made_sources)


def test_the_histogram_counts_only_unmasked_pixels(made_difference):
    unusable = made_difference.mask & bit("NO_DATA", "SAT_TEMPLATE")
    values = normalised(made_difference)
    assert values.size == (unusable == 0).sum()
    assert np.isfinite(values).all()


def test_blocks_are_averaged_over_their_finite_pixels():
    plane = np.array([[1.0, 3.0, np.nan], [np.nan, 2.0, np.nan], [5.0, 7.0, 9.0]])
    mean = block_mean(plane, 2)
    assert mean[0, 0] == 2.0
    assert np.isnan(mean[0, 1])
    assert mean[1].tolist() == [6.0, 9.0]


def test_the_extreme_of_a_block_keeps_its_sign():
    plane = np.array([[1.0, -3.0, np.nan], [np.nan, 2.0, np.nan]])
    extreme = block_extreme(plane, 2)
    assert extreme[0, 0] == -3.0
    assert np.isnan(extreme[0, 1])


def test_the_brightest_are_unflagged_and_in_order(made_sources):
    rows = brightest(made_sources, 20)
    assert not made_sources["flagged"][rows].any()
    assert (np.diff(made_sources["snr"][rows]) <= 0).all()


def test_no_detection_is_enlarged_twice_and_all_kinds_are(made_sources):
    groups = chosen(made_sources)
    rows = np.concatenate([rows for _, rows in groups])
    assert len(set(rows.tolist())) == len(rows) == len(made_sources)
    assert made_sources["flagged"][groups[-1][1]].all()
    assert [rank(made_sources, row) for row in groups[0][1]] == [1, 2]
    assert rank(made_sources, groups[-1][1][0]) == 0


def test_a_stack_of_stars_is_the_mean_of_what_is_left_over_their_peak(made_difference):
    matched, image = np.zeros(made_difference.image.shape, np.float32), made_difference.image * 0
    stars = made_difference.stars
    for y, x in zip(stars["y"], stars["x"] + 1, strict=True):  # the template's peak is beside the science image's
        matched[y, x], image[y, x] = 1000, 20
    changed = dataclasses.replace(made_difference, matched=matched, image=image)
    significance, share = stack(changed, stars)
    assert share == pytest.approx(0.02)
    assert significance[15, 15] == pytest.approx(np.sqrt(5) * 20 / 3)  # five stars, sigma 3
    assert np.nanmax(np.abs(np.delete(significance.ravel(), 15 * 31 + 15))) == 0


def test_what_is_poor_stands_in_red(tmp_path, made_difference, made_sources):
    poor = dataclasses.replace(made_difference, notes=("POOR SUBTRACTION: the score's scatter is 2, not 1",))
    write_picture(tmp_path / "r.png", poor, made_sources)
    rgb = np.round(drawn(tmp_path / "r.png")[:90, :, :3] * 255).astype(int)
    assert (np.abs(rgb - (0xC8, 0x1E, 0x1E)).max(-1) < 12).sum() > 200


def test_a_cutout_beyond_the_edge_is_nan_there():
    out = cutout(np.ones((30, 30)), 0, 29)
    assert np.isnan(out[:20]).all()
    assert np.isnan(out[:, 21:]).all()
    assert (out[20:, :21] == 1).all()
