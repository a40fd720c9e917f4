"""Light beside a detection, and along a direction."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gpudiff.arrays.ridges import along, before_the_edge, beside, flanks, patch_beside, scatter_round

FWHM = 4.0
AT = np.array([60]), np.array([60])


def test_a_line_through_a_detection_is_a_ridge_at_its_angle():
    y, x = np.mgrid[:121, :121]
    score = np.where(np.abs((y - 60) - (x - 60)) < 3, 8.0, 1e-6).astype(np.float32)
    found = beside(score, *AT, FWHM)
    assert found.ridge[0] == pytest.approx(8)
    assert found.angle[0] == pytest.approx(45)
    assert found.patch[0] == pytest.approx(0, abs=1e-5)


def test_a_point_alone_has_nothing_beside_it():
    score = np.zeros((121, 121), np.float32)
    score[59:62, 59:62] = 20
    found = beside(score, *AT, FWHM)
    assert (found.ridge[0], found.patch[0]) == (0, 0)


def test_light_on_one_side_only_is_no_ridge():
    score = np.full((121, 121), 1e-6, np.float32)
    score[60, 60:] = 9
    assert beside(score, *AT, FWHM).ridge[0] == pytest.approx(0, abs=1e-5)


def test_a_halo_is_a_patch_and_has_the_detections_sign():
    score = np.full((121, 121), -3.0, np.float32)
    score[60, 60] = -9
    assert beside(score, *AT, FWHM).patch[0] == pytest.approx(3)
    score[60, 60] = 9
    assert beside(score, *AT, FWHM).patch[0] == pytest.approx(-3)


@pytest.mark.parametrize(("stop", "ridge"), [(40, 5), (16, 0)])
def test_at_the_edge_a_ridge_goes_on_inward_for_six_fwhm(stop, ridge):
    score = np.full((40, 40), 1e-6, np.float32)
    score[0, :stop] = 5
    corner = np.array([0]), np.array([0])
    assert beside(score, *corner, FWHM).ridge[0] == pytest.approx(ridge, abs=1e-5)


def test_a_line_that_leaves_the_image_is_as_bright_as_what_is_seen_of_it():
    y, x = np.mgrid[:121, :121]
    score = np.where(np.abs((y - 9) - (x - 60)) < 3, 8.0, 1e-6).astype(np.float32)
    found = beside(score, np.array([9]), np.array([60]), FWHM)
    assert (found.ridge[0], found.angle[0]) == (pytest.approx(8), pytest.approx(45))


def test_along_means_each_side_by_itself():
    score = np.zeros((121, 121), np.float32)
    score[60, 70:90] = 6
    sides = along(score, *AT, np.array([0.0]), np.array([12.0]), np.array([25.0]))
    assert sides.tolist() == [[6.0, 0.0]]


def test_before_the_edge_what_little_there_is_counts_and_nothing_is_nan():
    score = np.full((121, 121), 1.0, np.float32)
    score[60, 118:] = 6

    def ends(near, far):
        return before_the_edge(score, *AT, np.zeros(1), np.array([near]), np.array([far]))[0].tolist()

    assert ends(58.0, 70.0) == [6, 1]
    assert np.isnan(ends(65.0, 70.0)).all()
    assert ends(40.0, 50.0) == [0, 0]  # no side leaves the image


@pytest.mark.parametrize("light", [-3.0, 3.0])
def test_flanks_see_light_of_either_sign_on_one_side_of_a_trail(light):
    score = np.full((121, 121), 1e-6, np.float32)
    score[57:64, 45:76] = 20
    trail = (*AT, np.array([0.0]), np.array([30.0]), FWHM)
    assert flanks(score, *trail)[0][0] == pytest.approx(0, abs=1e-5)
    score[66:80] = light
    size, error = flanks(score, *trail)
    assert size[0] == pytest.approx(3)
    assert error[0] == pytest.approx(0.48, abs=0.02)  # 1.25 / sqrt(30 / 5.2 x 1.5 / 1.3)


def test_a_trails_own_light_is_no_patch_beside_it():
    y, x = np.mgrid[:121, :121].astype(np.float32)
    score = 0.01 * (x - y)  # as much of either sign: its median is 0
    score[np.abs(x - y) < 1.4 * FWHM] += 20
    assert beside(score, *AT, FWHM).patch[0] > 0.05
    assert patch_beside(score, *AT, np.array([45.0]), FWHM)[0] == pytest.approx(0, abs=0.02)  # a pixel's step


@pytest.mark.parametrize("length", [0.0, 30.0])
def test_the_scatter_round_a_detection_is_that_of_the_noise_and_not_its_own(length):
    noise = gaussian_filter(np.random.default_rng(1).standard_normal((760, 760)), FWHM / 2.355)
    score = (noise / noise.std()).astype(np.float32)
    y, x = (plane.ravel() for plane in np.mgrid[60:701:80, 60:701:80])
    for row, column in zip(y, x, strict=True):
        score[row - 3 : row + 4, column - 3 - int(length / 2) : column + 4 + int(length / 2)] = 9
    found = scatter_round(score, y, x, np.zeros(len(y)), np.full(len(y), length), FWHM)
    # 81 places of 1 +- 0.08 each.
    assert np.median(found) == pytest.approx(1, abs=0.05)
    assert found.max() < 1.3


def test_light_of_both_signs_round_a_detection_is_scatter():
    y, x = np.mgrid[:121, :121]
    score = np.where((y - 60) * (x - 60) > 0, 2.0, -2.0).astype(np.float32)
    found = scatter_round(score, *AT, np.zeros(1), np.zeros(1), FWHM)
    # 0.5 % for the clipping, and 7 % that noise of this size would have lost with its loudest sector.
    assert found[0] == pytest.approx(2 / 0.935, abs=0.01)


def test_one_bright_neighbour_is_no_scatter():
    noise = gaussian_filter(np.random.default_rng(2).standard_normal((760, 760)), FWHM / 2.355)
    y, x = (plane.ravel() for plane in np.mgrid[60:701:80, 60:701:80])
    light = np.zeros(noise.shape)
    light[y + 14, x + 9] = 1
    light = gaussian_filter(light, FWHM / 2.355 * 2**0.5)
    score = (noise / noise.std() + 30 * light / light.max()).astype(np.float32)
    found = scatter_round(score, y, x, np.zeros(len(y)), np.zeros(len(y)), FWHM)
    assert found.mean() < 1.08  # 1.05; it was 1.2 with the neighbour
