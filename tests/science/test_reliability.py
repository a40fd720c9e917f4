"""The reliability of a detection: features, the additive model, its training."""

import dataclasses

import numpy as np
import pytest

from gpudiff.edges.reliability_model import model_named
from gpudiff.model.config import Configuration
from gpudiff.model.errors import NoUsablePixels
from gpudiff.model.hard_scene import hard_scene, night_of_scene
from gpudiff.model.provenance import extend
from gpudiff.model.reliability import FEATURES, Curve, ReliabilityModel
from gpudiff.model.scene import Night
from gpudiff.model.tables import DIASOURCE, Table
from gpudiff.science import reliability_training
from gpudiff.science.hard_pair import hard_pair
from gpudiff.science.reliability import calibrated, contributions, log_odds, rate, reliabilities
from gpudiff.science.reliability_features import features
from gpudiff.science.reliability_labels import by_truth, inject, injected, repeated
from gpudiff.science.reliability_training import Sample, area, calibration_error, held_out_odds, train
from gpudiff.science.subtract import subtract

PLAIN = Curve((0.0, 1.0), (0.0, 1.0), 0.0)
FEW = ReliabilityModel("few-1", "0" * 32, -1.0, {"snr": Curve((0.0, 1.0), (0.0, 2.0), 0.5)}, PLAIN, 1, 1)


@pytest.fixture(scope="module")
def spikes():
    """(pair, difference, sources) of a scene with stars' spikes that no model was trained on."""
    scene = hard_scene("spikes")
    pair = hard_pair(scene, night_of_scene(scene, dataclasses.replace(Night(), seed=907), 512), 512)
    return pair, *subtract(pair.science, pair.template, Configuration())


def rows(snr):
    found = np.zeros((len(snr), len(FEATURES)))
    found[:, 0] = snr
    return found


def made_up(count=600):
    """Detections of which only the brightness tells, the chance of being real rising as a logistic of it."""
    random = np.random.default_rng(3)
    found = rows(random.uniform(0, 2, count))
    found[:, 3] = random.normal(size=count)
    real = random.random(count) < 1 / (1 + np.exp(-6 * (found[:, 0] - 1)))
    return Sample(found.astype(np.float32), real, np.arange(count) // 10)


def test_a_curve_is_straight_between_its_knots_and_level_beyond():
    odds = log_odds(FEW, rows([-1, 0.5, 3, np.nan]))
    np.testing.assert_allclose(odds, [-1, 0, 1, -0.5])


def test_what_the_features_add_explains_the_odds():
    found = rows([0.2, 0.7])
    np.testing.assert_allclose(contributions(FEW, found).sum(1) + FEW.intercept, log_odds(FEW, found))


def test_a_calibration_goes_straight_on_beyond_its_ends():
    bent = dataclasses.replace(FEW, calibration=Curve((-0.5, 0.0, 1.0), (-3.0, 0.0, 0.5), 0.0))
    odds = log_odds(FEW, rows([-1, 0.25, 0.5, 1]))  # -1, -0.5, 0, 1
    score = reliabilities(bent, rows([-1, 0.25, 0.5, 1]))
    np.testing.assert_allclose(odds, [-1, -0.5, 0, 1])
    np.testing.assert_allclose(np.log(score / (1 - score)), [-6, -3, 0, 0.5], rtol=1e-5)


def test_a_calibration_follows_what_is_not_a_logistic():
    random = np.random.default_rng(4)
    found = rows(random.uniform(0, 2, 6000))
    chance = np.where(found[:, 0] < 1, 0.02, 0.45 + 0.5 * (found[:, 0] > 1.5))
    sample = Sample(found.astype(np.float32), random.random(6000) < chance, np.arange(6000) // 10)
    score = reliabilities(train(sample, "a"), found)
    for low, high, expected in ((0, 0.9, 0.02), (1.1, 1.4, 0.45), (1.6, 2, 0.95)):
        here = (found[:, 0] > low) & (found[:, 0] < high)
        assert score[here].mean() == pytest.approx(expected, abs=0.05)  # some 500 detections each calibrate it


def test_pools_of_nearly_equal_odds_calibrate():
    odds, real = np.repeat([1.00001, 1.00003], 200), np.arange(400) % np.repeat([4, 2], 200) == 0
    curve = reliability_training._calibration(odds, real)
    score = calibrated(dataclasses.replace(FEW, calibration=curve), np.array([1.00001, 1.00003]))
    np.testing.assert_allclose(score, [0.25, 0.5], atol=0.002)  # half a detection of either kind more in each


def test_the_shape_of_a_trail_has_no_value(spikes):
    _, difference, sources = spikes
    trailed = sources.replace(trailLength=np.arange(len(sources)) % 2 * 9.0)
    found = features(difference, trailed)
    for n, feature in enumerate(FEATURES):
        if feature.name in ("size", "elongation", "sharpness", "aperture"):
            assert np.isnan(found[1::2, n]).all()
            assert np.isfinite(found[::2, n]).any()


def test_training_twice_gives_the_same_model():
    assert train(made_up(), "a") == train(made_up(), "a")


def test_a_trained_model_is_calibrated():
    fresh = made_up(3000)
    score = reliabilities(train(made_up(), "a"), fresh.features)
    assert calibration_error(score, fresh.real) < 0.08  # of 3000: noise is 0.02, 400 to train on give the rest
    assert area(score, fresh.real) > 0.9  # 0.94 is what the truth itself reaches


def test_held_out_odds_know_nothing_of_their_own_frames():
    random = np.random.default_rng(5)
    noise = random.normal(size=(600, len(FEATURES))).astype(np.float32)
    sample = Sample(noise, random.random(600) < 0.5, np.arange(600) // 10)
    assert area(log_odds(train(sample, "a"), noise), sample.real) > 0.6  # fitted to: 29 curves follow the noise
    assert area(held_out_odds(sample), sample.real) == pytest.approx(0.5, abs=0.07)  # 0.024, three of them


def test_a_curve_rises_where_it_may_not_fall():
    curve = train(made_up(), "a").curves["snr"]
    assert (np.diff(curve.values) >= 0).all()


def test_too_few_detections_train_nothing():
    with pytest.raises(NoUsablePixels, match="30 real and 30 bogus"):
        train(made_up(60), "a")


def test_equal_scores_are_worth_half():
    assert area(np.ones(4), np.array([True, True, False, False])) == 0.5


def test_the_shipped_model_tells_sources_from_spikes(spikes):
    pair, difference, sources = spikes
    score = rate(difference, sources, model_named("default"))[1]["reliability"]
    real = by_truth(sources, pair.truth)
    assert area(score, real) > 0.95  # 0.99 in training; some tens of detections
    assert ((score >= 0) & (score <= 1)).all()


def test_a_rating_is_a_step_of_provenance(spikes):
    _, difference, sources = spikes
    rated, _ = rate(difference, sources, FEW)
    assert rated.steps[-1]["configuration"] == FEW.digest
    assert rated.steps[-1]["version"] == "few-1"
    assert rated.fingerprint == extend("", rated.steps)


def test_the_digest_of_a_model_is_of_all_that_it_says_and_made_once():
    assert FEW.digest is FEW.digest
    assert dataclasses.replace(FEW, intercept=FEW.intercept + 1).digest != FEW.digest


def test_without_a_model_nothing_is_rated(spikes):
    _, difference, sources = spikes
    same, unrated = rate(difference, sources, None)
    assert same is difference
    assert np.isnan(unrated["reliability"]).all()


def test_every_feature_has_a_column(spikes):
    found = features(*spikes[1:])
    assert found.shape == (len(spikes[2]), len(FEATURES))
    assert not np.isinf(found).any()


def test_no_detection_has_no_features(spikes):
    assert features(spikes[1], Table.empty(DIASOURCE)).shape == (0, len(FEATURES))


def test_injected_stars_are_found_again(spikes):
    pair, difference, _ = spikes
    filled, x, y = inject(pair.science, difference, 1, 20)
    found = subtract(filled, pair.template, Configuration())[1]
    assert len(x) == 20
    assert injected(found, x, y).sum() >= 15  # their signal to noise begins at 5, where half are missed


def test_what_another_visit_shows_unflagged_may_be_real(spikes):
    sources = spikes[2].take([0, 1]).replace(flagged=[False, True])
    other = sources.replace(visit=sources["visit"] + 1, flagged=[False, False])
    assert repeated(sources, other).tolist() == [True, False]
    assert not repeated(sources, sources).any()
