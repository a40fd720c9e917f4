"""A sky of photons and read noise, as frames and what `calibrate` makes of them."""

import numpy as np
import pytest

from gpudiff.model.config import Configuration
from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.science.calibrate import calibrate

SKY, GAIN, READ = 300.0, 2.0, 5.0
VARIANCE = SKY / GAIN + (READ / GAIN) ** 2
CONFIGURATION = Configuration()


def pixels(shape=(256, 256), seed=1):
    """Sky with photon and read noise."""
    rng = np.random.default_rng(seed)
    return ((rng.poisson(SKY * GAIN, shape) + rng.normal(0, READ, shape)) / GAIN).astype(np.float32)


def frame(image=None, **values):
    image = pixels() if image is None else image
    values = {"gain": GAIN, "read_noise": READ} | values
    return Frame("a.fits", Observation(FrameId(1, 0, 2)), image, **values)


def sky_variance(exposure):
    height, width = exposure.shape
    return exposure.sky_variance.cut(0, height, 0, width)


def star(shape=(256, 256), y=120, x=130, flux=2e5, sigma=2.0):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return flux * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)


def refused(error, match, given, configuration=CONFIGURATION):
    with pytest.raises(error, match=match) as caught:
        calibrate(given, configuration)
    message = str(caught.value)
    assert message.startswith("a.fits: ")
    assert "\n" not in message
