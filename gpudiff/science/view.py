"""What pixel positions of a detector mean in a simulated exposure: PSF, transparency, shift, sky position."""

import math
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class OwnGrid(View):
    """A view drawn on a square grid of its own that covers the detector, turned and distorted against it.

    The distortion is a SIP polynomial (Shupe et al. 2005, ASP Conf. 347 491) that moves a source by
    `distortion` px where the middle of an edge of the detector lies.  Sources are named by their place on the
    detector, as in any view.
    """

    distortion: float = 0.0

    @property
    def side(self) -> int:
        """px, of the grid."""
        longest = max(self.detector.width, self.detector.height)
        return math.ceil(longest * (1 + abs(math.sin(self.turn_rad))) + 4 * self.distortion) + 8

    @property
    def terms(self) -> dict[str, float]:
        """SIP coefficients: of the grid's pixels to undistorted ones."""
        half = max(self.detector.width, self.detector.height) / 2
        two, three = self.distortion / half**2, self.distortion / half**3
        return {
            "A_2_0": 0.6 * two,
            "A_1_1": -0.3 * two,
            "A_3_0": 0.4 * three,
            "A_1_2": 0.4 * three,
            "B_0_2": -0.6 * two,
            "B_1_1": 0.3 * two,
            "B_0_3": 0.4 * three,
            "B_2_1": 0.4 * three,
        }

    def moved(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Where a source at (x, y) of the detector lies on the grid."""
        x, y = super().moved(x, y)
        dx, dy = x - (self.detector.width - 1) / 2, y - (self.detector.height - 1) / 2
        c, s = math.cos(self.turn_rad), math.sin(self.turn_rad)
        wanted_x, wanted_y = c * dx + s * dy, c * dy - s * dx
        u, v = wanted_x, wanted_y
        for _ in range(12):  # the distortion's slope is a per cent: each round gains two digits
            bent_x, bent_y = self._bend(u, v)
            u, v = wanted_x - bent_x, wanted_y - bent_y
        return u + (self.side - 1) / 2, v + (self.side - 1) / 2

    def _bend(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        out = {"A": np.zeros_like(u), "B": np.zeros_like(u)}
        for name, value in self.terms.items():
            axis, p, q = name.split("_")
            out[axis] = out[axis] + value * u ** int(p) * v ** int(q)
        return out["A"], out["B"]

    def sky(self) -> np.ndarray:
        """(side, side) float32 electrons."""
        whole = replace(self.detector, width=self.side, height=self.side)
        return View(whole, self.radius_mm, self.weather).sky()

    def wcs(self, cards: dict[str, Any]) -> dict[str, Any]:
        """FITS keywords of the grid, from those of the detector it covers."""
        c, s = math.cos(self.turn_rad), math.sin(self.turn_rad)
        cd = np.array([[cards["CD1_1"], cards["CD1_2"]], [cards["CD2_1"], cards["CD2_2"]]])
        turned = cd @ np.array([[c, -s], [s, c]])
        return {
            **cards,
            "CTYPE1": "RA---TAN-SIP",
            "CTYPE2": "DEC--TAN-SIP",
            "CRPIX1": (self.side + 1) / 2,
            "CRPIX2": (self.side + 1) / 2,
            **{f"CD{i + 1}_{j + 1}": float(turned[i, j]) for i in range(2) for j in range(2)},
            "A_ORDER": 3,
            "B_ORDER": 3,
            **self.terms,
        }


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
