"""Configuration: one TOML file, one dataclass a section, every key known and checked."""

import dataclasses
import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from gpudiff.model.errors import BadConfiguration
from gpudiff.model.provenance import canonical, digest
from gpudiff.model.regions import problem

STRINGS = tuple[str, ...]
"""The type of a key that takes a list of strings."""


@dataclass(frozen=True)
class Range:
    """What a number may be, both ends included; a NaN is in no range."""

    least: float
    greatest: float = inf
    odd: bool = False

    def expected(self, value: float) -> str:
        """What was expected of a number, '' when it is that."""
        if self.odd and value % 2 == 0:
            return "an odd number"
        if self.least <= value <= self.greatest:
            return ""
        return f"{self.least:g} to {self.greatest:g}" if self.greatest < inf else f"{self.least:g} or more"


@dataclass(frozen=True)
class Form:
    """What a text must look like: a pattern, and how it is called."""

    pattern: str
    name: str

    def expected(self, value: str) -> str:
        """What was expected of a text, '' when it is that."""
        return "" if re.fullmatch(self.pattern, value) else self.name


Count = Annotated[int, Range(1)]
Order = Annotated[int, Range(0, 10)]
Threads = Annotated[int, Range(0, 1024)]
Frames = Annotated[int, Range(1, 64)]
NotNegative = Annotated[float, Range(0)]
Sigmas = Annotated[float, Range(0, 1e6)]
Positive = Annotated[float, Range(1e-3)]
Factor = Annotated[float, Range(1)]
Share = Annotated[float, Range(0, 1)]
Elevation = Annotated[float, Range(-90, 90)]
Patience = Annotated[float, Range(0.01, 3600)]
Gigabytes = Annotated[float, Range(0, 1e4)]
Store = Annotated[str, Form(r"sqlite|postgres(ql)?://.+", "sqlite or a postgresql:// URL")]
Endpoint = Annotated[str, Form(r"tcp://\S+:(\d+|\*)|ipc://.+", "tcp://HOST:PORT or ipc://PATH")]


@dataclass(frozen=True)
class Instrument:
    """What headers do not say, or say under other names.  Numbers here win over the header's."""

    gain: NotNegative = 0.0  # electrons per image unit; 0: from the header
    read_noise: float = -1.0  # electrons; negative: from the header
    saturation: NotNegative = 0.0  # image units; 0: from the header
    gain_key: str = "GAIN"  # EGAIN beside it wins: GAIN is a setting then
    read_noise_key: str = "RDNOISE"
    saturation_key: str = "SATURATE"
    band_key: str = "FILTER"
    zero_point_key: str = "MAGZERO"
    bad_bits: Annotated[int, Range(0, 2**62)] = 0  # added up, of masks that do not name theirs (MP_*); 0: all


@dataclass(frozen=True)
class Calibrate:
    """From a frame to an exposure."""

    sky_cell: Count = 256  # px, mesh of the sky
    min_usable_fraction: Share = 0.6  # of the pixels; below it the frame is refused


@dataclass(frozen=True)
class Match:
    """The matching kernel."""

    algorithm: str = "auto"  # alard-lupton | delta | whole-image | zogy | auto: delta where alard-lupton cannot
    align: str = "auto"  # wcs | stars | none | auto: how the template comes onto the science frame's pixel grid
    convolve: str = "auto"  # template | science | auto
    candidates: Count = 600  # stars in the fit, at most
    candidate_snr: Sigmas = 25.0  # peak over sky noise
    spatial_order: Order = 2  # of the kernel over the field, lowered for few stars
    background_order: Order = 2
    half_width: Annotated[int, Range(1, 1000)] = 12  # px, of the kernel at the least; a wide kernel gets more
    threads: Threads = 0  # 0: one a core; changes no result
    device: str = "auto"  # cpu | cuda | cuda:N | auto: a GPU where one can be used
    gpu_memory: Gigabytes = 0.0  # GB that templates may stay in on it, of each worker; 0: half of what is free
    gpu_frames: Frames = 2  # frames that a worker has at work on it at a time; fewer where its memory is short


@dataclass(frozen=True)
class Detect:
    """From the difference to DIASources."""

    threshold: Sigmas = 5.0  # sigma
    decorrelate: bool = True


@dataclass(frozen=True)
class Service:
    """`gpudiff run` and its two halves."""

    frames: Endpoint = "tcp://127.0.0.1:5570"  # where clients send frames
    detections: Endpoint = "ipc://{directory}/detections.ipc"  # differencer to associator
    associators: tuple[str, ...] = ()  # several, by sky: "tcp://host:5571 ra 0 180 dec -90 0", ...
    workers: Threads = 0  # 0: one a core
    credit: Count = 4  # frames a client may have in flight
    lease_s: Annotated[float, Range(0.1)] = 60.0
    attempts: Count = 3
    max_frame_bytes: Count = 1 << 30
    association_radius: NotNegative = 1.0  # arcsec
    cutout_size: Annotated[int, Range(1, 1001, odd=True)] = 51  # px, odd
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
    plate_scale: Positive = 20.0  # arcsec a mm of the focal plane
    field_radius: Annotated[float, Range(0, 180)] = 1.75  # degrees, of that circle
    latitude: Elevation = -30.2446  # degrees
    longitude: Annotated[float, Range(-360, 360)] = -70.7494  # degrees, east of Greenwich
    altitude_low: Elevation = 20.0  # degrees
    altitude_high: Elevation = 86.5
    azimuth_speed: Positive = 7.0  # degrees a second
    azimuth_acceleration: Positive = 7.0  # degrees a second^2
    azimuth_jerk: Positive = 28.0  # degrees a second^3
    altitude_speed: Positive = 3.5
    altitude_acceleration: Positive = 3.5
    altitude_jerk: Positive = 14.0
    dome_speed: Positive = 1.5  # degrees a second, in azimuth
    dome_altitude_speed: Positive = 1.75
    settle_s: NotNegative = 3.0
    readout_s: NotNegative = 3.07  # slewing goes on meanwhile
    filter_change_s: NotNegative = 120.0
    ahead_s: NotNegative = 15.0  # what can be reached in so long after the last announced visit is warmed too
    warm_bytes: Annotated[int, Range(0)] = 8 << 30  # of templates that are read before their frames come


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
    tracklet_slowest: NotNegative = 0.02  # arcsec a minute
    tracklet_fastest: NotNegative = 3.0  # arcsec a minute
    tracklet_window: NotNegative = 90.0  # minutes
    tracklet_chance: Share = 1e-3  # false links a detection, at most


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

    store: Store = "sqlite"  # or a postgresql:// URL
    group: Annotated[int, Range(1, 10000)] = 8  # frames that may share a transaction
    group_s: Annotated[float, Range(0, 10)] = 0.05  # how long a transaction may wait for more of them
    patience_s: Patience = 2.0  # how long batches may wait for each other before anything is left out
    missing_s: NotNegative = 20.0  # after the end of readout: a detector without a frame is MISSING
    close_s: NotNegative = 45.0  # after the end of readout: the visit is CLOSED, whatever is missing
    seal_s: NotNegative = 43200.0  # after the closing: nothing can be added to the visit any more
    suspect_factor: Factor = 5.0  # times the detector's running median of detections: its alerts are held
    suspect_count: Count = 5000  # detections of one frame: its alerts are held


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

REGIONS = ("service", "associators")


def load(path: str | Path | None) -> Configuration:
    """The configuration in a TOML file; None: the defaults.

    Raises BadConfiguration for a file that is absent or not TOML, and as `from_tables` does.
    """
    if path is None:
        return Configuration()
    import tomllib  # most commands have no file

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
    types = get_type_hints(kind, include_extras=True)
    made = {}
    for key, value in values.items():
        where = f"[{section}] {key}: "
        if key not in types:
            wrong.append(f"{where}no such key; expected one of {sorted(types)}{_perhaps(key, types)}")
            continue
        plain, *rules = get_args(types[key]) if get_origin(types[key]) is Annotated else (types[key],)
        typed = _typed(plain, value)
        choices = CHOICES.get((section, key))
        expected = _expected(plain, typed) or next(filter(None, (rule.expected(typed) for rule in rules)), "")
        if not expected and choices and typed not in choices:
            expected = f"one of {choices}"
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


def _expected(kind: Any, value: Any) -> str:
    """The type that was expected of a value, '' when it has it."""
    if kind == STRINGS:
        good = isinstance(value, tuple) and all(type(one) is str for one in value)
        return "" if good else "a list of strings"
    return "" if type(value) is kind else kind.__name__


def _perhaps(word: str, words: Iterable[str]) -> str:
    """A hint, '' when nothing is near: the word that was perhaps meant."""
    near = difflib.get_close_matches(word, list(words), 1)
    return f"; did you mean {near[0]}?" if near else ""
