"""The template store: a folder of FITS files, and the one that covers a frame."""

import warnings
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy.io import fits

from gpudiff.edges.fits import IMAGE, MASK, PSF, VARIANCE, read_frame
from gpudiff.edges.fits_structure import check_structure
from gpudiff.edges.header import Cards, observation, wcs_keywords
from gpudiff.model.config import Instrument
from gpudiff.model.errors import NotAnImage, NoTemplate
from gpudiff.model.frame import Frame, FrameId
from gpudiff.model.sky import Sky

SUFFIXES = (".fits", ".fits.fz", ".fits.gz", ".fit", ".fts")
SAMPLES = 8
"""A footprint is judged on SAMPLES x SAMPLES points of the science frame."""
CACHE_BYTES = 2 << 30
GZIP = b"\x1f\x8b"
NOT_IMAGES = (*MASK, *VARIANCE, *PSF)


@dataclass(frozen=True)
class Entry:
    """What the index knows of one template."""

    path: Path
    band: str
    frame: FrameId
    shape: tuple[int, int]
    sky: Sky
    """Its WCS; false when it has none."""

    @cached_property
    def circle(self) -> tuple[np.ndarray, float]:
        """Unit vector to its centre, and the angle to its farthest corner, radians."""
        height, width = self.shape
        centre = _vectors(*self.sky.to_sky([(width - 1) / 2], [(height - 1) / 2]))[0]
        corners = _vectors(*self.sky.to_sky([0, width - 1, 0, width - 1], [0, 0, height - 1, height - 1]))
        return centre, float(np.arccos(np.clip(corners @ centre, -1, 1)).max())


class TemplateStore:
    """Templates by what they cover.

    A frame with a WCS gets the template whose footprint holds most of it, of its own band first; a template
    of another known band is never used.  Ties go to the same detector, then to the first by name.  Where the
    frame or the template has no WCS, detector number and shape must be equal.
    """

    def __init__(self, folder: Path, instrument: Instrument | None = None, cache_bytes: int = CACHE_BYTES):
        """cache_bytes : loaded templates kept, in bytes of pixels; the one used longest ago goes first.

        Raises NoTemplate when the folder does not exist.  Files that cannot be read are left out and named in
        `unreadable`.
        """
        if not folder.is_dir():
            raise NoTemplate(f"{folder}: expected a folder of template FITS files")
        self.folder, self.instrument, self.cache_bytes = folder, instrument or Instrument(), cache_bytes
        self.entries: list[Entry] = []
        self.unreadable: dict[Path, str] = {}
        self._loaded: OrderedDict[Path, Frame] = OrderedDict()
        self._scanned: dict[Path, int] = {}
        self.rescan()

    def rescan(self) -> bool:
        """Read the headers of files that are new or changed, forget those that are gone; whether any was."""
        present = {path: path.stat().st_mtime_ns for path in sorted(self.folder.rglob("*")) if _is_fits(path)}
        changed = {path for path, time in present.items() if self._scanned.get(path) != time}
        if not changed and present.keys() == self._scanned.keys():
            return False
        keep = [entry for entry in self.entries if entry.path in present and entry.path not in changed]
        self.unreadable = {path: why for path, why in self.unreadable.items() if path in present.keys() - changed}
        for path in sorted(changed):
            self._loaded.pop(path, None)
            try:
                keep.append(_read_entry(path, self.instrument))
            except Exception as error:  # as in edges.fits: astropy raises any of a dozen kinds
                self.unreadable[path] = f"{type(error).__name__}: {error}"
        self.entries = sorted(keep, key=lambda entry: entry.path)
        self._scanned = present
        return True

    def find(self, frame: Frame) -> Frame:
        """The template that covers the frame best, with its digest.

        Looks at the folder again when there is none.  Raises NoTemplate, saying what was looked for, and what
        `read_frame` raises for a file that became unreadable.
        """
        entry = self._best(frame)
        if entry is None and self.rescan():
            entry = self._best(frame)
        if entry is None:
            raise NoTemplate(
                f"{frame.name}: no template in {self.folder} ({len(self.entries)} files) covers "
                f"{_looked_for(frame)}"
            )
        return self._load(entry.path)

    def _best(self, frame: Frame) -> Entry | None:
        """The same band, then most coverage, then the same detector, then the name."""
        band, detector = frame.observation.band, frame.observation.frame.detector
        points = _sample(frame)
        ranked = []
        for entry in self.entries:
            share = 0.0 if band and entry.band not in ("", band) else _share(frame, points, entry)
            if share > 0:
                rank = (entry.band != band, -share, entry.frame.detector != detector, entry.path.name)
                ranked.append((rank, entry))
        return min(ranked, key=lambda one: one[0])[1] if ranked else None

    def _load(self, path: Path) -> Frame:
        if path not in self._loaded:
            self._loaded[path] = read_frame(path, self.instrument)
        self._loaded.move_to_end(path)
        while len(self._loaded) > 1 and sum(map(_bytes, self._loaded.values())) > self.cache_bytes:
            self._loaded.popitem(last=False)
        return self._loaded[path]


def _share(frame: Frame, points: tuple[np.ndarray, np.ndarray] | None, entry: Entry) -> float:
    """Share of the frame's sample points on the sky that a template covers, 0 to 1."""
    if points is None or not entry.sky:
        same = entry.frame.detector == frame.observation.frame.detector
        return float(same and entry.shape == frame.image.shape)
    centre, radius = entry.circle
    if not (_vectors(*points) @ centre >= np.cos(min(radius, np.pi))).any():
        return 0.0
    x, y = entry.sky.to_pixels(*points)
    height, width = entry.shape
    with np.errstate(invalid="ignore"):
        inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
    return float(inside.mean())


def _sample(frame: Frame) -> tuple[np.ndarray, np.ndarray] | None:
    """(ra, dec) of a grid of points over the frame, degrees; None without a WCS."""
    sky = Sky(frame.wcs)
    if not sky:
        return None
    height, width = frame.image.shape
    y, x = np.meshgrid(np.linspace(0, height - 1, SAMPLES), np.linspace(0, width - 1, SAMPLES), indexing="ij")
    return sky.to_sky(x.ravel(), y.ravel())


def _vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """(N, 3) unit vectors."""
    ra_rad, dec_rad = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec_rad) * np.cos(ra_rad), np.cos(dec_rad) * np.sin(ra_rad), np.sin(dec_rad)], axis=-1)


def _looked_for(frame: Frame) -> str:
    band = f"in band {frame.observation.band}" if frame.observation.band else "in any band"
    points = _sample(frame)
    if points is None:
        height, width = frame.image.shape
        return f"detector {frame.observation.frame.detector}, {width} x {height} px, {band} (it has no WCS)"
    x, y, z = _vectors(*points).mean(axis=0)
    ra, dec = np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))
    return f"ra {ra:.4f}, dec {dec:+.4f} {band}"


def _is_fits(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.name.lower().endswith(SUFFIXES)


def _read_entry(path: Path, instrument: Instrument) -> Entry:
    """The index entry of a file, from its headers alone; raises NotAnImage, BadWcs, and what astropy does."""
    with open(path, "rb") as file:
        if file.read(2) != GZIP:
            check_structure(path, file, path.stat().st_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(path) as hdus:
            images = [hdu for hdu in hdus if hdu.is_image and len(hdu.shape) >= 2 and hdu.name not in NOT_IMAGES]
            if not images:
                raise NotAnImage(f"{path}: expected a 2-D image, found none")
            image = next((hdu for hdu in images if hdu.name in IMAGE), images[0])
            headers = (image.header.copy(), hdus[0].header.copy())
            height, width = image.shape[-2:]
    seen = observation(Cards(*headers), instrument, str(path))
    return Entry(path, seen.band, seen.frame, (height, width), Sky(wcs_keywords(headers)))


def _bytes(frame: Frame) -> int:
    return sum(plane.nbytes for plane in (frame.image, frame.mask, frame.variance) if plane is not None)
