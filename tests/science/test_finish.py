"""The scatter that a difference is scaled by."""

import numpy as np
import pytest

from gpudiff.science.finish import _scatters


def test_a_cutout_that_a_bright_source_fills_has_a_scatter_all_the_same():
    score = np.random.default_rng(1).normal(0, 1.5, (32, 32)).astype(np.float32)
    y, x = np.mgrid[:32, :32] - 16
    score += 150 * np.exp(-(y**2 + x**2) / 18)
    blank = np.hypot(y, x) > 12  # of 1,024 pixels 580, and fewer than 500 of them 6 px from what is detected
    # 580 pixels, clipped: 3 %, three sigma; light that is too faint to be seen adds little.
    assert _scatters(score, score, blank, 6.0) == pytest.approx((1.5, 1.5), rel=0.1)
