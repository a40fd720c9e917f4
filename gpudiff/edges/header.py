"""FITS header keywords to what a Frame says of itself, and back."""

import math
import re
from datetime import datetime, timedelta
from typing import Any

from astropy.io.fits import Card, Header, VerifyError

from gpudiff.model.config import Instrument
from gpudiff.model.errors import BadConfiguration, BadGain
from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.model.photometry import AB_ZERO_NJY, NANOJANSKY

NAN = float("nan")
TAI_MJD_ZERO = 2400000.5
OFFSET = {"TAI": 0.0, "GPS": 19.0, **dict.fromkeys(("TT", "TDT", "ET", "TDB"), -32.184)}
"""Seconds from a time on such a scale to TAI (FITS standard 4.0, table 30)."""
ALIASES = {
    # Where EGAIN and GAIN are, GAIN is a camera's setting.  ESO's CONAD is electrons a unit, its own GAIN is not
    "GAIN": ("EGAIN", "GAIN", "ESO DET OUT1 CONAD"),
    "RDNOISE": ("RDNOISE", "READNOIS", "READNOI", "ESO DET OUT1 RON"),
    "SATURATE": ("SATURATE", "SATURVAL"),
    "FILTER": (
        *("FILTER", "BAND", "FPA.FILTER", "ESO INS FILT1 NAME"),
        *("FILTER01", "FILTNAM1", "FILTNAM2", "FILTER1", "FILTER2", "PUPIL"),
    ),
    "MAGZERO": ("MAGZERO", "MAGZEROP", "MAGZP", "ZEROPT", "PHOTZP", "ZP"),
}
"""Other spellings that are tried when Instrument leaves a keyword at its default."""
CLEAR = re.compile(r"(clear|open|none|n/a|air|free)", re.IGNORECASE)
"""What a filter wheel says first where it has nothing in the beam."""
STARTS = ("MJD-BEG", "MJD-OBS", "EXPSTART", "MJD-STR", "OBSMJD", "MJD_OBS")
ENDS = ("MJD-END", "EXPEND")
CLOCKS = ("TIME-OBS", "UTSTART", "UT-STR", "TAIHMS", "UT", "UTC")
"""Start and end as MJD; the time that stands beside a date."""
RATE = re.compile(r"(/ ?S(EC(ONDS?)?)?|S(EC)?(\*\*|\^)?\(?-1\)?)$")
"""How a unit in capitals ends that is of a second."""
TINY = 1e-300
"""The least number above 0 that counts as one."""
UNPRINTABLE = re.compile(r"[^ -~]")
"""What no FITS card may hold (FITS standard 4.0, 4.2.1)."""
UNITS = {
    "gain": "electrons per image unit above 0",
    "read noise": "electrons, 0 or more",
    "saturation": "image units above 0",
}
UNLIKE = 1.1  # gain of one amplifier over another's that shows in a sky of a hundred sigma
FARTHEST = 1e6  # MJD: the year 4596; a Julian date is beyond
LARGEST_GAIN = 1e6  # electrons per image unit; beyond it a header is wrong, not an image unusual


class Cards:
    """Headers searched in order; undefined values count as absent."""

    def __init__(self, *headers: Header):
        self.headers = headers

    def find(self, *keys: str) -> Any:
        """The value of the first keyword that any header defines, or None."""
        return self.first(*keys)[1]

    def first(self, *keys: str) -> tuple[str, Any]:
        """(keyword, value) of the first keyword that any header defines, or ("", None)."""
        for key in keys:
            for header in self.headers:
                value = value_of(header, key)
                if value is not None:
                    return key, value
        return "", None

    def number(self, *keys: str) -> float:
        """The first of the keywords that holds a finite number, also as text; NaN when none does."""
        return next((one for one in map(number_of, map(self.find, keys)) if math.isfinite(one)), NAN)

    def whole(self, *keys: str) -> int:
        """The first of the keywords that holds a whole number of 64 bits; 0 when none does."""
        for key in keys:
            value = self.find(key)
            if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63:
                return value
        return 0


def value_of(header: Header, key: str) -> Any:
    """A keyword's value, None where it has none; as text where FITS knows no such value: NaN, 1,6.

    Raises VerifyError for a card that is not text.
    """
    try:
        return header.get(key)
    except VerifyError as error:
        try:
            header.cards[key].verify("silentfix")
        except ValueError:
            raise error from None
        return header.get(key)


def electronics(
    cards: Cards, instrument: Instrument, name: str
) -> tuple[float | None, float | None, float | None, list[str]]:
    """Gain, read noise and saturation, None where nobody said; notes on header values that say nothing.

    Those are texts, NaN, a gain or saturation of 0 or less, a read noise below 0: they stand for "unknown".
    Raises BadGain for such values in the configuration, and for a gain above 1e6.
    """
    notes: list[str] = []

    def told(what: str, given: float | None, key: str, least: float) -> float | None:
        way = f"--{what.replace(' ', '-')}, or {what.replace(' ', '_')} under [instrument], says it"
        key, value = ("[instrument]", given) if given is not None else cards.first(*_spellings(key))
        number = number_of(value)
        known = least <= number < math.inf
        if value is None or (known and (what != "gain" or number <= LARGEST_GAIN)):
            return None if value is None else number
        if known or given is not None:
            most = f", at most {LARGEST_GAIN:g}" if what == "gain" else ""
            raise BadGain(f"{name}: {what}: expected {UNITS[what]}{most}, got {key} {value!r:.40}; {way}")
        notes.append(f"{key} = {value!r:.40} is no {what}: taken as not given; {way}")
        return None

    read_noise = instrument.read_noise if instrument.read_noise >= 0 else None
    gain = told("gain", instrument.gain or None, instrument.gain_key, TINY)
    notes.extend(_amplifiers(cards) if gain is None else ())
    return (
        gain,
        told("read noise", read_noise, instrument.read_noise_key, 0.0),
        told("saturation", instrument.saturation or None, instrument.saturation_key, TINY),
        notes,
    )


def _amplifiers(cards: Cards) -> tuple[str, ...]:
    """A note on amplifiers of unlike gain."""
    keys = [key for header in cards.headers for key in header if re.fullmatch(r"GAIN_?(\d\d?|[A-Z])", key)]
    gains = {key: gain for key in keys if 0 < (gain := cards.number(key)) < math.inf}
    if not gains or max(gains.values()) <= UNLIKE * min(gains.values()):
        return ()
    said = ", ".join(f"{key} {gain:g}" for key, gain in [*gains.items()][:4])
    return (f"no GAIN but {said}: bring the amplifiers to one gain, in the template too, or their borders show",)


def observation(cards: Cards, instrument: Instrument, name: str, **identity: int | None) -> Observation:
    """Who, when and where; `identity` (visit, detector) wins over the headers.

    Raises BadConfiguration, as check_id does, where one of these is given.
    """
    start, end = _times(cards)
    return Observation(
        frame=_frame_id(cards, name, identity.get("visit"), identity.get("detector")),
        band=_band(cards, instrument),
        mjd_start_tai=start,
        mjd_end_tai=end,
        readout_end_tai=cards.number("RDENDTAI"),
        exposure_s=_exposure(cards),
        boresight_ra=cards.number("RA"),
        boresight_dec=cards.number("DEC"),
        rotation_deg=cards.number("ROTPA"),
    )


def zero_point(cards: Cards, instrument: Instrument) -> float | None:
    """AB magnitude of one image unit, or None.

    Without a zero point MAGZPT, which is of one unit a second (CASU, NOIRLab), FLUXMAG0, the units of magnitude 0
    (Rubin's pipelines once), FLUX20 likewise (SDSS), that of the solid angle of a pixel where the unit is MJy/sr
    (JWST), and of PHOTFLAM and PHOTPLAM where it is a rate (HST, whose handbooks give the formula).
    """
    value = cards.number(*_spellings(instrument.zero_point_key))
    unit, area = str(cards.find("BUNIT") or "").strip().upper(), cards.number("PIXAR_SR")
    photflam, pivot = cards.number("PHOTFLAM"), cards.number("PHOTPLAM")
    seconds, rate = _exposure(cards), RATE.search(unit)
    if math.isnan(value) and (rate or seconds > 0):
        value = cards.number("MAGZPT") + (0.0 if rate else 2.5 * math.log10(seconds))
    for key, magnitude in (("FLUXMAG0", 0.0), ("FLUX20", 20.0)):
        if math.isnan(value) and (flux := cards.number(key)) > 0:
            value = magnitude + 2.5 * math.log10(flux)
    if math.isnan(value) and unit == "MJY/SR" and area > 0:
        value = -2.5 * math.log10(NANOJANSKY["MJy"] * area / AB_ZERO_NJY)
    if math.isnan(value) and unit.endswith("/S") and photflam > 0 and pivot > 0:
        value = -2.5 * math.log10(photflam) - 5 * math.log10(pivot) - 2.408
    return None if math.isnan(value) else value


def frame_cards(frame: Frame) -> list[Card]:
    """The cards from which `observation`, `electronics` and `zero_point` give the frame's values back."""
    o = frame.observation
    values = {
        "VISIT": o.frame.visit,
        "SNAP": o.frame.snap,
        "DETECTOR": o.frame.detector,
        "FILTER": o.band or None,
        "TIMESYS": "TAI",
        "MJD-BEG": o.mjd_start_tai,
        "MJD-END": o.mjd_end_tai,
        "RDENDTAI": o.readout_end_tai,
        "EXPTIME": o.exposure_s,
        "RA": o.boresight_ra,
        "DEC": o.boresight_dec,
        "ROTPA": o.rotation_deg,
        "GAIN": frame.gain,
        "RDNOISE": frame.read_noise,
        "SATURATE": frame.saturation,
        "MAGZERO": frame.zero_point,
    }
    return [card(key, value) for key, value in values.items() if value is not None and value == value]


def card(key: str, value: Any, comment: str = "") -> Card:
    """A card that keeps every digit of a float (astropy cuts at 20 characters) and leaves NaN undefined.

    A keyword longer than FITS allows becomes a HIERARCH card; a comment that does not fit is cut.  Letters
    that are not ASCII are written as question marks.
    """
    if isinstance(value, str):
        value = printable(value)
    if len(key) > 8:
        key = f"HIERARCH {key}"
    if isinstance(value, float) and not math.isfinite(value):
        value = None
    if isinstance(value, float) and len(repr(value)) > 20:
        return Card.fromstring(f"{key:8}= {repr(value).upper()} / {comment}"[:80].ljust(80))
    room = 77 - len(str(Card(key, value)).rstrip())
    return Card(key, value, comment if key == "HISTORY" else comment[: max(room, 0)])


def printable(text: str) -> str:
    """The text as a card may hold it."""
    return UNPRINTABLE.sub("?", text)


def number_of(value: Any) -> float:
    """A header's number, also as text; NaN for anything else."""
    try:
        return NAN if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return NAN


def _spellings(key: str) -> tuple[str, ...]:
    return ALIASES.get(key, (key,))


def _frame_id(cards: Cards, name: str, visit: int | None, detector: int | None) -> FrameId:
    frame = FrameId(
        visit=cards.whole("VISIT", "EXPID", "OBSID", "EXPNUM") if visit is None else visit,
        snap=cards.whole("SNAP"),
        detector=cards.whole("DETECTOR", "CCDNUM", "CCD", "CCDID", "DET-ID", "LSST BUTLER DATAID DETECTOR")
        if detector is None
        else detector,
    )
    if not (visit is detector is None):
        check_id(frame, name)
    return frame


def check_id(frame: FrameId, name: str) -> None:
    """Raises BadConfiguration for a visit, snap or detector that no DIASource id holds, as a template's may be."""
    if not (0 <= frame.visit < 1 << 39 and 0 <= frame.snap < 1 << 15 and 0 <= frame.detector < 256):
        raise BadConfiguration(
            f"{name}: expected a visit below 2**39, a snap below 32768, a detector below 256 for the ids of "
            f"sources, got visit {frame.visit}, snap {frame.snap}, detector {frame.detector}: --visit and "
            "--detector say others"
        )


def _times(cards: Cards) -> tuple[float, float]:
    """Start and end, MJD TAI, NaN for none.  Without TIMESYS times are UTC (FITS standard 4.0, 9.2.1).

    An end before the start, as a date alone may be, is none: the exposure time says it.
    """
    scale = str(cards.find("TIMESYS") or "UTC").strip().upper()
    start, end = cards.number(*STARTS), cards.number(*ENDS)
    start, end = (one if abs(one) < FARTHEST else NAN for one in (start, end))
    start, end = _to_tai(start, scale), _to_tai(end, scale)
    if math.isnan(start):
        start = _written(cards, scale)
    if math.isnan(end):
        end = _dated(str(cards.find("DATE-END") or ""), scale)
    return start, start + _exposure(cards) / 86400 if math.isnan(end) or end < start else end


def _exposure(cards: Cards) -> float:
    """Seconds, NaN when unknown or below 0; TESS counts days."""
    days = str(cards.find("TIMEUNIT") or "").strip().lower() == "d"
    known = cards.number("EXPTIME", "XPOSURE", "EFFEXPTM")
    seconds = known if math.isfinite(known) else cards.number("EXPOSURE") * (86400 if days else 1)
    return seconds if seconds >= 0 else NAN


def _band(cards: Cards, instrument: Instrument) -> str:
    """The first word of the first filter that is one, else of the first, else ''.

    A number is a place in a wheel (HST's WFPC2), but under the instrument's own keyword and BAND, as WISE has it.
    """
    keys = _spellings(instrument.band_key)
    found = {key: cards.find(key) for key in keys}
    said = [
        str(one or "").split() for key, one in found.items() if isinstance(one, str) or key in (keys[0], "BAND")
    ]
    words = [one[0].removesuffix(".00000") for one in said if one]
    return next((one for one in words if not CLEAR.match(one)), words[0] if words else "")


def _written(cards: Cards, scale: str) -> float:
    """MJD TAI of the start as a text, of a date alone with the time beside it; NaN for none.

    A number beside a date is hours, as IRAF writes them.  25/11/98 is of the twentieth century (FITS standard 4.0,
    4.4.2.1).
    """
    date = str(cards.find("DATE-BEG", "DATE-OBS") or "").strip()
    date = re.sub(r"^(\d\d)/(\d\d)/(\d\d)$", r"19\3-\2-\1", date)
    date = re.sub(r"^(\d{4})/(\d\d)/(\d\d)", r"\1-\2-\3", date)
    time = cards.find(*CLOCKS)
    if "T" in date or ":" in date:
        return _dated(date, scale)
    hours = time / 24 if isinstance(time, float) and 0 <= time < 24 else 0.0
    beside = re.sub(r"^(?=\d:)", "0", str(time or "").strip())
    whole = _dated(f"{date}T{beside}", scale) if ":" in beside else NAN
    return _dated(date, scale) + hours if math.isnan(whole) else whole


def _dated(text: str, scale: str) -> float:
    """MJD TAI of an ISO 8601 date and time, which is UTC with a Z behind it, else on that scale."""
    text = text.strip()
    return _to_tai(_from_iso(text.rstrip("Z")), "UTC" if text.endswith("Z") else scale)


def _from_iso(text: str) -> float:
    """MJD of an ISO 8601 date and time on its scale of time, of UTC where a zone stands behind; NaN for none."""
    try:
        when = datetime.fromisoformat(text)
        zone = when.utcoffset() or timedelta()
    except ValueError:
        return NAN
    return (when.replace(tzinfo=None) - zone - datetime(1858, 11, 17)).total_seconds() / 86400


def _to_tai(mjd: float, scale: str) -> float:
    """MJD TAI of one on a scale of time, UTC where it is none of OFFSET.

    By ERFA's table of leap seconds, also for years before there were any; no look-up over the network.
    """
    if math.isnan(mjd):
        return NAN
    if scale in OFFSET:
        return mjd + OFFSET[scale] / 86400
    import erfa

    return float(erfa.ufunc.utctai(TAI_MJD_ZERO, mjd)[1])  # erfa.utctai warns of such years
