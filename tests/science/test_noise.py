"""What is said and done about the noise of a difference."""

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from gpudiff.arrays.artefacts import add_streak
from gpudiff.arrays.correlation import autocorrelation
from gpudiff.science.noise import scatter

CORRELATED = "correlated"


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_values_that_are_all_one_have_no_scatter_that_can_be_told(value):
    assert np.isnan(scatter(np.full(1000, value, np.float32)))


def away_std(done, plane):
    values = plane[done.away()]
    return values[np.abs(values) < 4.5].std()


def over_sigma(done):
    return done.difference.image / np.sqrt(done.difference.variance)


@pytest.mark.parametrize("fwhm", [(4.6, 3.6), (3.6, 4.6), (4.2, 4.2)], ids=["wider", "sharper", "equal"])
def test_known_white_noise_is_left_as_propagated(maker, fwhm):
    done = maker.run(maker.pair(fwhm=fwhm, seed=61))
    assert not [note for note in done.difference.notes if CORRELATED in note or "multiplied" in note]
    # 60,000 pixels away from stars: 0.3 % a sigma for the difference; the score's are correlated: 1.5 %.
    assert away_std(done, over_sigma(done)) == pytest.approx(1, abs=0.02)
    assert away_std(done, done.difference.score) == pytest.approx(1, abs=0.05)


def test_a_copy_with_a_new_source_shows_that_alone(maker):
    pair = maker.pair(seed=63)
    spot = 300 * np.exp(-0.5 * (np.hypot(*(np.mgrid[:384, :384] - 190)) / 2) ** 2)  # as wide as a star
    done = maker.run(
        dataclasses.replace(pair.with_science(lambda image: image.__iadd__(spot)), template=pair.science)
    )
    assert any("noise in common" in note for note in done.difference.notes)
    assert [(round(y), round(x)) for y, x in zip(done.sources["y"], done.sources["x"], strict=True)] == [
        (190, 190)
    ]


def test_decorrelation_makes_the_difference_white(done):
    made = done.difference
    values = np.where(done.away(), made.image, 0) / np.sqrt(np.nan_to_num(made.variance, nan=1.0))
    found, _ = autocorrelation(values, done.away(), 2)
    found[2, 2] = 0
    # 60,000 pixels: 0.4 % a sigma; 5 for the worst of 24, and a kernel that varies within a tile.
    assert np.abs(found).max() < 0.025


def test_without_decorrelation_neighbours_stay_correlated_and_the_score_normal(maker, done):
    plain = maker.run(done.pair, decorrelate=False)
    assert not plain.difference.decorrelated
    use = plain.away()
    values = np.where(use, plain.difference.image, 0) / np.sqrt(np.nan_to_num(plain.difference.variance, nan=1.0))
    found, _ = autocorrelation(values, use, 1)
    assert found[1, 2] > 0.03
    assert away_std(plain, over_sigma(plain)) == pytest.approx(1, abs=0.02)


def resampled(image):
    """Half a pixel aside by linear interpolation: what a stacking program does to noise."""
    return shift(image.astype(float), (0.5, 0.5), order=1, mode="nearest").astype(np.float32)


def test_resampled_inputs_are_noticed_and_their_score_is_normal_all_the_same(maker):
    pair = maker.pair(seed=63)
    template = dataclasses.replace(pair.template, image=resampled(pair.template.image))
    science = dataclasses.replace(pair.science, image=resampled(pair.science.image))
    done = maker.run(dataclasses.replace(pair, science=science, template=template))
    assert any(CORRELATED in note for note in done.difference.notes)
    # The scatter is measured on a fifth of a fifth of the pixels.
    assert away_std(done, done.difference.score) == pytest.approx(1, abs=0.07)
    assert away_std(done, over_sigma(done)) == pytest.approx(1, abs=0.04)


def test_a_stacked_template_is_noticed_by_its_score_where_the_science_images_noise_hides_it(maker):
    pair = maker.pair(seed=64)
    added = gaussian_filter(np.random.default_rng(64).normal(size=pair.template.image.shape), 2.0)
    template = pair.template.image + np.float32(3.5 / added.std() * added)  # where the science image has 14.7
    done = maker.run(dataclasses.replace(pair, template=dataclasses.replace(pair.template, image=template)))
    assert any(CORRELATED in note for note in done.difference.notes)
    # The scatter is measured on a fifth of a fifth of the pixels.
    assert away_std(done, done.difference.score) == pytest.approx(1, abs=0.07)


def test_a_gain_that_was_never_said_gives_a_difference_as_good_as_the_measured_noise(maker):
    pair = maker.pair(seed=64)
    frames = {
        name: dataclasses.replace(getattr(pair, name), gain=None, read_noise=None)
        for name in ("science", "template")
    }
    done = maker.run(dataclasses.replace(pair, **frames))
    assert any("multiplied by" in note for note in done.difference.notes)
    assert away_std(done, over_sigma(done)) == pytest.approx(1, abs=0.03)
    assert len(done.unflagged_false()) == 0


def test_the_quality_says_what_the_pixels_say(done):
    assert done.difference.quality.noise_ratio == pytest.approx(away_std(done, over_sigma(done)), abs=0.04)
    assert done.difference.quality.score_std == pytest.approx(away_std(done, done.difference.score), abs=0.05)


def test_streaks_are_no_correlated_noise(maker):
    pair = maker.pair(seed=64)

    def cross(image):
        for turn in range(5):
            add_streak(image, 190, 60 + 60 * turn, 0.5 * turn, 40.0, 7.0)

    done = maker.run(pair.with_science(cross))
    assert not [note for note in done.difference.notes if CORRELATED in note]
