"""What a difference hands on: its DIASources with their cutouts, PSF and provenance."""

import dataclasses

import numpy as np

from gpudiff.arrays.cutouts import cutouts
from gpudiff.model.batch import DetectionBatch
from gpudiff.model.clock import tai_now
from gpudiff.model.frame import Difference
from gpudiff.model.tables import Table
from gpudiff.science.own_planes import CENTRE, cut_mask, own_planes


def batch(
    difference: Difference, sources: Table, cutout_size: int, received_tai: float, all_planes: bool = False
) -> DetectionBatch:
    """All DIASources of the difference, perhaps none.

    The cutouts show the difference, the science image less its sky, and the template as it was subtracted;
    variance, mask and PSF are the difference's: they hold what is known of the other two.

    cutout_size : odd, px; received_tai : when the frame had arrived, MJD TAI
    all_planes : whether science and template have planes of their own: half a gigabyte more in a visit of 10,000
    """
    frame = difference.science.frame
    planes = (difference.image, difference.science.image, difference.matched)
    x, y = sources["x"], sources["y"]
    stamps = np.stack([cutouts(plane, x, y, cutout_size) for plane in planes], axis=1)
    return DetectionBatch(
        observation=frame.observation,
        sources=sources,
        cutouts=stamps,
        variance=cutouts(difference.variance, x, y, cutout_size),
        mask=cut_mask(difference.mask, x, y, cutout_size),
        psf=difference.psf[CENTRE],
        wcs=frame.wcs,
        fingerprint=difference.fingerprint,
        steps=difference.steps,
        quality=dataclasses.asdict(difference.quality),
        unit=frame.unit,
        zero_point=frame.zero_point,
        received_tai=received_tai,
        sent_tai=tai_now(),
        own=own_planes(difference, stamps[:, 1:], x, y) if all_planes else None,
    )
