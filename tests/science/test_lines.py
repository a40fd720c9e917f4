"""Warm columns of a pair."""

import dataclasses

import numpy as np
import pytest

from gpudiff.science.lines import level_lines

COLUMNS = 61, 150, 233, 320
NOISE = 15.0
"""Of a sky pixel of `Maker.pair`, about."""


def warmed(frame, level=5 * NOISE, columns=COLUMNS):
    image = frame.image.copy()
    for n, column in enumerate(columns):
        image[30 * n :, column] += level
    return dataclasses.replace(frame, image=image)


@pytest.mark.parametrize("name", ["science", "template"])
def test_warm_columns_of_either_image_leave_no_detection(maker, done, name):
    pair = dataclasses.replace(done.pair, **{name: warmed(getattr(done.pair, name))})
    again = maker.run(pair)
    said = f"4 columns or rows of one pixel in {name} levelled, 0 masked: they are off from those beside them"
    assert said in again.difference.notes
    assert abs(len(again.sources) - len(done.sources)) <= 2  # those of 5 sigma come and go
    assert (again.nearest() >= 0).sum() >= (done.nearest() >= 0).sum() - 1
    assert again.difference.quality.score_std == pytest.approx(done.difference.quality.score_std, abs=0.01)


def test_noisy_columns_are_masked(maker, done):
    rng, pair = np.random.default_rng(4), warmed(done.pair.science)
    for column in COLUMNS:
        pair.image[:, column] += rng.normal(0, 2 * NOISE, len(pair.image))
    again = maker.run(dataclasses.replace(done.pair, science=pair))
    assert np.isnan(again.difference.image[200, list(COLUMNS)]).all()
    assert not np.isnan(again.difference.image[200, np.add(COLUMNS, 1)]).any()
    assert abs(len(again.sources) - len(done.sources)) <= 2


def test_lines_of_both_images_are_levelled_in_both(maker, done):
    pair = dataclasses.replace(
        done.pair, science=warmed(done.pair.science), template=warmed(done.pair.template, columns=COLUMNS[2:])
    )
    science, template = maker.exposures(pair)
    assert [note.split()[0] for note in level_lines(science, template)] == ["4", "2"]
    for image in (science.image, template.image):
        off = image[100:, COLUMNS] - 0.5 * (image[100:, np.subtract(COLUMNS, 1)] + image[100:, np.add(COLUMNS, 1)])
        assert np.abs(np.median(off, 0)).max() < 0.5 * NOISE  # 5 errors of the median of 280 pixels


def test_a_line_that_the_other_image_shows_spread_out_is_left_in_both(maker, done):
    template = done.pair.template
    for column in range(149, 152):
        template = warmed(template, 2 * NOISE, [column])
    science, template = maker.exposures(
        dataclasses.replace(done.pair, science=warmed(done.pair.science), template=template)
    )
    before = science.image[:, 150].copy()
    assert [note.split()[0] for note in level_lines(science, template)] == ["3"]
    np.testing.assert_array_equal(science.image[:, 150], before)
