"""Light round bright stars, told from sources."""

import dataclasses

import numpy as np
import pytest

from gpudiff.arrays.ridges import beside
from gpudiff.model.mask import bit
from gpudiff.science.spikes import BrightStars, bright_stars, crowded, cut_by_edge, off_source, on_streaks


def scene(done, score, star=None, streak=False):
    """A difference of that score, with a star in the template at (y, x) or none."""
    matched = np.zeros_like(score)
    if star is not None:
        matched[star] = 1e7
    mask = np.full(score.shape, bit("STREAK") if streak else 0, np.int32)
    flat = np.full(score.shape, 200.0, np.float32)
    return dataclasses.replace(
        done.difference, score=score, image=score, matched=matched, variance=flat, mask=mask
    )


def judged(made, y, x, length=0.0, angle=0.0):
    """(on a ray, on other light) of a detection at (y, x)."""
    at = np.array([y]), np.array([x])
    light = beside(made.score, *at, made.quality.science_fwhm)
    trail = np.array([length]), np.array([angle])
    return tuple(bool(found[0]) for found in off_source(made, bright_stars(made), light, *at, at, *trail, 5.0))


def on_a_line(start=60, stop=200):
    """A detection of score 6 at (100, 130) on a line of score 4 along x."""
    score = np.full((200, 300), 1e-3, np.float32)
    score[98:103, start:stop] = 4
    score[100, 130] = 6
    return score


def test_a_detection_on_a_ray_that_points_at_a_bright_star_is_its_spike(done):
    made = scene(done, on_a_line(), star=(100, 30))
    assert len(bright_stars(made).y) == 1
    assert judged(made, 100, 130) == (True, False)


def test_a_detection_on_a_ray_of_nothing_is_not_point_like(done):
    made = scene(done, on_a_line())
    assert len(bright_stars(made).y) == 0
    assert judged(made, 100, 130) == (False, True)


def test_a_source_beside_a_bright_star_is_a_source(done):
    score = np.full((200, 300), 1e-3, np.float32)
    score[97:104, 57:64] = 6
    assert judged(scene(done, score, star=(100, 30)), 100, 60) == (False, False)


def test_a_source_far_brighter_than_the_ray_it_lies_on_is_a_source(done):
    score = on_a_line()
    score[score == 4] = 1
    score[100, 130] = 40
    assert judged(scene(done, score, star=(100, 30)), 100, 130) == (False, False)


@pytest.mark.parametrize(("rows", "residual"), [([92, 100, 108], True), ([92, 108], False)])
def test_three_detections_round_a_bright_star_are_its_residual_two_are_not(rows, residual):
    stars = BrightStars(*np.array([[100.0], [60.0], [4.0], [80.0]]))
    y = np.array([*rows, 150, 151, 152])
    found = crowded(stars, y, np.full(len(y), 66), 4.5)
    assert found.tolist() == [residual] * len(rows) + [False] * 3


def test_a_trail_that_points_at_a_star_and_goes_on_is_its_spike(done):
    score = on_a_line()
    score[98:103, 118:143] = 20
    assert judged(scene(done, score, star=(100, 30)), 100, 130, 24.0, 3.0) == (True, False)
    assert judged(scene(done, score), 100, 130, 24.0, 3.0) == (False, True)


def test_a_faint_trail_does_not_go_on_where_there_is_noise_beyond_it(done):
    score = on_a_line()
    score[98:103, 118:143] = 7
    score[98:103, 143:] = score[98:103, :118] = 1.1  # 1.7 errors of its mean
    assert judged(scene(done, score), 100, 130, 24.0, 3.0) == (False, False)


@pytest.mark.parametrize("stop", [27, 200])
def test_a_trail_that_leaves_the_image_goes_on_when_its_other_end_does(done, stop):
    made = scene(done, on_a_line(0, stop))
    assert judged(made, 100, 15, 24.0) == (False, stop == 200)


@pytest.mark.parametrize(("start", "cut"), [(0, True), (16, False)])
def test_a_trail_is_cut_by_the_edge_where_no_dark_lies_between(done, start, cut):
    made = scene(done, on_a_line(start, 60))
    trail = (np.array([100.0]), np.array([38.0])), np.array([44.0]), np.zeros(1)
    assert cut_by_edge(made, (np.array([100]), np.array([50])), *trail).tolist() == [cut]


@pytest.mark.parametrize(("row", "residual"), [(108, True), (140, False)])
def test_a_trail_beside_a_bright_star_may_be_what_the_star_leaves(done, row, residual):
    score = np.full((200, 300), 1e-3, np.float32)
    score[98:103, 110:150] = 20
    assert judged(scene(done, score, star=(row, 145)), 100, 130, 40.0, 0.0)[1] == residual


def test_a_trail_on_the_rim_of_a_ghost_is_none(done):
    score = np.full((200, 300), 1e-3, np.float32)
    score[98:103, 110:150] = 8
    alone = judged(scene(done, score), 100, 130, 40.0, 0.0)
    score[103:140, 60:200] = -3
    assert (alone, judged(scene(done, score), 100, 130, 40.0, 0.0)) == ((False, False), (False, True))


def test_the_middle_of_a_saturated_star_is_found_though_its_charge_bled(done):
    made = scene(done, np.zeros((200, 300), np.float32))
    y, x = np.mgrid[:200, :300]
    matched = (2e6 * np.exp(-((y - 90.3) ** 2 + (x - 150.6) ** 2) / 18)).astype(np.float32)
    mask = np.where((abs(x - 151) < 2) & (abs(y - 100) < 60), bit("SAT"), np.int32(0))
    stars = bright_stars(dataclasses.replace(made, matched=matched, mask=mask))
    # The bleed is in the mask alone: the light in the template, filled from the wings, says where the star is.
    assert (float(stars.y[0]), float(stars.x[0])) == (pytest.approx(90.3, abs=0.5), pytest.approx(150.6, abs=0.5))
    assert len(stars.y) == 1


@pytest.mark.parametrize(("size", "lost"), [(8.0, True), (40.0, False)])
def test_only_what_a_streak_may_have_made_is_lost_to_it(done, size, lost):
    score = np.full((200, 300), 4.0, np.float32)
    score[100, 130] = size
    made, at = scene(done, score, streak=True), (np.array([100]), np.array([130]))
    light = beside(score, *at, made.quality.science_fwhm)
    assert on_streaks(made, *at, light, 5.0).tolist() == [lost]
    assert not on_streaks(scene(done, score), *at, light, 5.0).any()


@pytest.mark.parametrize(("scatter", "size", "flagged"), [(1.0, 6.0, False), (1.6, 6.0, True), (1.6, 9.0, False)])
def test_where_the_score_is_restless_the_threshold_is_in_units_of_its_scatter(done, scatter, size, flagged):
    y, x = np.mgrid[:200, :300]
    score = np.where((y // 3 + x // 3) % 2, scatter, -scatter).astype(np.float32)
    score[100, 130] = size
    assert judged(scene(done, score), 100, 130) == (False, flagged)
