"""A simulated night: its options, its camera, the weather of each exposure, and the schema of its truth."""

import math
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any

import numpy as np

from gpudiff.model.errors import BadConfiguration
from gpudiff.model.tables import Column

SMALLEST_DETECTOR = 128
"""px a side: below it there is no room for stars enough to match two PSFs."""

_C = Column
TRUTH: tuple[Column, ...] = (
    _C("objectId", "i8", "", "the same number in every visit; 0 for what is not of the sky"),
    _C("kind", "U10", "", "transient, vanished, variable, moving; cosmic-ray, hot-pixel, streak, glint"),
    _C("place", "U9", "", "field, host, near-star, or '' where it does not apply"),
    _C("visit", "i8", "", "visit number"),
    _C("detector", "i2", "", "detector number"),
    _C("midpointMjdTai", "f8", "d", "middle of the exposure, MJD TAI"),
    _C("x", "f8", "pixel", "where it lies on this frame; first pixel's centre is 0"),
    _C("y", "f8", "pixel", "where it lies on this frame; first pixel's centre is 0"),
    _C("ra", "f8", "deg", "true right ascension, ICRS"),
    _C("dec", "f8", "deg", "true declination, ICRS"),
    _C("flux", "f8", "adu", "science minus template, in this frame's units; negative: fading"),
    _C("snr", "f8", "", "signal to noise of a perfect matched filter on this frame with a noiseless template"),
    _C("usable", "f4", "", "share of the PSF's weight that falls on pixels neither bad nor saturated"),
    _C("trailLength", "f4", "pixel", "motion during the exposure"),
    _C("trailAngle", "f4", "deg", "its direction, from +x to +y"),
)


@dataclass(frozen=True)
class Detector:
    """One sensor: its size in pixels, its place in the focal plane, its electronics.

    x_mm, y_mm : centre of the sensor in the focal plane
    yaw_rad : rotation of its pixel axes against the focal plane's
    gain : electrons per ADU; read_noise : electrons; saturation : ADU
    """

    number: int
    name: str
    width: int
    height: int
    x_mm: float
    y_mm: float
    pixel_mm: float = 0.01
    yaw_rad: float = 0.0
    gain: float = 1.6
    read_noise: float = 6.0
    saturation: float = 60000.0

    def to_focal_plane(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Focal-plane position, mm, of 0-based pixel positions."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        dx = (np.asarray(x, float) - (self.width - 1) / 2) * self.pixel_mm
        dy = (np.asarray(y, float) - (self.height - 1) / 2) * self.pixel_mm
        return self.x_mm + c * dx - s * dy, self.y_mm + s * dx + c * dy

    def megapixels(self, border: int = 0) -> float:
        """Area in units of 1024 x 1024 px, with a border of so many px on each side."""
        return (self.width + 2 * border) * (self.height + 2 * border) / 1048576


@dataclass(frozen=True)
class FocalPlane:
    """The sensors of a camera."""

    detectors: tuple[Detector, ...]

    @property
    def radius_mm(self) -> float:
        """Half the width of the square round the optical axis that holds every sensor."""
        return max(
            max(abs(d.x_mm), abs(d.y_mm)) + 0.5 * max(d.width, d.height) * d.pixel_mm for d in self.detectors
        )


def grid(count: int, size: int, gap: int = 50) -> FocalPlane:
    """`count` square sensors of `size` px in rows, as near to a square as can be, `gap` px apart.

    Raises BadConfiguration for fewer than 1 or more than 256 sensors, or ones smaller than 128 px.
    """
    if not 1 <= count <= 256:
        raise BadConfiguration(f"detectors: expected 1 to 256, got {count}")
    check_size(size)
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    pitch = (size + gap) * 0.01
    return FocalPlane(
        tuple(
            Detector(n, f"R{row}_S{column}", size, size, x * pitch, y * pitch)
            for n in range(count)
            for row, column in [divmod(n, columns)]
            for x, y in [(column - (columns - 1) / 2, row - (rows - 1) / 2)]
        )
    )


def check_size(size: int) -> None:
    """Raises BadConfiguration for a detector side that is too small or absurdly large."""
    if not SMALLEST_DETECTOR <= size <= 16384:
        raise BadConfiguration(f"size: expected {SMALLEST_DETECTOR} to 16384 px, got {size}")


def _option(default: Any, meaning: str, *ends: float) -> Any:
    """An option of the night: its default, what it is, and its least and greatest value where it is a number."""
    return field(default=default, metadata={"meaning": meaning, "ends": ends})


@dataclass(frozen=True)
class Night:
    """What to simulate.  Counts of things that change are per detector, densities per 1024 x 1024 px.

    Fluxes, sky and zero point are those of one exposure: `zero_point` is the AB magnitude that gives one
    electron, `sky` electrons a pixel.  Seeing and pixel scale are arcsec, angles degrees, times seconds.
    Raises BadConfiguration, naming the option, for a value that cannot be.
    """

    visits: int = _option(3, "exposures of the whole focal plane", 1, 999)
    fields: int = _option(1, "fields that take turns", 1, 999)
    seed: int = _option(1, "everything random follows from it", 0, 2**63)
    date: int = _option(20261122, "YYYYMMDD, the start of the visit numbers", 10000101, 99991231)
    band: str = _option("r", "name of the filter")
    exposure: float = _option(30.0, "seconds", 0.1, 3600)
    interval: float = _option(1200.0, "seconds from one visit to the next", 1, 86400)
    ra: float = _option(150.0, "degrees, of the first field", 0, 360)
    dec: float = _option(2.2, "degrees, of the first field", -90, 90)
    rotation: float = _option(0.0, "degrees, of the camera", -360, 360)
    pixel_scale: float = _option(0.2, "arcsec", 0.01, 10)
    epochs: int = _option(5, "earlier exposures averaged in each template", 1, 100)
    seeing: float = _option(0.85, "arcsec, median FWHM of the visits", 0.05, 60)
    template_seeing: float = _option(0.72, "arcsec, median FWHM of the templates' epochs", 0.05, 60)
    seeing_spread: float = _option(0.12, "relative, from visit to visit", 0, 0.5)
    seeing_variation: float = _option(0.08, "relative, over the focal plane", 0, 0.3)
    moffat_beta: float = _option(3.5, "wings of the PSF; larger is steeper", 2, 10)
    sky: float = _option(700.0, "electrons a pixel and exposure", 1, 50000)
    sky_gradient: float = _option(0.06, "relative, over the focal plane", 0, 0.5)
    zero_point: float = _option(32.0, "AB magnitude that gives one electron an exposure", 0, 50)
    registration: float = _option(0.05, "px, residual registration error", 0, 5)
    stars: float = _option(1200.0, "per 1024 x 1024 px", 0, 100000)
    galaxies: float = _option(250.0, "per 1024 x 1024 px", 0, 20000)
    cosmic_rays: float = _option(20.0, "per 1024 x 1024 px and exposure", 0, 10000)
    bad_columns: int = _option(2, "dead columns per detector", 0, 1000)
    transients: int = _option(10, "new sources per detector, there in every visit", 0, 10000)
    vanished: int = _option(2, "sources per detector that only the template shows", 0, 10000)
    variables: int = _option(4, "variable stars per detector", 0, 10000)
    moving: int = _option(2, "asteroids per detector", 0, 10000)
    snr_low: float = _option(4.0, "faintest change, signal to noise in median conditions", 0.1, 10000)
    snr_high: float = _option(80.0, "brightest change", 0.1, 10000)
    mask_cosmic_rays: bool = _option(False, "give the cosmic rays in the mask")

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadConfiguration(f"{name}: expected {low:g} to {high:g}, got {value:g}")
        if self.snr_high < self.snr_low:
            raise BadConfiguration(f"snr_high: expected at least {self.snr_low:g}, got {self.snr_high:g}")
        if not (self.band and self.band.isalnum() and len(self.band) <= 8):
            raise BadConfiguration(f"band: expected a name of 1 to 8 letters or digits, got {self.band!r}")
        self.first_mjd()

    def first_mjd(self) -> float:
        """Start of the first exposure, MJD TAI: 1.5 hours into the day after the night's date."""
        day = str(self.date)
        try:
            ordinal = date(int(day[:4]), int(day[4:6]), int(day[6:])).toordinal()
        except ValueError:
            raise BadConfiguration(f"date: expected YYYYMMDD, got {day}") from None
        return ordinal - 678576 + 1.0625


RANGES: dict[str, tuple[float, float]] = {
    one.name: one.metadata["ends"] for one in fields(Night) if one.metadata["ends"]
}
"""Least and greatest value of each option that is a number."""


@dataclass(frozen=True)
class Weather:
    """What one exposure does to the sky: each part a polynomial over the focal plane, (u, v) in [-1, 1].

    fwhm : px at the centre; fwhm_terms : relative, of u, v, u^2 + v^2 - 2/3
    ellipticity : (2, 4), e1 and e2 of 1, u, v, uv
    transparency : electrons against the nominal; transparency_terms : relative, of u, v, uv
    sky : electrons a pixel; sky_terms : relative, of u, v, u^2 + v^2
    shift : (2, 3 or 6) px, registration error in x and y of 1, u, v (and u^2, uv, v^2)
    """

    fwhm: float
    fwhm_terms: np.ndarray
    ellipticity: np.ndarray
    transparency: float
    transparency_terms: np.ndarray
    sky: float
    sky_terms: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class Visit:
    """One exposure of the whole focal plane."""

    number: int
    field: int
    ra: float
    dec: float
    mjd_start: float
    phase: float
    """Place in the night, 0 for the first visit, 1 for the last: the argument of the light curves."""
    weather: Weather


@dataclass(frozen=True)
class Catalogue:
    """The static sky that one detector sees of one field; columns as arrays.

    stars : x, y, flux (electrons per nominal exposure)
    galaxies : x, y, flux, radius (half light, px), axis_ratio, angle (rad), index (Sersic, 1 or 4)
    changes : objectId, kind, place, x, y, flux, slope, rate_x, rate_y (px / s, zero but for moving ones),
        star (row in `stars` of a variable, else -1); flux is the change, negative for fading
    """

    stars: dict[str, np.ndarray]
    galaxies: dict[str, np.ndarray]
    changes: dict[str, np.ndarray]
