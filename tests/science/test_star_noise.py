"""Noise near stars that photons do not explain."""

import numpy as np
import pytest

from gpudiff.model.kernel import PsfModel
from gpudiff.science.star_noise import Surface, allow_for_stars

AXIS = np.arange(-15, 16)
PSF = np.exp(-0.5 * (AXIS[:, None] ** 2 + AXIS**2) / 1.9**2)
PSF /= PSF.sum()
SHAPE = (400, 400)


def surface(error: float, seed: int = 1, move: float = 0.0) -> tuple[Surface, np.ndarray, np.ndarray]:
    """A difference of 49 stars of 100 to 1000 sigma, each with its own error, and their places."""
    rng = np.random.default_rng(seed)
    y, x = (a.ravel() for a in np.mgrid[32:400:53, 32:400:53])
    matched, difference = np.zeros(SHAPE), rng.normal(size=SHAPE)
    for j, i, signal in zip(y, x, 10 ** rng.uniform(2, 3, len(y)), strict=True):
        light = signal / np.sqrt((PSF**2).sum()) * PSF
        box = slice(j - 15, j + 16), slice(i - 15, i + 16)
        matched[box] += light
        difference[box] += error * rng.normal() * light + move * rng.normal() * np.gradient(light, axis=0)
    size = (432, 432)
    kernel = np.fft.rfft2(np.roll(np.pad(PSF, ((0, 401), (0, 401))), (-15, -15), (0, 1)), size)
    score = np.fft.irfft2(np.fft.rfft2(difference, size) * kernel, size)[:400, :400] / np.sqrt((PSF**2).sum())
    return (
        Surface(
            score.astype(np.float32),
            np.ones(SHAPE, np.float32),
            matched.astype(np.float32),
            np.zeros(SHAPE, bool),
            PsfModel(PSF[None], 0, SHAPE),
            4.5,
        ),
        y,
        x,
    )


@pytest.mark.parametrize(("error", "move"), [(0.02, 0.0), (0.0, 0.05)])
def test_the_score_at_stars_becomes_unit_normal(error, move):
    made, y, x = surface(error, move=move)
    at = made.score[y - 1, x].copy()
    left = allow_for_stars(made)
    assert at.std() > 2
    assert left.pixels > 49
    # 49 stars: 10 %; they are not all alike.
    assert made.score[y - 1, x].std() == pytest.approx(1, abs=0.25)
    assert made.variance[y - 1, x].max() > 4


def test_stars_without_an_error_and_blank_sky_are_left_as_they_are():
    made, _, _ = surface(0.0)
    before = made.score.copy()
    left = allow_for_stars(made)
    assert left.pixels == 0
    np.testing.assert_array_equal(made.score, before)
    spoilt, _, _ = surface(0.02)
    allow_for_stars(spoilt)
    assert (spoilt.variance[58:70, :] == 1).all()  # between the rows of stars


def test_without_stars_nothing_is_learned():
    made, _, _ = surface(0.0)
    made.matched[:] = 0
    assert allow_for_stars(made).pixels == 0
