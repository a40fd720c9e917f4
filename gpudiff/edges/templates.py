"""The template store: a folder of FITS files, and the one that covers a frame."""

import time
from collections import OrderedDict
from pathlib import Path

import numpy as np

from gpudiff.edges.fits import read_frame
from gpudiff.edges.template_index import Entry, TemplateIndex
from gpudiff.model.config import Instrument
from gpudiff.model.errors import BadWcs, NoTemplate
from gpudiff.model.footprint import Footprint
from gpudiff.model.frame import Frame
from gpudiff.model.sky import Sky, angles, unit_vectors

CACHE_BYTES = 2 << 30
QUICK_S, RARELY = 0.1, 20
"""A folder that takes longer than QUICK_S to look through is looked through at most every RARELY such times."""


class TemplateStore:
    """Templates by what they cover.

    A frame with a WCS gets the template whose footprint holds most of it, of its own band first; a template
    of another known band is never used.  Ties go to the same detector, then to the first by name.  Where the
    frame or the template has no WCS, detector number and shape must be equal.

    Pixels of files that are not compressed stay in the file: they are mapped, read-only, so that all programs on
    a machine share the memory they lie in, and one that was read before (services.preload) is there at once.
    """

    def __init__(
        self,
        folder: Path,
        instrument: Instrument | None = None,
        cache_bytes: int = CACHE_BYTES,
        index: Path | None = None,
    ):
        """cache_bytes : loaded templates kept, in bytes of pixels; the one used longest ago goes first.
        index : file that keeps what the headers say; None to read them all now.

        Raises NoTemplate when the folder does not exist.  Files that cannot be read are left out and named in
        `unreadable`.
        """
        if not folder.is_dir():
            raise NoTemplate(f"{folder}: expected a folder of template FITS files")
        self.folder, self.instrument, self.cache_bytes = folder, instrument or Instrument(), cache_bytes
        self.index = TemplateIndex(folder, self.instrument, index)
        self._loaded: OrderedDict[tuple[str, int, int], Frame] = OrderedDict()
        self._looked_at, self._took_s = 0.0, 0.0
        self.rescan()

    @property
    def unreadable(self) -> dict[Path, str]:
        """Files that are no templates, and why."""
        return self.index.unreadable()

    def rescan(self) -> bool:
        """Read the headers of files that are new or changed, forget those that are gone; whether any was."""
        start = time.monotonic()
        changed = self.index.refresh()
        self._looked_at = time.monotonic()
        self._took_s = 0.0 if changed else self._looked_at - start
        return changed

    def close(self) -> None:
        """Close the index."""
        self.index.close()

    def find(self, frame: Frame) -> Frame:
        """The template that covers the frame best, with its digest.

        Looks at the folder again when there is none, or its file is gone.  Raises NoTemplate, saying what was
        looked for, and what `read_frame` raises for a file that became unreadable.
        """
        wanted = footprint_of(frame)
        entry = self.best(wanted)
        if not (entry and (self.folder / entry.path).exists()) and self._worth_a_look():
            self.rescan()
            entry = self.best(wanted)
        if entry is None:
            among = f"{self.folder} ({len(self.index)} files)"
            raise NoTemplate(f"{frame.name}: no template in {among} covers {_looked_for(wanted)}")
        return self._load(entry)

    def best(self, wanted: Footprint) -> Entry | None:
        """What is known of the template for a footprint: the same band, then most coverage, then the same
        detector, then the name."""
        ranked = []
        for entry in self.index.near(wanted):
            share = covered(wanted, entry)
            if share > 0:
                rank = (entry.band != wanted.band, -share, entry.frame.detector != wanted.detector, entry.path)
                ranked.append((rank, entry))
        return min(ranked, key=lambda one: one[0])[1] if ranked else None

    def _worth_a_look(self) -> bool:
        return self._took_s < QUICK_S or time.monotonic() - self._looked_at > RARELY * self._took_s

    def _load(self, entry: Entry) -> Frame:
        path = self.folder / entry.path
        stat = path.stat() if path.exists() else None
        key = (entry.path, stat.st_mtime_ns, stat.st_size) if stat else (entry.path, 0, 0)
        if key not in self._loaded:
            unchanged = key[1:] == (entry.mtime, entry.size)
            made = read_frame(path, self.instrument, mapped=True, digest=entry.content if unchanged else "")
            if unchanged and not entry.content:
                self.index.learn(entry, made.digest)
            self._loaded[key] = made
        self._loaded.move_to_end(key)
        while len(self._loaded) > 1 and sum(one.nbytes for one in self._loaded.values()) > self.cache_bytes:
            self._loaded.popitem(last=False)
        return self._loaded[key]


def footprint_of(frame: Frame) -> Footprint:
    """What a template for the frame must cover; raises BadWcs."""
    observation, shape = frame.observation, (int(frame.image.shape[0]), int(frame.image.shape[1]))
    try:
        sky = Sky(frame.wcs)
    except BadWcs as error:
        raise BadWcs(f"{frame.name}: {error}") from None
    return Footprint.of(sky, shape, observation.band, observation.frame.detector)


def covered(wanted: Footprint, entry: Entry) -> float:
    """Share of the footprint's points that a template covers, 0 to 1."""
    if wanted.points is None or not entry.sky:
        return float(entry.frame.detector == wanted.detector and entry.shape == wanted.shape)
    vectors = unit_vectors(*wanted.points)
    if not (vectors @ entry.centre >= np.cos(min(entry.radius, np.pi))).any():
        return 0.0
    x, y = entry.sky.to_pixels(*wanted.points)
    height, width = entry.shape
    with np.errstate(invalid="ignore"):
        inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
    return float(inside.mean())


def _looked_for(wanted: Footprint) -> str:
    band = f"in band {wanted.band}" if wanted.band else "in any band"
    if wanted.points is None:
        height, width = wanted.shape
        return f"detector {wanted.detector}, {width} x {height} px, {band} (it has no WCS)"
    ra, dec = angles(unit_vectors(*wanted.points).mean(axis=0))
    return f"ra {ra:.4f}, dec {dec:+.4f} {band}"
