"""The Solar System tonight: a night's ephemerides, mapped, of which a visit's are evaluated."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gpudiff.edges.orbits import read_orbits
from gpudiff.edges.sky_file import SkyFile, write_sky_file
from gpudiff.model.errors import BadConfiguration
from gpudiff.model.sky import within
from gpudiff.model.tables import PREDICTED, Table, concatenate
from gpudiff.science.ephemerides import DEGREE, LONGEST, Night, Site, columns_of, predict
from gpudiff.science.orbits import equatorial, states_of

KIND = "ephemerides"
SLOW = 0.5
"""Degrees: what gets farther from its place at midnight is looked at for every visit."""
EDGE = 60.0
"""Arcsec beyond a circle in which objects are given too: the widest gate of the association, and some."""


class SolarSystem:
    """Ephemerides to look up; raises UnreadableFile for a file that holds none or is not whole."""

    def __init__(self, path: Path):
        self._file = SkyFile(path, KIND)
        facts = self._file.facts
        self.night = Night(facts["middle_mjd_tai"], facts["hours"])
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
        parts = [predict(self._file.rows(ranges), self.night, mjd_tai, exposure_s)]
        others = self._fast[~_in(ranges, self._fast)]
        if others.size:
            fast = {name: column[others] for name, column in self._file.columns.items()}
            parts.append(predict(fast, self.night, mjd_tai, exposure_s))
        found = concatenate(parts)
        return found.take(np.flatnonzero(within(found["ra"], found["dec"], ra, dec, radius + EDGE / 3600)))

    def designations(self, ids: Sequence[int]) -> list[str]:
        """The designation of each ssObjectId, '' for one that is not there."""
        order = np.argsort(self._file.columns["ssObjectId"], kind="stable")
        known = self._file.columns["ssObjectId"][order]
        names = self._file.columns["designation"]
        rows = np.searchsorted(known, ids)
        pairs = zip(ids, rows.tolist(), strict=True)
        return [names[order[r]].decode() if r < len(known) and known[r] == one else "" for one, r in pairs]


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
    facts = {"middle_mjd_tai": night.middle, "hours": night.hours, "degree": DEGREE}
    count = write_sky_file(output, KIND, {name: column[bright] for name, column in columns.items()}, facts)
    return count, int(np.sum(~bright)), int(np.sum(~near))


def _in(ranges: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Bool: rows that lie in one of the (R, 2) ranges, which rise and do not overlap."""
    at = np.searchsorted(ranges[:, 0], rows, "right") - 1
    return (at >= 0) & (rows < np.append(ranges[:, 1], 0)[at])
