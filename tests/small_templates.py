"""Small frames that stand for templates, by where they lie."""

import numpy as np
from batches import WCS

from gpudiff.model.frame import Frame, FrameId, Observation

DEGREES_A_PIXEL = 5.5e-5


def frame(detector=1, band="r", shape=(40, 50), shift=0.0, wcs=True, name="frame 9/0/1") -> Frame:
    """A frame `shift` pixels east of the others."""
    east = shift * DEGREES_A_PIXEL / np.cos(np.radians(30))
    cards = {**WCS, "CRVAL1": float(WCS["CRVAL1"] + east)} if wcs else {}
    return Frame(name, Observation(FrameId(9, 0, detector), band), np.ones(shape, np.float32), wcs=cards)
