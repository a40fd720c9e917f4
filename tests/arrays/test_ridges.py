"""Light beside a detection, and along a direction."""

import numpy as np
import pytest

from gpudiff.arrays.ridges import along, beside

FWHM = 4.0
AT = np.array([60]), np.array([60])


def test_a_line_through_a_detection_is_a_ridge_at_its_angle():
    y, x = np.mgrid[:121, :121]
    score = np.where(np.abs((y - 60) - (x - 60)) < 3, 8.0, 0).astype(np.float32)
    found = beside(score, *AT, FWHM)
    assert found.ridge[0] == pytest.approx(8)
    assert found.angle[0] == pytest.approx(45)
    assert found.patch[0] == 0


def test_a_point_alone_has_nothing_beside_it():
    score = np.zeros((121, 121), np.float32)
    score[59:62, 59:62] = 20
    found = beside(score, *AT, FWHM)
    assert (found.ridge[0], found.patch[0]) == (0, 0)


def test_light_on_one_side_only_is_no_ridge():
    score = np.zeros((121, 121), np.float32)
    score[60, 60:] = 9
    assert beside(score, *AT, FWHM).ridge[0] == 0


def test_a_halo_is_a_patch_and_has_the_detections_sign():
    score = np.full((121, 121), -3.0, np.float32)
    score[60, 60] = -9
    assert beside(score, *AT, FWHM).patch[0] == pytest.approx(3)
    score[60, 60] = 9
    assert beside(score, *AT, FWHM).patch[0] == pytest.approx(-3)


def test_beyond_the_image_there_is_no_light():
    score = np.full((40, 40), 5.0, np.float32)
    corner = np.array([0]), np.array([0])
    assert beside(score, *corner, FWHM).ridge[0] == 0


def test_along_means_each_side_by_itself():
    score = np.zeros((121, 121), np.float32)
    score[60, 70:90] = 6
    sides = along(score, *AT, np.array([0.0]), np.array([12.0]), np.array([25.0]))
    assert sides.tolist() == [[6.0, 0.0]]
