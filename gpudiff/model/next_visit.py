"""NextVisit: a visit that the observatory announced before it took it."""

from dataclasses import dataclass

HORIZONS = ("night", "hour", "next")
"""How near an announced visit is: those that are `next` are made ready, the others only warmed."""
NAN = float("nan")


@dataclass(frozen=True)
class NextVisit:
    """What a next-visit message says (edges.next_visit).

    revision : the highest one of a visit counts
    ra, dec : boresight, ICRS degrees; rotation_deg : of the focal plane, from north to east
    start_tai : expected start of the first exposure, MJD TAI; valid_until : MJD TAI, NaN for no end
    duration_s : of the whole visit; images : exposures of it, 0 when unknown
    detectors : those that will be read, () for all; supersedes : visits that this one takes the place of
    """

    visit: int
    revision: int
    horizon: str
    ra: float
    dec: float
    rotation_deg: float = 0.0
    start_tai: float = NAN
    band: str = ""
    duration_s: float = NAN
    images: int = 0
    detectors: tuple[int, ...] = ()
    supersedes: tuple[int, ...] = ()
    cancelled: bool = False
    valid_until: float = NAN
    group: str = ""
    instrument: str = ""
    survey: str = ""
    sent_tai: float = NAN
