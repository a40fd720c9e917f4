"""The judge of the benchmark is right about tables whose faults are known."""

import dataclasses

import numpy as np
import pytest
from astropy.table import Table

from gpudiff.model.hard_scene import SCENES, night_of_scene
from gpudiff.model.scene import Night
from gpudiff.services.hard_pair import simulate_pair


@pytest.fixture(scope="module")
def quality(bench):
    return bench("_quality")


def pair_of(name, folder, **given):
    scene = SCENES[name]
    simulate_pair(scene, night_of_scene(scene, Night(seed=4, **given), 256), 256, folder)
    return folder


@pytest.fixture(scope="module")
def trails(quality, tmp_path_factory):
    return quality.Truth.read(pair_of("trails", tmp_path_factory.mktemp("trails"), moving=3, snr_low=20.0))


def told(truth):
    """A table that says exactly what is true."""
    sky = truth.sky
    columns = {name: np.asarray(sky[name], float) for name in ("x", "y", "trailLength", "trailAngle")}
    columns["isNegative"] = np.asarray(sky["flux"]) < 0
    columns["psfFlux"] = np.asarray(sky["flux"], float)
    columns["psfFluxErr"] = np.abs(columns["psfFlux"]) / np.asarray(sky["snr"], float)
    return Table(columns)


def counts(quality, truth, rows):
    seen = quality.Detections(*(np.asarray(rows[name]) for name in ("x", "y", "isNegative")))
    return quality.counts(truth, seen)


def test_the_truth_itself_is_found_and_nothing_in_it_is_false(quality, trails):
    result = counts(quality, trails, told(trails))
    assert (result["found"], result["false"], result["false_on_artefact"]) == (result["asked"], 0, 0)


def test_a_row_with_the_wrong_sign_finds_nothing(quality, trails):
    rows = told(trails)
    rows["isNegative"] = ~rows["isNegative"]
    assert counts(quality, trails, rows)["found"] == 0


def test_a_row_near_nothing_is_false(quality, trails):
    rows = told(trails)[:1]
    yy, xx = np.mgrid[20:236:4, 20:236:4].reshape(2, -1).astype(float)
    far = int(trails.distance(xx, yy).min(0).argmax())
    rows["x"], rows["y"] = xx[far], yy[far]
    assert counts(quality, trails, rows)["false"] == 1


def test_a_row_on_a_streak_is_counted_apart(quality, tmp_path):
    truth = quality.Truth.read(pair_of("streak", tmp_path))
    on = np.flatnonzero(truth.mask & quality.ARTEFACT)
    y, x = (axis.astype(float) for axis in np.divmod(on, 256))
    alone = int(truth.distance(x, y).min(0).argmax())
    rows = Table({"x": x[[alone]], "y": y[[alone]], "isNegative": [False]})
    result = counts(quality, truth, rows)
    assert (result["false"], result["false_on_artefact"]) == (0, 1)


def test_a_trail_told_in_two_halves_is_two_detections(quality, trails):
    rows = told(trails)
    once = quality.trails(trails, rows)
    assert once["detections"] == [1, 1, 1]
    np.testing.assert_allclose([*once["length"], *once["angle"]], 0, atol=1e-6)
    longest = int(np.argmax(rows["trailLength"]))
    half = np.radians(rows["trailAngle"][longest]), rows["trailLength"][longest] / 2
    rows.add_row(rows[longest])
    rows["x"][-1] += half[1] * np.cos(half[0])
    rows["y"][-1] += half[1] * np.sin(half[0])
    assert sorted(quality.trails(trails, rows)["detections"]) == [1, 1, 2]


def test_bright_trails_are_measured_well_on_the_perfect_difference(quality, trails):
    result = quality.trails(trails, told(trails)[:0])
    assert np.isnan(result["length"]).all()
    assert len(result["perfect_length"]) == 3
    assert np.abs(result["perfect_length"]).max() < 0.15  # at 20 sigma: 6 % for 12 px, 1 % for 40
    assert np.abs(result["perfect_angle"]).max() < 10  # 3 degrees for 12 px, less for longer ones


def test_the_noise_bounds_a_trails_length_and_angle_by_its_signal(quality, trails):
    change = int(np.flatnonzero(np.asarray(trails.sky["trailLength"]) >= 5)[0])
    cut, true = quality._cut(trails, change), trails.sky[change]
    length, angle = quality._bound(cut, true)
    halved = quality._bound(dataclasses.replace(cut, weight=cut.weight / 4), true)
    assert halved == (pytest.approx(2 * length), pytest.approx(2 * angle))


def test_true_fluxes_have_neither_bias_nor_pull(quality, trails):
    result = quality.fluxes(trails, told(trails))
    assert result["ratio"]
    assert not np.any(result["ratio"])
    assert not np.any(result["pull"])


def test_the_perfect_template_shows_what_is_bright_and_little_else(quality, trails):
    result = quality.counts(trails, quality.perfect_detections(trails))
    missed = trails.sky["snr"][result["missed_rows"]]
    assert (np.asarray(missed) < 7).all()  # 5 sigma and twice the noise
    assert result["false"] <= 1  # 65,536 px hold 0.004 noise peaks of 5 sigma, and rays escape their mask
