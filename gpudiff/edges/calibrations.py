"""Calibration store: a folder with one TOML file for each detector and span of time, and the FITS files it names.

    detector = 3
    from_mjd = 61000.0               # MJD TAI, included; both may be left out
    to_mjd = 61365.0                 # not included
    bias = "bias_3.fits"             # ADU above the overscan, trimmed; all three planes may be left out
    flat = {r = "flat_3_r.fits", g = "flat_3_g.fits"}  # by band, or one name for all bands
    defects = "defects_3.fits"       # not zero is bad

    [[amplifiers]]
    data = [0, 2048, 0, 4096]        # x0, x1, y0, y1 in the raw image, ends not included, first pixel (0, 0)
    overscan = [2048, 2080, 0, 4096] # or level = 1000.0
    at = [0, 0]                      # first pixel in the trimmed image; default: data's x0, y0
    gain = 1.6                       # electrons per ADU
    read_noise = 5.0                 # electrons
    saturation = 65000.0             # raw ADU
    linearity = [1.0, 1e-7]          # default [1.0]

Of several files that are valid the one with the latest from_mjd is taken.
"""

import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from gpudiff.edges.fits import read_frame
from gpudiff.model.calibration import Amplifier, Calibration
from gpudiff.model.errors import BadConfiguration, NoCalibration
from gpudiff.model.frame import Frame

Positive = Annotated[float, msgspec.Meta(gt=0)]
Pixel = Annotated[int, msgspec.Meta(ge=0, le=1 << 20)]
Box = tuple[Pixel, Pixel, Pixel, Pixel]


class _Amplifier(msgspec.Struct, forbid_unknown_fields=True):
    data: Box
    gain: Positive
    read_noise: Annotated[float, msgspec.Meta(ge=0)]
    saturation: Positive
    overscan: Box | None = None
    level: float = 0.0
    at: tuple[Pixel, Pixel] | None = None
    linearity: tuple[float, ...] = (1.0,)


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    detector: int
    amplifiers: Annotated[list[_Amplifier], msgspec.Meta(min_length=1)]
    from_mjd: float = float("-inf")
    to_mjd: float = float("inf")
    bias: str = ""
    flat: str | dict[str, str] = ""
    defects: str = ""


class CalibrationStore:
    """Finds the calibration of a raw frame; planes are read when first asked for and kept."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._made: dict[tuple[Path, str], Calibration] = {}

    def find(self, frame: Frame) -> Calibration:
        """The calibration for the frame's detector, date and band.

        Raises NoCalibration when none is valid, BadConfiguration for a file that is not as it should be, and
        what reading a FITS file raises.
        """
        observation = frame.observation
        when, detector = observation.midpoint_mjd_tai, observation.frame.detector
        valid = [
            (entry.from_mjd, path)
            for path, entry in self._entries.items()
            if entry.detector == detector and not (when < entry.from_mjd or when >= entry.to_mjd)
        ]
        if not valid:
            raise NoCalibration(
                f"{frame.name}: expected a calibration of detector {detector} valid at MJD {when:.5f}, "
                f"found none among the {len(self._entries)} in {self.folder}"
            )
        path = max(valid)[1]
        key = path, observation.band
        if key not in self._made:
            self._made[key] = self._make(path, self._entries[path], observation.band)
        return self._made[key]

    @cached_property
    def _entries(self) -> dict[Path, _Entry]:
        if not self.folder.is_dir():
            raise NoCalibration(f"{self.folder}: expected a folder of calibrations")
        return {path: _read_entry(path) for path in sorted(self.folder.glob("*.toml"))}

    def _make(self, path: Path, entry: _Entry, band: str) -> Calibration:
        flat = entry.flat if isinstance(entry.flat, str) else entry.flat.get(band)
        if flat is None:
            raise NoCalibration(f"{path}: expected a flat of band {band!r}, found {sorted(entry.flat)}")
        bias, response, defects = (self._plane(path, name) for name in (entry.bias, flat, entry.defects))
        return Calibration(
            str(path),
            tuple(_amplifier(one) for one in entry.amplifiers),
            bias,
            response,
            None if defects is None else defects != 0,
        )

    def _plane(self, path: Path, name: str) -> np.ndarray | None:
        """(H, W) float32 of the file that an entry names, below its own folder; None for ''."""
        if not name:
            return None
        file = (path.parent / name).resolve()
        if not file.is_relative_to(self.folder.resolve()):
            raise BadConfiguration(f"{path}: expected a file below {self.folder}, got {name!r}")
        return read_frame(file).image.astype(np.float32)


def _read_entry(path: Path) -> _Entry:
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), _Entry)
    except (OSError, ValueError) as error:
        raise BadConfiguration(f"{path}: expected a calibration: {error}") from None


def _amplifier(one: _Amplifier) -> Amplifier:
    return Amplifier(**msgspec.structs.asdict(one) | {"at": one.at or (one.data[0], one.data[2])})
