"""What pixel positions of a detector mean in a simulated exposure: PSF, transparency, shift, sky position."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpudiff.model.scene import Detector, Night, Weather


@dataclass(frozen=True)
class View:
    """A detector of a focal plane under one exposure's weather: what pixel positions mean."""

    detector: Detector
    radius_mm: float
    weather: Weather
    turn_rad: float = 0.0
    """Angle from the detector's +x to that of the grid that is drawn on."""

    def normal(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """(u, v) in the focal plane, about -1 to 1."""
        a, b = self.detector.to_focal_plane(x, y)
        return a / self.radius_mm, b / self.radius_mm

    def psf_shape(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(N, 3) px^2 of the PSF, as arrays.render takes it."""
        u, v = self.normal(x, y)
        one, two, three = self.weather.fwhm_terms
        fwhm = self.weather.fwhm * (1 + one * u + two * v + three * (u * u + v * v - 2 / 3))
        e1, e2 = self.weather.ellipticity @ np.stack([np.ones_like(u), u, v, u * v])
        return (fwhm**2 * np.stack([1 + e1, 1 - e1, e2])).T

    def transparency(self, x: Any, y: Any) -> np.ndarray:
        """Electrons against the nominal exposure's."""
        u, v = self.normal(x, y)
        one, two, three = self.weather.transparency_terms
        return self.weather.transparency * (1 + one * u + two * v + three * u * v)

    def moved(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Where a source that belongs at (x, y) lies: the registration error added."""
        u, v = self.normal(x, y)
        terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v])
        dx, dy = self.weather.shift @ terms[: self.weather.shift.shape[1]]
        return x + dx, y + dy

    def sky(self) -> np.ndarray:
        """(H, W) float32 electrons."""
        y, x = np.ogrid[: self.detector.height, : self.detector.width]
        u, v = self.normal(x.astype(np.float32), y.astype(np.float32))
        one, two, three = self.weather.sky_terms
        return (self.weather.sky * (1 + one * u + two * v + three * (u * u + v * v))).astype(np.float32)


def wcs(night: Night, ra: float, dec: float, detector: Detector) -> dict[str, Any]:
    """FITS keywords of a detector: one tangent plane at the boresight (Calabretta & Greisen 2002).

    At rotation 0 the focal plane's +y points north and +x west; the rotation turns it from north to east.
    """
    angle = math.radians(night.rotation) + detector.yaw_rad
    c, s, scale = math.cos(angle), math.sin(angle), night.pixel_scale / 3600
    cos, sin = math.cos(detector.yaw_rad), math.sin(detector.yaw_rad)
    dx = (cos * detector.x_mm + sin * detector.y_mm) / detector.pixel_mm
    dy = (cos * detector.y_mm - sin * detector.x_mm) / detector.pixel_mm
    return {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "RADESYS": "ICRS",
        "CRVAL1": ra,
        "CRVAL2": dec,
        "CRPIX1": (detector.width + 1) / 2 - dx,
        "CRPIX2": (detector.height + 1) / 2 - dy,
        "CD1_1": -scale * c,
        "CD1_2": scale * s,
        "CD2_1": scale * s,
        "CD2_2": scale * c,
    }
