"""What a difference hands on: its DIASources with their cutouts, PSF and provenance."""

import dataclasses

import numpy as np

from gpudiff.arrays.cutouts import cutouts
from gpudiff.model.batch import DetectionBatch
from gpudiff.model.clock import tai_now
from gpudiff.model.frame import Difference
from gpudiff.model.mask import bit
from gpudiff.model.tables import Table

CENTRE = 4
"""Of the 3 x 3 field positions at which a difference's PSF is kept."""


def batch(difference: Difference, sources: Table, cutout_size: int, received_tai: float) -> DetectionBatch:
    """All DIASources of the difference, perhaps none.

    The cutouts show the difference, the science image less its sky, and the template as it was subtracted;
    variance and mask are the difference's alone: they hold what is known of the other two, and planes for each
    would add half a gigabyte to a visit of 10,000 detections.

    cutout_size : odd, px; received_tai : when the frame had arrived, MJD TAI
    """
    frame = difference.science.frame
    planes = (difference.image, difference.science.image, difference.matched)
    x, y = sources["x"], sources["y"]
    return DetectionBatch(
        observation=frame.observation,
        sources=sources,
        cutouts=np.stack([cutouts(plane, x, y, cutout_size) for plane in planes], axis=1),
        variance=cutouts(difference.variance, x, y, cutout_size),
        mask=_mask(difference.mask, x, y, cutout_size),
        psf=difference.psf[CENTRE],
        wcs=frame.wcs,
        fingerprint=difference.fingerprint,
        steps=difference.steps,
        quality=dataclasses.asdict(difference.quality),
        unit=frame.unit,
        zero_point=frame.zero_point,
        received_tai=received_tai,
        sent_tai=tai_now(),
    )


def _mask(mask: np.ndarray, x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """(N, size, size) uint16 bits round each position, NO_DATA beyond the image; float32 holds them exactly."""
    cut = cutouts(mask, x, y, size)
    return np.where(np.isnan(cut), np.float32(bit("NO_DATA")), cut).astype(np.uint16)
