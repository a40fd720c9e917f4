"""Footprints: where the detectors of a camera lie on the sky when it points somewhere."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpudiff.model.scene import FocalPlane
from gpudiff.model.sky import Sky

SAMPLES = 8
"""A footprint is judged on SAMPLES x SAMPLES points of the frame."""


@dataclass(frozen=True)
class Footprint:
    """A detector's place on the sky: what a template for it must cover.

    shape : (H, W), pixels; points : (ra, dec) of SAMPLES x SAMPLES pixels from corner to corner, rows of y outer,
        ICRS degrees; None without a WCS
    """

    detector: int
    band: str
    shape: tuple[int, int]
    points: tuple[np.ndarray, np.ndarray] | None

    @classmethod
    def of(cls, sky: Sky, shape: tuple[int, int], band: str, detector: int) -> "Footprint":
        """That of an image of this shape and WCS."""
        return cls(detector, band, shape, sky.to_sky(*sample_pixels(shape)) if sky else None)

    @property
    def corners(self) -> tuple[np.ndarray, np.ndarray]:
        """(ra, dec), (4,) each: of the pixels (0, 0), (W-1, 0), (0, H-1), (W-1, H-1)."""
        assert self.points is not None
        at = [0, SAMPLES - 1, SAMPLES * (SAMPLES - 1), SAMPLES * SAMPLES - 1]
        return self.points[0][at], self.points[1][at]


def sample_pixels(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(x, y), (SAMPLES * SAMPLES,) each, of the points that stand for an image."""
    height, width = shape
    y, x = np.meshgrid(np.linspace(0, height - 1, SAMPLES), np.linspace(0, width - 1, SAMPLES), indexing="ij")
    return x.ravel(), y.ravel()


def footprints(
    plane: FocalPlane,
    ra: float,
    dec: float,
    rotation_deg: float,
    arcsec_a_mm: float,
    band: str = "",
    numbers: tuple[int, ...] = (),
) -> list[Footprint]:
    """The footprint of each detector, or of those with the numbers given, in the focal plane's order.

    At rotation 0 the focal plane's +y points north and +x west; the rotation turns it from north to east.
    Distortion of the optics is left out: of Rubin's, 10 arcsec at the rim.
    """
    detectors = [one for one in plane.detectors if not numbers or one.number in numbers]
    made = []
    for one in detectors:
        shape = one.height, one.width
        x_mm, y_mm = one.to_focal_plane(*sample_pixels(shape))
        points = to_sky(x_mm * arcsec_a_mm / 3600, y_mm * arcsec_a_mm / 3600, ra, dec, rotation_deg)
        made.append(Footprint(one.number, band, shape, points))
    return made


def to_sky(x_deg: Any, y_deg: Any, ra: float, dec: float, rotation_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """ICRS degrees of places in a tangent plane, degrees from the boresight (Calabretta & Greisen 2002, 5.1.3)."""
    turn, tilt = np.radians(rotation_deg), np.radians(dec)
    c, s = np.cos(turn), np.sin(turn)
    xi, eta = np.radians(-c * x_deg + s * y_deg), np.radians(s * x_deg + c * y_deg)
    ahead = np.cos(tilt) - eta * np.sin(tilt)
    east = np.degrees(np.arctan2(xi, ahead))
    return (ra + east) % 360, np.degrees(np.arctan2(np.sin(tilt) + eta * np.cos(tilt), np.hypot(xi, ahead)))
