"""Light that is not of the sky, on whole subtractions."""

import dataclasses

import numpy as np
import pytest

from gpudiff.arrays.artefacts import add_streak
from gpudiff.model.mask import bit
from gpudiff.model.tables import flag
from gpudiff.science.streaks import glints, mark_streaks

SIGMA = np.sqrt(300 / 1.5 + 16)
"""ADU, of a sky pixel of the science image (conftest's Recipe)."""


@pytest.fixture(scope="module")
def crossed(maker):
    """A streak of 1.5 sigma a pixel through (x, y) = (190, 200) at 25 degrees."""
    pair = maker.pair(transients=16, seed=91)
    return maker.run(
        pair.with_science(lambda image: add_streak(image, 190, 200, np.radians(25), 1.5 * SIGMA, 6.5))
    )


def away_from_it(y, x):
    return np.abs((y - 200) * np.cos(np.radians(25)) - (x - 190) * np.sin(np.radians(25)))


def test_detections_on_a_streak_are_kept_and_flagged_by_name(crossed):
    on = away_from_it(crossed.sources["y"], crossed.sources["x"]) < 5
    assert on.sum() > 20
    assert (crossed.sources["flags"][on] & flag("STREAK") != 0).all()
    assert crossed.sources["flagged"][on].all()


def test_changes_away_from_a_streak_are_not_flagged(crossed):
    far = away_from_it(*crossed.pair.changes[:, :2].T) > 25
    rows = crossed.nearest()[far]
    rows = rows[rows >= 0]
    assert len(rows) >= 8
    assert not (crossed.sources["flags"][rows] & flag("STREAK")).any()


def test_a_streak_is_in_the_mask_and_told(crossed):
    marked = crossed.difference.mask & bit("STREAK") != 0
    y, x = np.nonzero(marked)
    assert away_from_it(y, x).max() < 18
    assert len(y) > 350 * 10  # 384 px across, 10 px wide and more
    assert any(note.startswith("streak in science") for note in crossed.difference.notes)


def test_an_ordinary_pair_has_no_streak(done):
    assert not (done.difference.mask & bit("STREAK")).any()
    assert not (done.sources["flags"] & flag("STREAK")).any()


def test_a_streak_of_the_template_is_told_as_such(done):
    light = np.zeros(done.difference.score.shape, np.float32)
    add_streak(light, 200, 180, 1.0, -6.0, 8.0)
    marked = mark_streaks(dataclasses.replace(done.difference, score=done.difference.score + light))
    assert "streak in template" in marked.notes[-1]


def test_glints_at_even_distances_are_flagged_together(maker):
    pair = maker.pair(transients=0, stars=60, seed=92)
    places = np.array([60.0, 50.0]) + np.arange(5)[:, None] * [52.0, 61.0]
    box = np.mgrid[:384, :384]

    def flash(image):
        for y, x in places:
            image += (20 * 7 * SIGMA * maker.profile(pair.recipe, 4.6, y, x, *box)).astype(np.float32)

    sources = maker.run(pair.with_science(flash)).sources
    near = np.hypot(sources["y"][:, None] - places[:, 0], sources["x"][:, None] - places[:, 1]).min(1) < 2
    assert near.sum() >= 4
    assert (sources["flags"][near] & flag("STREAK") != 0).all()


def test_two_glints_are_two_sources(done):
    at = np.array([100.0, 140.0]), np.array([100.0, 180.0])
    assert not glints(done.difference, *at, np.zeros(2, bool), np.zeros(2)).any()


def test_a_faint_trail_is_one_source_with_its_length_and_angle(maker):
    pair = maker.pair(transients=0, stars=60, seed=93)
    box = np.mgrid[:384, :384]

    def trail(image):
        for part in np.linspace(-12, 12, 49):
            y, x = 150 + part * np.sin(0.6), 220 + part * np.cos(0.6)
            flux = 18 * 7 * SIGMA / 49 * 1.6
            image += (flux * maker.profile(pair.recipe, 4.6, y, x, *box)).astype(np.float32)

    sources = maker.run(pair.with_science(trail)).sources
    (row,) = np.nonzero(np.hypot(sources["y"] - 150, sources["x"] - 220) < 18)[0]
    assert abs(sources["trailLength"][row] - 24) < 4  # S/N 20: some 2 px
    assert abs(sources["trailAngle"][row] - np.degrees(0.6)) < 5
    assert not sources["flagged"][row]
