"""A differencer with a quick stand-in for the subtraction, and a small associator, for tests."""

import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import WCS, a_sources

from gpudiff.edges import control, detections
from gpudiff.edges.control import Receipt
from gpudiff.edges.fits import write_frame
from gpudiff.edges.transport import Dealer, Router, ServerKeys, wait
from gpudiff.model.config import Configuration, override
from gpudiff.model.errors import BadConfiguration, DeviceFailed, DeviceFull, NeighbourLost, NoUsablePixels
from gpudiff.model.frame import Difference, Exposure, Frame, FrameId, Observation, Quality
from gpudiff.model.plane import constant
from gpudiff.model.sky import Sky
from gpudiff.model.tables import Table
from gpudiff.services.differencer import Differencer
from gpudiff.services.settings import Settings

SHAPE = (24, 32)
KNOWN = 11
PSFS = "psf", "science_psf", "matched_psf", "kernel"
TIMEOUT_S = 30.0
"""Of every wait below: a loaded machine starts a worker in seconds, a broken one never."""


def a_frame(visit: int = 1, detector: int = 4, unit: str = "adu", fill: float | None = None, **values) -> Frame:
    """A small frame; `unit` tells `quick` what to do with it, `fill` makes all pixels one value."""
    image = np.random.default_rng(visit).normal(100, 5, SHAPE).astype(np.float32)
    if fill is not None:
        image[:] = fill
    observation = Observation(FrameId(visit, 0, detector), band="r", mjd_start_tai=61000.0, mjd_end_tai=61000.1)
    return Frame(f"frame {visit}", observation, image, gain=1.5, wcs=dict(WCS), unit=unit, **values)


def quick(frame: Frame, template: Frame, configuration: Configuration) -> tuple[Difference, Table]:
    """What stands in for science.subtract: two sources in each frame, or what the frame's unit asks for."""
    if not np.isfinite(frame.image).any():
        raise NoUsablePixels(f"{frame.name}: expected finite pixels, found none")
    command, _, argument = frame.unit.partition(":")
    if command == "die" or (command == "die-once" and mark(Path(argument))):
        os.kill(os.getpid(), signal.SIGKILL)
    if command == "moment" and mark(Path(argument)):
        raise NeighbourLost("not now")
    if command == "device" and mark(Path(argument)):
        raise DeviceFailed("device cuda:0: an illegal memory access was encountered")
    if command == "full" and mark(Path(argument)):
        raise DeviceFull("device cuda:0: out of memory")
    if command == "never":
        raise NeighbourLost("never")
    if command == "bug":
        raise ZeroDivisionError("a planted bug")
    if command == "hold":
        until(Path(argument).exists)
    visit, detector = frame.observation.frame.visit, frame.observation.frame.detector
    return a_difference(frame, template), a_sources(2, visit=visit, detector=detector, x=8.0, y=9.0)


def mark(path: Path) -> bool:
    """Whether this is the first time; remembered in a file."""
    first = not path.exists()
    path.touch()
    return first


def a_difference(frame: Frame, template: Frame) -> Difference:
    """Science minus template, pixel by pixel."""
    mask = np.zeros(frame.image.shape, np.int32)
    plain = {"mask": mask, "sky": constant(0, SHAPE), "sky_variance": constant(1, SHAPE), "gain": 1.0}
    return made(
        Difference,
        science=made(Exposure, frame=frame, image=frame.image, **plain),
        template=made(Exposure, frame=template, image=template.image, **plain),
        image=frame.image - template.image,
        variance=np.full(SHAPE, 2, np.float32),
        mask=mask,
        matched=template.image,
        **{name: np.full((9, 15, 15), 1 / 225, np.float32) for name in PSFS},
        decorrelated=True,
        quality=made(Quality, convolved="TEMPLATE", algorithm="quick"),
        fingerprint=frame.digest,
        steps=(),
        seconds={"difference": 0.001},
    )


def made(noun: type, **values: Any) -> Any:
    """A noun of which the service needs only some fields; the others are 0."""
    return noun(**{field.name: values.get(field.name, 0) for field in dataclasses.fields(noun)})


class SmallAssociator:
    """Commits every batch once; `answer` may be replaced to misbehave."""

    def __init__(self, endpoint: str = "tcp://127.0.0.1:*", keys: ServerKeys | None = None):
        self.router = Router(endpoint, keys=keys)
        self.endpoint = self.router.endpoint
        self.batches: dict[FrameId, Any] = {}
        self.made_up: dict[FrameId, Any] = {}
        self.received = 0
        self.answer: Callable[[Any], detections.Answer | None] = self.commit
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def commit(self, batch: Any) -> detections.Answer:
        """Committed the first time, duplicate from then on."""
        frame = batch.observation.frame
        status = "duplicate" if frame in self.batches else "committed"
        self.batches.setdefault(frame, batch)
        identity = [frame.visit, frame.snap, frame.detector]
        return detections.Answer(identity, status, alerts=len(batch.sources), new=len(batch.sources))

    def control(self, parts: Any) -> detections.Answer | None:
        """Control messages are not answered."""
        return None

    def later(self, made: Any) -> detections.Answer:
        """As `commit`, of forced photometry that was made up."""
        new = made.frame not in self.made_up
        self.made_up.setdefault(made.frame, made)
        identity = [made.frame.visit, made.frame.snap, made.frame.detector]
        return detections.Answer(identity, "committed" if new else "duplicate")

    def _run(self) -> None:
        while not self._stop.is_set():
            if not wait([self.router], 0.05):
                continue
            message = self.router.receive()
            if message is None:
                continue
            if detections.is_control(message.parts):
                answer = self.control(message.parts)
            elif detections.is_later(message.parts):
                answer = self.later(detections.decode_later(message.parts))
            else:
                self.received += 1
                answer = self.answer(detections.decode(message.parts))
            if answer is not None:
                self.router.send(message.sender, detections.encode_answer(answer))

    def close(self) -> None:
        """Stop answering, close the socket."""
        self._stop.set()
        self._thread.join(TIMEOUT_S)
        self.router.close()


class Served:
    """A running differencer; `stop` ends it, `status` reads its status.json."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.differencer: Differencer = bound(lambda: Differencer(settings))
        self.endpoint = self.differencer.endpoint
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.differencer.run()
        except Exception as error:
            self.error = error

    def status(self) -> dict[str, Any]:
        """What status.json says now."""
        return json.loads((self.settings.directory / "status.json").read_text())

    def stop(self) -> None:
        """Finish what is in hand, then end."""
        if self._thread.is_alive():
            self.differencer.stop()
            self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()

    def joined(self) -> bool:
        """Whether it has ended by itself within the time-out."""
        self._thread.join(TIMEOUT_S)
        return not self._thread.is_alive()


class Raw:
    """A client that sends what it likes."""

    def __init__(self, endpoint: str):
        self.dealer = Dealer(endpoint)

    def ask(self, parts: list) -> Receipt:
        """The first receipt that is more than `accepted` or `busy`."""
        self.dealer.send(parts)
        return self.receipt()

    def receipt(self) -> Receipt:
        while True:
            message = self.dealer.receive(TIMEOUT_S)
            assert message is not None
            receipt = control.as_receipt(control.decode(message))
            if receipt.status not in ("accepted", "busy"):
                return receipt


def bound(make: Callable[[], Any]) -> Any:
    """What `make` makes at an endpoint, once the endpoint's last owner has let go of it."""
    made: list[Any] = []

    def free() -> bool:
        try:
            made.append(make())
        except BadConfiguration:
            return False
        return True

    until(free)
    return made[0]


def settings_in(directory: Path, detections_endpoint: str, **service: Any) -> Settings:
    """Settings of a small service: one worker, one template that covers every frame here."""
    templates = directory / "templates"
    templates.mkdir(exist_ok=True)
    write_frame(templates / "template.fits", a_frame(visit=0))
    values = {"workers": 1, "cutout_size": 5, "max_frame_bytes": 1 << 20, **service}
    configuration = override(Configuration(), "service", **values)
    configuration = override(configuration, "reliability", model="none")  # `quick` makes no score to judge by
    return Settings(
        directory, templates, "tcp://127.0.0.1:*", detections_endpoint, configuration, process="serving:quick"
    )


def a_known_object(directory: Path) -> str:
    """A table of one known object, KNOWN, that lies on every frame of `a_frame` and is detected on none."""
    ra, dec = Sky(WCS).to_sky(20.0, 15.0)
    path = directory / "known.csv"
    path.write_text(f"diaObjectId,ra,dec\n{KNOWN},{float(ra)!r},{float(dec)!r}\n")
    return str(path)


@contextmanager
def serving(directory: Path, associator: SmallAssociator, **service: Any) -> Iterator[Served]:
    """A differencer with `quick` for its subtraction."""
    with pytest.MonkeyPatch.context() as patch:
        tests = Path(__file__).parent
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tests), str(tests.parent)]))
        served = Served(settings_in(directory, associator.endpoint, **service))
        try:
            yield served
        finally:
            served.stop()


def until(fact: Callable[[], Any]) -> None:
    """Wait until something is so."""
    last = time.monotonic() + TIMEOUT_S
    while not fact():
        assert time.monotonic() < last, "waited too long"
        time.sleep(0.02)
