"""The Solar System tonight: a night's ephemerides, mapped, of which a visit's are evaluated."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.orbits import read_orbits
from gpudiff.edges.sky_file import SkyFile, write_sky_file
from gpudiff.model.errors import BadConfiguration, UnreadableFile
from gpudiff.model.sky import within
from gpudiff.model.tables import PREDICTED, Table, concatenate
from gpudiff.science.ephemerides import DEGREE, LONGEST, Night, Site, columns_of, predict
from gpudiff.science.orbits import equatorial, states_of
from gpudiff.science.solar_system import Sight, sight

KIND = "ephemerides"
SLOW = 0.5
"""Degrees: what gets farther from its place at midnight is looked at for every visit."""
WANTED = "ssObjectId", "error", "magnitude", "coefficients"
"""The columns that a visit is predicted from."""
EDGE = 60.0
"""Arcsec beyond a circle in which objects are given too: the widest gate of the association, and some."""


class SolarSystem:
    """Ephemerides to look up; raises UnreadableFile for a file that holds none, is not whole or of an old form."""

    def __init__(self, path: Path):
        self._file = SkyFile(path, KIND)
        facts = self._file.facts
        if "state" not in self._file.columns:
            raise UnreadableFile(f"{path}: expected ephemerides with the objects' states; build it again")
        self.night = Night(facts["middle_mjd_tai"], facts["hours"])
        self.site = Site(*facts["site"]) if facts["site"] else None
        self._fast = np.flatnonzero(self._file.columns["reach"] > SLOW)

    def __len__(self) -> int:
        return len(self._file)

    @property
    def digest(self) -> str:
        """Hex digest of the content."""
        return self._file.digest

    def at(self, mjd_tai: float, exposure_s: float, ra: float, dec: float, radius: float) -> Table:
        """Table of PREDICTED: the objects within `radius` degrees of a place in the middle of an exposure.

        mjd_tai : middle of the exposure; of a time outside the night, or NaN, nothing is known: an empty table
        exposure_s : NaN when unknown
        """
        if not abs(self.night.scaled(mjd_tai)) <= 1:
            return Table.empty(PREDICTED)
        ranges = self._file.ranges(ra, dec, radius + SLOW + EDGE / 3600)
        parts = [predict(self._file.rows(ranges, WANTED), self.night, mjd_tai, exposure_s)]
        others = self._fast[~_in(ranges, self._fast)]
        if others.size:
            fast = {name: self._file.columns[name][others] for name in WANTED}
            parts.append(predict(fast, self.night, mjd_tai, exposure_s))
        found = concatenate(parts)
        return found.take(np.flatnonzero(within(found["ra"], found["dec"], ra, dec, radius + EDGE / 3600)))

    def designations(self, ids: Sequence[int]) -> list[str]:
        """The designation of each ssObjectId, '' for one that is not there."""
        names, (rows, there) = self._file.columns["designation"], self._rows(np.asarray(ids, np.int64))
        found = iter(names[rows].tolist())
        return [next(found).decode() if one else "" for one in there.tolist()]

    def sight(self, ids: np.ndarray, mjd_tai: float) -> Sight:
        """What is known of objects in the middle of an exposure; ids that are not there are left out."""
        rows, _ = self._rows(ids)
        columns = self._file.columns
        return Sight(
            columns["ssObjectId"][rows],
            columns["designation"][rows].astype(str),
            columns["magnitude"][rows],
            *sight(columns["state"][rows], self.night, self.site, mjd_tai),
        )

    def _rows(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows of those ids that are there, and (N,) bool which are."""
        order, known = self._by_id
        at = np.searchsorted(known, ids)
        there = at < len(known)
        there[there] = known[at[there]] == ids[there]
        return order[at[there]], there

    @cached_property
    def _by_id(self) -> tuple[np.ndarray, np.ndarray]:
        ids = self._file.columns["ssObjectId"]
        order = np.argsort(ids, kind="stable")
        return order, ids[order]


def build(orbits: Path, output: Path, night: Night, site: Site | None, faintest: float) -> tuple[int, int, int]:
    """Write a night's ephemerides from an orbit table.

    faintest : V magnitude; fainter objects are left out, those of unknown brightness not
    Returns how many objects are in it, and how many were left out as faint, and because their epoch is more than
    LONGEST days away.  Raises UnreadableFile; BadConfiguration when no epoch is near; StoreFailed.
    """
    read = read_orbits(orbits)
    near = np.abs(read.columns["epoch"] - night.middle) <= LONGEST
    if len(near) and not near.any():
        epoch = float(read.columns["epoch"][0])
        raise BadConfiguration(
            f"{orbits}: expected an epoch within {LONGEST:.0f} d of {night.middle}, got {epoch}"
        )
    states = states_of(read.elements) if read.elements is not None else read.states
    assert states is not None
    known = {name: column[near] for name, column in read.columns.items()}
    columns = columns_of(known, equatorial(states[near]), night, site)
    bright = ~(columns["magnitude"] > faintest)
    facts: dict[str, Any] = {"middle_mjd_tai": night.middle, "hours": night.hours, "degree": DEGREE}
    facts["site"] = [site.longitude, site.latitude, site.height] if site else None
    count = write_sky_file(output, KIND, {name: column[bright] for name, column in columns.items()}, facts)
    return count, int(np.sum(~bright)), int(np.sum(~near))


def _in(ranges: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Bool: rows that lie in one of the (R, 2) ranges, which rise and do not overlap."""
    at = np.searchsorted(ranges[:, 0], rows, "right") - 1
    return (at >= 0) & (rows < np.append(ranges[:, 1], 0)[at])
