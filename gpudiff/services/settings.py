"""What a differencer is told when it starts; travels to its workers as JSON."""

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from gpudiff.model.config import Configuration, from_tables
from gpudiff.model.errors import BadConfiguration

SUBTRACT = "gpudiff.science.subtract:subtract"
LEAST = {"workers": 0, "credit": 1, "lease_s": 0.1, "attempts": 1, "max_frame_bytes": 1, "cutout_size": 1}
WORK, STOP = b"work", b"stop"
FORCED, DEFERRED = b"1", b"0"
"""What a differencer says to a worker (services.worker)."""
READY, HANDING, DONE, ERROR = b"ready", b"handing", b"done", b"error"
"""What a worker says to its differencer."""


@dataclass(frozen=True)
class Settings:
    """directory : for status, dead letters and local sockets; templates : a folder of FITS files

    frames, detections : endpoints
    ring : folder of shared memory that this differencer offers its clients, '' for none
    process : "module:function" that makes (Difference, Table) of (science frame, template, configuration)
    """

    directory: Path
    templates: Path
    frames: str
    detections: str
    configuration: Configuration = field(default_factory=Configuration)
    process: str = SUBTRACT
    ring: str = ""

    def __post_init__(self) -> None:
        """Raises BadConfiguration for numbers that no service can run with."""
        service = self.configuration.service
        for key, least in LEAST.items():
            if getattr(service, key) < least:
                got = getattr(service, key)
                raise BadConfiguration(f"[service] {key}: expected {least} or more, got {got}")
        if service.cutout_size % 2 == 0:
            raise BadConfiguration(f"[service] cutout_size: expected an odd number, got {service.cutout_size}")

    @property
    def index(self) -> Path:
        """The file that keeps what is known of the templates."""
        return self.directory / "templates.sqlite"

    @property
    def workers(self) -> int:
        """Worker processes: as configured, or one for each core this process may use."""
        return self.configuration.service.workers or len(os.sched_getaffinity(0))


def to_json(settings: Settings) -> str:
    """The settings as a worker reads them."""
    return json.dumps(dataclasses.asdict(settings), default=str)


def from_json(text: str) -> Settings:
    """The settings that `to_json` wrote."""
    values = json.loads(text)
    configuration = from_tables(values.pop("configuration"))
    directory, templates = Path(values.pop("directory")), Path(values.pop("templates"))
    return Settings(directory, templates, configuration=configuration, **values)
