"""Configuration: one TOML file, one dataclass a section, every key known and checked."""

import dataclasses
import difflib
import json
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, get_type_hints

from gpudiff.model.errors import BadConfiguration
from gpudiff.model.provenance import canonical, digest
from gpudiff.model.regions import problem

STRINGS = tuple[str, ...]
"""The type of a key that takes a list of strings."""


@dataclass(frozen=True)
class Instrument:
    """What headers do not say, or say under other names.  Numbers here win over the header's."""

    gain: float = 0.0  # electrons per image unit; 0: from the header
    read_noise: float = -1.0  # electrons; negative: from the header
    saturation: float = 0.0  # image units; 0: from the header
    gain_key: str = "GAIN"
    read_noise_key: str = "RDNOISE"
    saturation_key: str = "SATURATE"
    band_key: str = "FILTER"
    zero_point_key: str = "MAGZERO"


@dataclass(frozen=True)
class Calibrate:
    """From a frame to an exposure."""

    sky_cell: int = 256  # px, mesh of the sky
    min_usable_fraction: float = 0.6  # of the pixels; below it the frame is refused


@dataclass(frozen=True)
class Match:
    """The matching kernel."""

    algorithm: str = "auto"  # alard-lupton | delta | whole-image | zogy | auto: delta where alard-lupton cannot
    align: str = "auto"  # wcs | stars | none | auto: how the template comes onto the science frame's pixel grid
    convolve: str = "auto"  # template | science | auto
    candidates: int = 600  # stars in the fit, at most
    candidate_snr: float = 25.0  # peak over sky noise
    spatial_order: int = 2  # of the kernel over the field, lowered for few stars
    background_order: int = 2
    half_width: int = 12  # px, of the kernel at the least; a wide kernel gets more
    threads: int = 0  # 0: one a core; changes no result
    device: str = "auto"  # cpu | cuda | cuda:N | auto: a GPU where one can be used
    gpu_memory: float = 0.0  # GB that templates may stay in on it, of each worker; 0: half of what is free
    gpu_frames: int = 2  # frames that a worker has at work on it at a time; fewer where its memory is short


@dataclass(frozen=True)
class Detect:
    """From the difference to DIASources."""

    threshold: float = 5.0  # sigma
    decorrelate: bool = True


@dataclass(frozen=True)
class Service:
    """`gpudiff run` and its two halves."""

    frames: str = "tcp://127.0.0.1:5570"  # where clients send frames
    detections: str = "ipc://{directory}/detections.ipc"  # differencer to associator
    associators: tuple[str, ...] = ()  # several, by sky: "tcp://host:5571 ra 0 180 dec -90 0", ...
    workers: int = 0  # 0: one a core
    credit: int = 4  # frames a client may have in flight
    lease_s: float = 60.0
    attempts: int = 3
    max_frame_bytes: int = 1 << 30
    association_radius: float = 1.0  # arcsec
    cutout_size: int = 51  # px, odd
    cutout_planes: str = "all"  # which cutouts have variance, mask and PSF: all, or the difference alone
    sinks: tuple[str, ...] = ()  # where alerts go beside the archive: "zmq+tcp://127.0.0.1:5571", ... (ALERTS.md)
    forced: bool = True  # fluxes at known positions without a detection; made up later when frames queue up
    forced_objects: str = ""  # table of those positions, diaObjectId, ra, dec; "": [sky] known_objects
    forced_room: int = 4 << 30  # bytes on disk for those that wait; beyond them they are left out, and counted
    ring: str = "/dev/shm"  # folder for shared memory with clients on this machine; "": none
    calibrations: str = ""  # folder of calibrations for raw frames
    raw: bool = False  # true: frames that do not say whether they are calibrated are raw


@dataclass(frozen=True)
class Telescope:
    """Where the telescope stands, how fast it moves, what its camera sees: to make ready what comes next."""

    focal_plane: str = ""  # CSV file of the camera's sensors; without it a visit is a circle on the sky
    plate_scale: float = 20.0  # arcsec a mm of the focal plane
    field_radius: float = 1.75  # degrees, of that circle
    latitude: float = -30.2446  # degrees
    longitude: float = -70.7494  # degrees, east of Greenwich
    altitude_low: float = 20.0  # degrees
    altitude_high: float = 86.5
    azimuth_speed: float = 7.0  # degrees a second
    azimuth_acceleration: float = 7.0  # degrees a second^2
    azimuth_jerk: float = 28.0  # degrees a second^3
    altitude_speed: float = 3.5
    altitude_acceleration: float = 3.5
    altitude_jerk: float = 14.0
    dome_speed: float = 1.5  # degrees a second, in azimuth
    dome_altitude_speed: float = 1.75
    settle_s: float = 3.0
    readout_s: float = 3.07  # slewing goes on meanwhile
    filter_change_s: float = 120.0
    ahead_s: float = 15.0  # what can be reached in so long after the last announced visit is warmed too
    warm_bytes: int = 8 << 30  # of templates that are read before their frames come


@dataclass(frozen=True)
class Security:
    """Who may come in from beyond this machine."""

    keys: str = ""  # folder that `gpudiff keys` makes: every tcp socket then asks for keys; "": this machine only
    insecure: bool = False  # true: addresses beyond this machine without keys, on a network that you trust


@dataclass(frozen=True)
class Sky:
    """What is known of the sky, and when detections of one night are linked."""

    known_objects: str = ""  # store made by `gpudiff objects build`
    ephemerides: str = ""  # file made by `gpudiff ephemerides build`
    tracklet_slowest: float = 0.02  # arcsec a minute
    tracklet_fastest: float = 3.0  # arcsec a minute
    tracklet_window: float = 90.0  # minutes
    tracklet_chance: float = 1e-3  # false links a detection, at most


@dataclass(frozen=True)
class Reliability:
    """The real/bogus model."""

    model: str = "default"  # default: the one that ships; a file of `gpudiff train-reliability`; none


@dataclass(frozen=True)
class Broker:
    """The mini-broker: filters over the alerts that leave."""

    filters: str = ""  # TOML file; '': no broker


@dataclass(frozen=True)
class Ledger:
    """How results are committed, and when a visit's books are closed."""

    store: str = "sqlite"  # or a postgresql:// URL
    group: int = 8  # frames that may share a transaction; fewer than send, so that others are on their way
    group_s: float = 0.05  # how long a transaction may wait for more of them
    patience_s: float = 2.0  # how long batches may wait for each other before anything is left out
    missing_s: float = 20.0  # after the end of readout: a detector without a frame is MISSING
    close_s: float = 45.0  # after the end of readout: the visit is CLOSED, whatever is missing
    seal_s: float = 43200.0  # after the closing: nothing can be added to the visit any more
    suspect_factor: float = 5.0  # times the detector's running median of detections: its alerts are held
    suspect_count: int = 5000  # detections of one frame: its alerts are held


@dataclass(frozen=True)
class Configuration:
    """The whole file."""

    instrument: Instrument = field(default_factory=Instrument)
    calibrate: Calibrate = field(default_factory=Calibrate)
    match: Match = field(default_factory=Match)
    detect: Detect = field(default_factory=Detect)
    service: Service = field(default_factory=Service)
    telescope: Telescope = field(default_factory=Telescope)
    reliability: Reliability = field(default_factory=Reliability)
    broker: Broker = field(default_factory=Broker)
    ledger: Ledger = field(default_factory=Ledger)
    security: Security = field(default_factory=Security)
    sky: Sky = field(default_factory=Sky)

    def digest(self, *sections: str) -> str:
        """Hex digest of the named sections, without what changes no result: for a provenance step."""
        values = {name: dataclasses.asdict(getattr(self, name)) for name in sections}
        for section in values.values():
            for name in ("threads", "device", "gpu_memory", "gpu_frames"):
                section.pop(name, None)
        return digest(canonical(values))


CHOICES = {
    ("match", "align"): ("auto", "wcs", "stars", "none"),
    ("match", "convolve"): ("template", "science", "auto"),
    ("match", "algorithm"): ("auto", "alard-lupton", "delta", "whole-image", "zogy"),
    ("service", "cutout_planes"): ("difference", "all"),
}

MOTION = ("speed", "acceleration", "jerk")

RANGES: dict[tuple[str, str], tuple[float, float]] = {
    ("instrument", "gain"): (0, inf),
    ("instrument", "saturation"): (0, inf),
    ("calibrate", "sky_cell"): (1, inf),
    ("calibrate", "min_usable_fraction"): (0, 1),
    ("match", "candidates"): (1, inf),
    ("match", "candidate_snr"): (0, inf),
    ("match", "spatial_order"): (0, 10),
    ("match", "background_order"): (0, 10),
    ("match", "half_width"): (1, 1000),
    ("match", "threads"): (0, 1024),
    ("match", "gpu_memory"): (0, 1e4),
    ("match", "gpu_frames"): (1, 64),
    ("detect", "threshold"): (0, inf),
    ("service", "workers"): (0, 1024),
    ("service", "credit"): (1, inf),
    ("service", "lease_s"): (0.1, inf),
    ("service", "attempts"): (1, inf),
    ("service", "max_frame_bytes"): (1, inf),
    ("service", "association_radius"): (0, inf),
    ("service", "cutout_size"): (1, 1001),
    ("telescope", "plate_scale"): (1e-3, inf),
    ("telescope", "field_radius"): (0, 180),
    ("telescope", "latitude"): (-90, 90),
    ("telescope", "longitude"): (-360, 360),
    ("telescope", "altitude_low"): (-90, 90),
    ("telescope", "altitude_high"): (-90, 90),
    **{("telescope", f"{axis}_{what}"): (1e-3, inf) for axis in ("azimuth", "altitude") for what in MOTION},
    ("telescope", "dome_speed"): (1e-3, inf),
    ("telescope", "dome_altitude_speed"): (1e-3, inf),
    ("telescope", "settle_s"): (0, inf),
    ("telescope", "readout_s"): (0, inf),
    ("telescope", "filter_change_s"): (0, inf),
    ("telescope", "ahead_s"): (0, inf),
    ("telescope", "warm_bytes"): (0, inf),
    ("ledger", "group"): (1, 10000),
    ("ledger", "group_s"): (0, 10),
    ("ledger", "patience_s"): (0.01, 3600),
    ("ledger", "missing_s"): (0, inf),
    ("ledger", "close_s"): (0, inf),
    ("ledger", "seal_s"): (0, inf),
    ("ledger", "suspect_factor"): (1, inf),
    ("ledger", "suspect_count"): (1, inf),
    ("sky", "tracklet_slowest"): (0, inf),
    ("sky", "tracklet_fastest"): (0, inf),
    ("sky", "tracklet_window"): (0, inf),
    ("sky", "tracklet_chance"): (0, 1),
}
"""Least and greatest value; a NaN is out of every range."""

ENDPOINT = (r"tcp://\S+:(\d+|\*)|ipc://.+", "tcp://HOST:PORT or ipc://PATH")
FORMS = {
    ("service", "frames"): ENDPOINT,
    ("service", "detections"): ENDPOINT,
    ("ledger", "store"): (r"sqlite|postgres(ql)?://.+", "sqlite or a postgresql:// URL"),
}
"""What a text must look like: a pattern, and how it is called."""

REGIONS = ("service", "associators")
ODD = {("service", "cutout_size")}


def load(path: str | Path | None) -> Configuration:
    """The configuration in a TOML file; None: the defaults.

    Raises BadConfiguration for a file that is absent or not TOML, and as `from_tables` does.
    """
    if path is None:
        return Configuration()
    try:
        tables = tomllib.loads(Path(path).read_bytes().decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadConfiguration(f"{path}: expected a TOML file: {error}") from None
    return from_tables(tables, str(path))


def from_tables(tables: dict[str, Any], name: str = "configuration") -> Configuration:
    """The configuration in nested dicts.

    Raises BadConfiguration that names all that is wrong at once, a line each: unknown sections and keys, with
    the nearest one there is; values of the wrong type, outside their choices or their range.
    """
    wrong: list[str] = []
    sections = get_type_hints(Configuration)
    made = {}
    for section, values in tables.items():
        if section not in sections:
            wrong.append(f"[{section}]: expected one of {sorted(sections)}{_perhaps(section, sections)}")
        elif not isinstance(values, dict):
            wrong.append(f"[{section}]: expected one of {sorted(sections)} with keys below it, got {values!r}")
        else:
            made[section] = _section(sections[section], section, values, wrong)
    _refuse(name, wrong)
    return Configuration(**{section: sections[section](**values) for section, values in made.items()})


def override(configuration: Configuration, section: str, **values: Any) -> Configuration:
    """The configuration with some values of one section changed, checked as a file's are."""
    wrong: list[str] = []
    before = getattr(configuration, section)
    changed = _section(type(before), section, values, wrong)
    _refuse("command line", wrong)
    return dataclasses.replace(configuration, **{section: dataclasses.replace(before, **changed)})


def to_toml(configuration: Configuration) -> str:
    """Every section and key with its value, as a TOML file that `load` reads back to the same configuration."""
    lines = []
    for section, values in dataclasses.asdict(configuration).items():
        lines += ["", f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    return "\n".join(lines[1:]) + "\n"


def _toml(value: Any) -> str:
    """A value as TOML writes it: strings and numbers as JSON does, but for infinities."""
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _refuse(name: str, wrong: list[str]) -> None:
    """Raise BadConfiguration when anything is wrong."""
    if len(wrong) == 1:
        raise BadConfiguration(f"{name}: {wrong[0]}")
    if wrong:
        raise BadConfiguration("\n  ".join([f"{name}: {len(wrong)} things are wrong:", *wrong]))


def _section(kind: type, section: str, values: dict[str, Any], wrong: list[str]) -> dict[str, Any]:
    """The values that are good, in their types; one line in `wrong` for each that is not."""
    types = get_type_hints(kind)
    made = {}
    for key, value in values.items():
        where = f"[{section}] {key}: "
        if key not in types:
            wrong.append(f"{where}no such key; expected one of {sorted(types)}{_perhaps(key, types)}")
            continue
        typed = _typed(types[key], value)
        expected = _expected(types[key], section, key, typed)
        if expected:
            wrong.append(f"{where}expected {expected}, got {value!r}")
        elif (section, key) == REGIONS and (said := problem(typed)):
            wrong.append(f"{where}{said}")
        else:
            made[key] = typed
    return made


def _typed(expected: Any, value: Any) -> Any:
    """The value with a whole number as float, and a list as tuple, where the type asks for that."""
    if expected is float and type(value) is int:
        return float(value)
    return tuple(value) if expected == STRINGS and isinstance(value, list) else value


def _expected(expected: Any, section: str, key: str, value: Any) -> str:
    """What was expected of a value, '' when it is that."""
    if expected == STRINGS:
        good = isinstance(value, tuple) and all(type(one) is str for one in value)
        return "" if good else "a list of strings"
    if type(value) is not expected:
        return expected.__name__
    if value not in CHOICES.get((section, key), (value,)) and value == value:
        return f"one of {CHOICES[section, key]}"
    pattern, form = FORMS.get((section, key), ("", ""))
    if form and not re.fullmatch(pattern, value):
        return form
    if (section, key) in ODD and value % 2 == 0:
        return "an odd number"
    low, high = RANGES.get((section, key), (-inf, inf))
    if type(value) in (int, float) and not low <= value <= high:
        return f"{low:g} to {high:g}" if high < inf else f"{low:g} or more"
    return ""


def _perhaps(word: str, words: Iterable[str]) -> str:
    """A hint, '' when nothing is near: the word that was perhaps meant."""
    near = difflib.get_close_matches(word, list(words), 1)
    return f"; did you mean {near[0]}?" if near else ""
