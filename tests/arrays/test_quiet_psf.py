"""Noise in a PSF's wings."""

import numpy as np
import pytest

from gpudiff.arrays.quiet_psf import quiet_wings

AXIS = np.arange(-24, 25)
RADIUS2 = AXIS[:, None] ** 2 + 1.3 * AXIS**2
MOFFAT = (1 + RADIUS2 / 12) ** -3.0
NOISE = np.random.default_rng(3).normal(0, 1e-3, MOFFAT.shape)
WINGS = (RADIUS2 > 12**2) & (RADIUS2 < 20**2)


def test_smooth_elongated_wings_stay():
    quiet = quiet_wings(MOFFAT[None], 4.0)[0]
    assert np.abs(quiet - MOFFAT).max() < 2e-3 * MOFFAT.max()  # straight lines between the rings


def test_most_of_the_noise_of_the_wings_goes():
    left = quiet_wings(MOFFAT[None] + NOISE, 4.0)[0] - quiet_wings(MOFFAT[None], 4.0)[0]
    assert left[WINGS].std() < 0.4 * NOISE[WINGS].std()  # 5 numbers for a ring of 100 pixels or more


def test_the_core_is_left_alone():
    quiet = quiet_wings(MOFFAT[None] + NOISE, 4.0)[0]
    core = np.hypot(AXIS[:, None], AXIS) < 4
    assert quiet[core] == pytest.approx((MOFFAT + NOISE)[core], abs=0)
