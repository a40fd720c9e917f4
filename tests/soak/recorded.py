"""A differencer whose pixel work is two made-up detections a frame, as a program of its own.

One known object lies on every frame, and is not detected: each frame has one forced flux.

Run as `python -m recorded DIRECTORY TEMPLATES FRAMES DETECTIONS [ASSOCIATORS ...]`; prints
`ready: frames ENDPOINT` when it is.
"""

import sys
from pathlib import Path

from batches import a_sources
from serving import a_difference, a_known_object

from gpudiff.model.config import Configuration, override
from gpudiff.model.frame import Difference, Frame
from gpudiff.model.tables import Table
from gpudiff.services import log
from gpudiff.services.differencer import Differencer
from gpudiff.services.settings import Settings

COUNT = 2


def process(frame: Frame, template: Frame, configuration: Configuration) -> tuple[Difference, Table]:
    """Two detections, at a place on the sky that no other frame has."""
    visit, detector = frame.observation.frame.visit, frame.observation.frame.detector
    ra = [10 + 0.002 * (visit % 100_000) + 0.001 * n for n in range(COUNT)]
    dec = -30 + 0.1 * detector
    return a_difference(frame, template), a_sources(COUNT, visit, detector, x=8.0, y=9.0, ra=ra, dec=dec)


def main(directory: str, templates: str, frames: str, detections: str, *associators: str) -> int:
    """Serve until SIGTERM."""
    values = {"workers": 2, "cutout_size": 5, "max_frame_bytes": 1 << 20, "lease_s": 5.0}
    values["forced_objects"] = a_known_object(Path(directory))
    configuration = override(Configuration(), "service", associators=associators, **values)
    configuration = override(configuration, "reliability", model="none")
    settings = Settings(
        Path(directory), Path(templates), frames, detections, configuration, process="recorded:process"
    )
    log.start("differencer", "json")
    differencer = Differencer(settings)
    differencer.stop_on_signals()
    differencer.run(lambda endpoint: print(f"ready: frames {endpoint}", flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
