"""What a differencer is told when it starts; travels to its workers as JSON."""

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from gpudiff.edges.endpoint import endpoint_in
from gpudiff.model.config import Configuration, Service, from_tables
from gpudiff.model.errors import BadConfiguration
from gpudiff.model.regions import Region, Regions, parse

SUBTRACT = "gpudiff.science.subtract:subtract"
WORK, MAKE_UP, STOP = b"work", b"make up", b"stop"
NOW, LATER, NEVER = b"now", b"later", b"never"
"""What a differencer says to a worker (services.worker), and when a frame's forced photometry is measured."""
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

    @property
    def index(self) -> Path:
        """The file that keeps what is known of the templates."""
        return self.directory / "templates.sqlite"

    @property
    def put_off(self) -> Path:
        """The folder of forced photometry that waits for a quieter moment."""
        return self.directory / "put_off"

    @property
    def known_objects(self) -> str:
        """Where the positions for forced photometry are: a table of their own, or the store of known objects."""
        return self.configuration.service.forced_objects or self.configuration.sky.known_objects

    @property
    def regions(self) -> Regions:
        """The associators and what each has of the sky: those that are configured, or the one at `detections`."""
        listed = [parse(text) for text in self.configuration.service.associators] or [Region(self.detections)]
        return Regions(
            tuple(dataclasses.replace(one, endpoint=endpoint_in(self.directory, one.endpoint)) for one in listed)
        )

    @property
    def workers(self) -> int:
        """Worker processes: as configured, or one for each core this process may use."""
        return self.configuration.service.workers or len(os.sched_getaffinity(0))


def one_associator(given: str | None, service: Service) -> str:
    """The endpoint of the associator that is meant; raises BadConfiguration where one of several must be said."""
    if service.associators and not given:
        count = len(service.associators)
        raise BadConfiguration(
            f"expected --detections, for [service] associators has {count}: which one of them is meant?"
        )
    return given or service.detections


def to_json(settings: Settings) -> str:
    """The settings as a worker reads them."""
    return json.dumps(dataclasses.asdict(settings), default=str)


def from_json(text: str) -> Settings:
    """The settings that `to_json` wrote."""
    values = json.loads(text)
    configuration = from_tables(values.pop("configuration"))
    directory, templates = Path(values.pop("directory")), Path(values.pop("templates"))
    return Settings(directory, templates, configuration=configuration, **values)
