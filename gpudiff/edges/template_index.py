"""What is known of the templates in a folder without opening them: a SQLite file, by HEALPix cell.

table template: one row a file: its place, band, identity, shape, WCS, the circle round it, its digest once it
was read; or why it cannot be read.  table cell: which HEALPix cells (nested, NSIDE) each circle touches.
"""

import json
import os
import sqlite3
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from gpudiff.edges import healpix
from gpudiff.edges.fits_planes import IMAGE, MASK, PSF, VARIANCE, WEIGHT
from gpudiff.edges.fits_structure import content, reading
from gpudiff.edges.header import Cards, observation
from gpudiff.edges.wcs import wcs_of
from gpudiff.model.config import Instrument
from gpudiff.model.errors import BadWcs, GpudiffError, NotAnImage, StoreFailed, TryAgain
from gpudiff.model.footprint import Footprint
from gpudiff.model.frame import FrameId
from gpudiff.model.provenance import canonical, digest
from gpudiff.model.sky import Sky, angles, unit_vectors

SUFFIXES = (".fits", ".fits.fz", ".fits.gz", ".fit", ".fts")
NOT_IMAGES = (*MASK, *VARIANCE, *PSF, *WEIGHT)
NSIDE = 128
"""Cells of 0.46 degrees: a CCD of a survey camera touches about five."""
LAYOUT = 1
"""Of the tables below; an index of another layout is made anew."""
BATCH = 500
"""Files read between two commits: so much of the work is lost when it is interrupted."""
WAIT_S = 120.0
"""How long one program waits for another that writes the index."""
TABLES = """
create table template(
    path text primary key, mtime integer, size integer, band text, visit integer, snap integer, detector integer,
    height integer, width integer, wcs text, x real, y real, z real, radius real, digest text, error text);
create table cell(cell integer, path text, primary key(cell, path)) without rowid;
create index by_shape on template(detector, height, width);
create index cells_of on cell(path);
"""
COLUMNS = "path, band, visit, snap, detector, height, width, wcs, x, y, z, radius, mtime, size, digest"


@dataclass(frozen=True)
class Entry:
    """What the index knows of one template.

    path : relative to the folder; wcs : FITS keywords as JSON, "{}" for none
    centre : (3,) unit vector to its middle, and the angle to its farthest corner, radians; NaN without a WCS
    mtime, size : ns and bytes, of the file when its headers were read; content : its digest, '' before it is read
    """

    path: str
    band: str
    frame: FrameId
    shape: tuple[int, int]
    wcs: str
    centre: np.ndarray
    radius: float
    mtime: int
    size: int
    content: str

    @cached_property
    def sky(self) -> Sky:
        """Its WCS; false when it has none."""
        return Sky(json.loads(self.wcs))


class TemplateIndex:
    """The index of a folder, kept in a file that programs may share, or in memory."""

    def __init__(self, folder: Path, instrument: Instrument, file: Path | None = None):
        """file : where it is kept; None for memory alone.  One that is damaged, or another folder's, is made anew.

        Raises StoreFailed for a file that cannot be written.
        """
        self.folder, self.instrument = folder, instrument
        told = digest(canonical([LAYOUT, str(folder.resolve()), vars(instrument)]))
        try:
            self._open(file, int(told[:7], 16))
        except sqlite3.OperationalError as error:
            raise StoreFailed(f"{file}: expected an index of templates that can be written: {error}") from None
        except sqlite3.DatabaseError:
            assert file is not None
            self._lines.close()
            file.unlink()
            self._open(file, int(told[:7], 16))

    def _open(self, file: Path | None, version: int) -> None:
        self._lines = sqlite3.connect(file or ":memory:", timeout=WAIT_S, isolation_level=None)
        self._lines.execute("pragma synchronous = off")  # it can always be made again
        self._make(version)

    def close(self) -> None:
        """Close the file."""
        self._lines.close()

    def _make(self, version: int) -> None:
        self._lines.execute("begin exclusive")
        if self._lines.execute("pragma user_version").fetchone()[0] != version:
            for (name,) in self._lines.execute("select name from sqlite_master where type = 'table'").fetchall():
                self._lines.execute(f"drop table {name}")
            for statement in TABLES.split(";"):
                self._lines.execute(statement)
            self._lines.execute(f"pragma user_version = {version}")
        self._lines.execute("commit")

    def __len__(self) -> int:
        return self._lines.execute("select count(*) from template where error = ''").fetchone()[0]

    def refresh(self) -> bool:
        """Read the headers of files that are new or changed, forget those that are gone; whether any was.

        Raises TryAgain where another program does not let go of the index, or the disk is full.
        """
        try:
            return self._refresh()
        except sqlite3.OperationalError as error:
            raise TryAgain(f"{self.folder}: expected an index that can be written: {error}") from None
        finally:
            self._lines.rollback()  # where it failed half-way: no later one could begin

    def _refresh(self) -> bool:
        present = dict(_files(self.folder))
        known = {
            path: (mtime, size)
            for path, mtime, size in self._lines.execute("select path, mtime, size from template")
        }
        gone = [path for path in known if path not in present]
        changed = [path for path, stamp in present.items() if known.get(path) != stamp]
        for start in range(0, max(len(gone), len(changed)), BATCH):
            here = slice(start, start + BATCH)
            rows = [self._read(path, present[path]) for path in sorted(changed)[here]]
            self._lines.execute("begin immediate")
            self._forget(gone[here])
            self._put(rows)
            self._lines.execute("commit")
        return bool(gone or changed)

    def unreadable(self) -> dict[Path, str]:
        """Files that are no templates, and why."""
        found = self._lines.execute("select path, error from template where error != ''")
        return {self.folder / path: error for path, error in found}

    def near(self, wanted: Footprint) -> list[Entry]:
        """The templates that may cover a footprint: those whose circles touch the cells of its points.

        Where either has no WCS, those of its detector and shape.  Bands that differ are left out; '' is any.
        """
        height, width = wanted.shape
        same = "error = '' and detector = ? and height = ? and width = ?"
        if wanted.points is None:
            return self._entries(f"where {same}", wanted.band, (wanted.detector, height, width))
        cells = cells_of(*wanted.points)
        marks = ",".join("?" * len(cells))
        placed = self._entries(
            f"where path in (select path from cell where cell in ({marks}))", wanted.band, cells
        )
        return placed + self._entries(
            f"where wcs = '{{}}' and {same}", wanted.band, (wanted.detector, height, width)
        )

    def within(self, ra: float, dec: float, radius: float, band: str) -> list[Entry]:
        """The templates whose circles touch a circle on the sky (degrees), the nearest first."""
        cells = healpix.cone(ra, dec, radius, NSIDE).tolist()
        found: dict[str, Entry] = {}
        for start in range(0, len(cells), BATCH):
            some = cells[start : start + BATCH]
            marks = ",".join("?" * len(some))
            sql = f"where path in (select path from cell where cell in ({marks}))"
            found |= {entry.path: entry for entry in self._entries(sql, band, some)}
        centre = unit_vectors(np.array(ra), np.array(dec))
        away = {path: np.arccos(np.clip(entry.centre @ centre, -1, 1)) for path, entry in found.items()}
        touching = [e for path, e in found.items() if away[path] <= np.radians(radius) + e.radius]
        return sorted(touching, key=lambda entry: (away[entry.path], entry.path))

    def entry(self, path: str) -> Entry | None:
        """What is known of one file."""
        found = self._entries("where path = ?", "", [path])
        return found[0] if found else None

    def learn(self, entry: Entry, content: str) -> None:
        """Remember the digest of a template that was read."""
        where = (content, entry.path, entry.mtime, entry.size)
        self._lines.execute("update template set digest = ? where path = ? and mtime = ? and size = ?", where)

    def _entries(self, where: str, band: str, values: Iterable[Any]) -> list[Entry]:
        clause = " and band in ('', ?)" if band else ""
        sql = f"select {COLUMNS} from template {where}{clause}"
        return [_entry(row) for row in self._lines.execute(sql, [*values, *([band] if band else [])])]

    def _read(self, path: str, stamp: tuple[int, int]) -> tuple[Any, ...]:
        try:
            entry = read_entry(self.folder / path, self.instrument)
        except GpudiffError as error:
            return (path, *stamp, *[None] * 12, f"{type(error).__name__}: {error}")
        frame, where = entry.frame, (entry.wcs, *map(float, entry.centre), entry.radius)
        return (path, *stamp, entry.band, frame.visit, frame.snap, frame.detector, *entry.shape, *where, "", "")

    def _put(self, rows: list[tuple[Any, ...]]) -> None:
        self._forget([row[0] for row in rows])
        marks = ",".join("?" * 16)
        self._lines.executemany(f"insert into template values({marks})", rows)
        for path, *_, x, y, z, radius, _, error in rows:
            if not error and radius == radius:
                ra, dec = map(float, angles(np.array([x, y, z])))
                pairs = [(cell, path) for cell in healpix.cone(ra, dec, np.degrees(radius), NSIDE).tolist()]
                self._lines.executemany("insert into cell values(?, ?)", pairs)

    def _forget(self, paths: list[str]) -> None:
        for table in ("template", "cell"):
            self._lines.executemany(f"delete from {table} where path = ?", [(path,) for path in paths])


def read_entry(path: Path, instrument: Instrument) -> Entry:
    """What a file's headers say of it; raises UnreadableFile, NotAnImage, BadWcs."""
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(content(path)) as hdus:
            images = [hdu for hdu in hdus if hdu.is_image and len(hdu.shape) >= 2 and hdu.name not in NOT_IMAGES]
            if not images:
                raise NotAnImage(f"{path}: expected a 2-D image, found none")
            image = next((hdu for hdu in images if hdu.name in IMAGE), images[0])
            headers = (image.header.copy(), hdus[0].header.copy())
            shape = image.shape[-2:]
        seen, (wcs, notes) = observation(Cards(*headers), instrument, str(path)), wcs_of(headers)
        if notes and not wcs:
            raise BadWcs(f"{path}: {notes[0]}")
        return Entry(str(path), seen.band, seen.frame, shape, json.dumps(wcs), *circle(shape, Sky(wcs)), 0, 0, "")


def circle(shape: tuple[int, int], sky: Sky) -> tuple[np.ndarray, float]:
    """(unit vector to the middle of an image, angle to its farthest corner, radians); NaN without a WCS."""
    height, width = shape
    if not sky:
        return np.full(3, np.nan), float("nan")
    centre = unit_vectors(*sky.to_sky([(width - 1) / 2], [(height - 1) / 2]))[0]
    corners = unit_vectors(*sky.to_sky([0, width - 1, 0, width - 1], [0, 0, height - 1, height - 1]))
    return centre, float(np.arccos(np.clip(corners @ centre, -1, 1)).max())


def cells_of(ra: np.ndarray, dec: np.ndarray) -> list[int]:
    """The HEALPix cells of positions that are finite."""
    known = np.isfinite(ra) & np.isfinite(dec)
    return np.unique(healpix.cells(ra[known], dec[known], NSIDE)).tolist()


def _files(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """(path below the folder, (mtime in ns, size)) of its FITS files, subfolders included, each once.

    The path of a name that is no text is one at which nothing is found: it is told as a file that cannot be read.
    """
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in sorted(names):
            if name.startswith(".") or not name.lower().endswith(SUFFIXES):
                continue
            path = os.path.join(place, name)
            try:
                stat = os.stat(path)
            except OSError:  # a link to nothing, or to itself
                continue
            text = os.path.relpath(path, folder).encode(errors="backslashreplace").decode()
            yield text, (stat.st_mtime_ns, stat.st_size)


def _entry(row: tuple[Any, ...]) -> Entry:
    path, band, visit, snap, detector, height, width, wcs, x, y, z, radius, mtime, size, content = row
    centre = np.array([np.nan if value is None else value for value in (x, y, z)])
    frame, reach = FrameId(visit, snap, detector), np.nan if radius is None else radius
    return Entry(path, band, frame, (height, width), wcs, centre, reach, mtime, size, content)
