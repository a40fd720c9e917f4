"""From the difference to DIASources."""

import dataclasses

import numpy as np
import pytest
from headers import tangent

from gpudiff.model.mask import bit
from gpudiff.model.tables import DIASOURCE, dia_source_ids
from gpudiff.science.detect import detect


@pytest.fixture(scope="module")
def many(maker):
    """Three pairs of 24 changes each."""
    return [maker.run(maker.pair(transients=24, seed=seed)) for seed in (81, 82, 83)]


def pulls(done, value, truth, error):
    rows = done.nearest()
    found = rows >= 0
    return (done.sources[value][rows[found]] - truth[found]) / done.sources[error][rows[found]]


def test_changes_of_8_sigma_and_more_are_found_and_not_flagged(many):
    rows = np.concatenate([done.nearest() for done in many])
    flagged = np.concatenate([done.sources["flagged"][done.nearest()] for done in many])
    assert (rows >= 0).mean() > 0.97
    assert flagged.mean() < 0.05


def test_fluxes_have_the_errors_they_say(many):
    pull = np.concatenate([pulls(d, "psfFlux", d.pair.changes[:, 2], "psfFluxErr") for d in many])
    assert len(pull) > 60
    # 70 pulls: 0.12 in the mean; bright ones share the 0.3 % of the photometric scale.
    assert abs(pull.mean()) < 0.4
    assert 0.8 < pull.std() < 1.25


def test_positions_have_the_errors_they_say(many):
    for axis, name in ((0, "y"), (1, "x")):
        pull = np.concatenate([pulls(d, name, d.pair.changes[:, axis], f"{name}Err") for d in many])
        assert abs(pull.mean()) < 0.5
        assert 0.75 < pull.std() < 1.35  # 70 pulls: 8.5 % a sigma


def test_nothing_else_is_reported_unflagged(many):
    # 440,000 pixels at 5 sigma: 0.01 expected of noise; what is left of stars is to be flagged.
    assert sum(len(done.unflagged_false()) for done in many) <= 1


def test_new_and_vanished_sources_have_their_sign(many):
    for done in many:
        rows = done.nearest()
        found = rows >= 0
        negative = done.pair.changes[found, 2] < 0
        np.testing.assert_array_equal(done.sources["isNegative"][rows[found]], negative)
        np.testing.assert_array_equal(done.sources["psfFlux"][rows[found]] < 0, negative)


def test_signal_to_noise_is_absolute_and_above_the_threshold(done):
    assert (done.sources["snr"] >= 5).all()
    ratio = np.abs(done.sources["psfFlux"]) / done.sources["psfFluxErr"]
    # The score is the best pixel's and leaves out the source's own photons.
    assert np.median(ratio / done.sources["snr"]) == pytest.approx(1, abs=0.15)


def test_rows_are_in_the_order_of_y_then_x_and_ids_count_them(done):
    sources = done.sources
    assert (np.lexsort((sources["x"], sources["y"])) == np.arange(len(sources))).all()
    np.testing.assert_array_equal(sources["diaSourceId"], dia_source_ids(7, 3, len(sources)))
    assert set(sources["visit"]) == {7}
    assert sources["midpointMjdTai"][0] == pytest.approx(60000.0005)


def test_the_same_frames_give_the_same_ids_and_numbers_again(maker, done):
    again = maker.run(done.pair)
    for name in done.sources.columns:
        np.testing.assert_array_equal(again.sources[name], done.sources[name])


def test_forced_fluxes_are_those_of_science_and_template(many):
    for done in many:
        rows = done.nearest()
        found = rows >= 0
        flux = done.pair.changes[found, 2]
        science, template = (done.sources[n][rows[found]] for n in ("scienceFlux", "templateFlux"))
        error = done.sources["psfFluxErr"][rows[found]]
        assert (np.abs(science - np.maximum(flux, 0)) < 5 * error + 0.05 * np.abs(flux)).all()
        assert (np.abs(template - np.maximum(-flux, 0)) < 5 * error + 0.05 * np.abs(flux)).all()


def test_forced_fluxes_have_the_errors_they_say(many):
    for name, truth in (("scienceFlux", np.maximum), ("templateFlux", lambda flux, zero: np.maximum(-flux, zero))):
        pull = np.concatenate([pulls(d, name, truth(d.pair.changes[:, 2], 0), f"{name}Err") for d in many])
        # 70 pulls: 0.12 in the mean, 8.5 % in the width; the sky is a little off among so many stars.
        assert abs(pull.mean()) < 0.6
        assert 0.75 < pull.std() < 1.25


def test_errors_hold_for_a_difference_whose_noise_is_left_correlated(maker):
    done = [maker.run(maker.pair(transients=24, seed=seed), decorrelate=False) for seed in (81, 82, 83)]
    for name, share in (("psfFlux", 1.0), ("apFlux", 0.94)):
        pull = np.concatenate([pulls(d, name, share * d.pair.changes[:, 2], f"{name}Err") for d in done])
        # As white noise the width would be 1.2 to 1.3; 70 pulls: 8.5 %.
        assert abs(pull.mean()) < 0.4
        assert 0.8 < pull.std() < 1.2


def test_aperture_fluxes_hold_what_a_circle_of_one_fwhm_holds(done):
    rows = done.nearest()
    found = rows >= 0
    ratio = done.sources["apFlux"][rows[found]] / done.pair.changes[found, 2]
    # A Gaussian within a radius of one FWHM: 94 %; 24 sources of some 20 sigma, a larger circle's noise.
    assert np.median(ratio) == pytest.approx(0.94, abs=0.06)


def test_point_sources_have_the_psfs_moments(many):
    sources = np.concatenate([d.sources["ixx"] / d.sources["ixxPSF"] for d in many])
    assert np.nanmedian(sources) == pytest.approx(1, abs=0.1)
    assert max(d.sources["trailLength"].max() for d in many) == 0


def test_footprints_are_marked_in_the_mask(done):
    score, mask = done.difference.score, done.difference.mask
    np.testing.assert_array_equal((mask & bit("DETECTED")) != 0, score >= 5)
    np.testing.assert_array_equal((mask & bit("DETECTED_NEGATIVE")) != 0, score <= -5)


def test_a_higher_threshold_gives_fewer_sources(done):
    configuration = dataclasses.replace(
        done.configuration, detect=dataclasses.replace(done.configuration.detect, threshold=20.0)
    )
    _, fewer = detect(done.difference, configuration)
    assert 0 < len(fewer) < len(done.sources)
    assert fewer["snr"].min() >= 20


def test_a_difference_without_changes_gives_an_empty_table_of_the_same_columns(maker):
    made = maker.run(maker.pair(seed=84)).difference
    _, sources = detect(made, dataclasses.replace(maker.settings(), detect=maker.settings().detect))
    assert not (~sources["flagged"]).any()
    blank = dataclasses.replace(made, score=np.zeros_like(made.score))
    _, none = detect(blank, maker.settings())
    assert len(none) == 0
    assert list(none.columns) == [column.name for column in DIASOURCE]


def test_without_a_wcs_sky_positions_are_nan_and_with_one_they_fit_the_pixels(maker):
    pair = maker.pair(transients=6, snr=(30.0, 40.0), seed=85)
    assert np.isnan(maker.run(pair).sources["ra"]).all()
    science = dataclasses.replace(pair.science, wcs=tangent(150.0, 60.0, 1.0, 1.0))
    sources = maker.run(dataclasses.replace(pair, science=science)).sources
    np.testing.assert_allclose(sources["dec"], 60 + sources["y"] * 0.2 / 3600, atol=1e-5)
    np.testing.assert_allclose(
        (sources["ra"] - 150) * np.cos(np.radians(60)), -sources["x"] * 0.2 / 3600, atol=1e-5
    )
    np.testing.assert_allclose(sources["raErr"], sources["xErr"] * 0.2 / 3600, rtol=0.01)
    np.testing.assert_allclose(sources["decErr"], sources["yErr"] * 0.2 / 3600, rtol=0.01)
