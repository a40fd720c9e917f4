"""What the index of the alert archive knows of an alert, and what it can be asked."""

from dataclasses import dataclass

import numpy as np

from gpudiff.model.sky import separation
from gpudiff.model.tables import Column, Table

INDEX: tuple[Column, ...] = (
    Column("diaSourceId", "i8", "", "of the detection"),
    Column("revision", "i4", "", "0, and one more each time other software repeats the frame"),
    Column("detector", "i4", "", "detector number"),
    Column("diaObjectId", "i8", "", "the object it belongs to, 0 for none"),
    Column("visit", "i8", "", "visit number"),
    Column("midpointMjdTai", "f8", "d", "middle of the exposure, MJD TAI; NaN when unknown"),
    Column("ra", "f8", "deg", "right ascension, ICRS; NaN when unknown"),
    Column("dec", "f8", "deg", "declination, ICRS; NaN when unknown"),
    Column("offset", "i8", "byte", "where its bare Avro record starts in the archive file"),
    Column("length", "i8", "byte", "of that record"),
)
PLACED: tuple[Column, ...] = (*INDEX, Column("file", "U", "", "name of the archive file"))
"""Rows of INDEX from more than one file."""
CODED: tuple[Column, ...] = (*INDEX, Column("file", "i4", "", "number of the archive file in a list of names"))
"""The same, as they are kept."""


@dataclass(frozen=True)
class Cone:
    """A circle on the sky: centre in ICRS degrees, radius in arcsec."""

    ra: float
    dec: float
    radius: float


@dataclass(frozen=True)
class AlertQuery:
    """Alerts that satisfy every condition that is not None.

    since, until : MJD TAI, [since, until); an alert of unknown time satisfies neither
    """

    dia_source_id: int | None = None
    dia_object_id: int | None = None
    visit: int | None = None
    since: float | None = None
    until: float | None = None
    cone: Cone | None = None
    least_revision: int | None = None

    def holds(self, rows: Table) -> np.ndarray:
        """(N,) bool: which rows of INDEX satisfy it."""
        good = np.ones(len(rows), bool)
        equal = {"diaSourceId": self.dia_source_id, "diaObjectId": self.dia_object_id, "visit": self.visit}
        for name, value in equal.items():
            if value is not None:
                good &= rows[name] == value
        if self.since is not None:
            good &= rows["midpointMjdTai"] >= self.since
        if self.until is not None:
            good &= rows["midpointMjdTai"] < self.until
        if self.least_revision is not None:
            good &= rows["revision"] >= self.least_revision
        if self.cone is not None:
            far = separation(rows["ra"], rows["dec"], self.cone.ra, self.cone.dec)
            good &= far <= self.cone.radius
        return good


def night_of(mjd_tai: float) -> int:
    """The number of the night: MJD TAI at its start, at 12 h TAI; 0 when the time is not known."""
    return 0 if np.isnan(mjd_tai) else int(np.floor(mjd_tai - 0.5))
