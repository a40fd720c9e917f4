"""A worker process: one frame at a time, or several on a GPU, from their pixels to their committed detections.

Started by services.workers as `python -m gpudiff.services.worker ENDPOINT ...`; its settings are the first line of
its standard input, where no other user sees their passwords.  For each frame that it may have it has a
socket to one of the endpoints, says [ready] there, takes [work, received_tai, when, frame message ...] and answers
[handing] when only the associator is waited for, then [done, JSON] or [error, JSON]; it answers [make up, path]
likewise.  It ends when it is told to over any of them, and when the differencer does.
"""

import dataclasses
import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gpudiff.edges import put_off, wire
from gpudiff.edges.keys import keys_by_endpoint
from gpudiff.edges.positions import known_positions
from gpudiff.edges.reliability_model import model_named
from gpudiff.edges.ring import Segments
from gpudiff.edges.templates import CACHE_BYTES, TemplateStore
from gpudiff.edges.transport import Pair
from gpudiff.edges.wire_header import Header, place
from gpudiff.model.batch import DetectionBatch
from gpudiff.model.errors import DeviceFailed, GpudiffError, StoreFailed
from gpudiff.model.forced import ForcedSquares, MadeUp, PutOff
from gpudiff.science.batch import batch
from gpudiff.science.forced_photometry import forced_squares, measured
from gpudiff.science.instrument_signature import remove_signature
from gpudiff.science.reliability import rate
from gpudiff.science.subtract import open_device
from gpudiff.services.handover import Handovers
from gpudiff.services.raw_frames import calibrator
from gpudiff.services.settings import DONE, ERROR, HANDING, MAKE_UP, NEVER, NOW, READY, STOP, Settings, from_json

LISTEN_S = 60.0


def main(*endpoints: str) -> int:
    """Work until told to stop, or until the device fails: the frames in hand are then given to other workers."""
    import astropy.wcs  # noqa: F401  # now, not in the first frame's latency

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the differencer decides when a worker ends
    settings = from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()
    configuration = settings.configuration
    try:
        device = open_device(configuration)  # a worker that cannot compute takes no frame
    except DeviceFailed as error:
        return _said(error)
    lanes = device.lanes(configuration.match.gpu_frames, _say)
    for endpoint in endpoints[: lanes.most]:
        seat = partial(_seat, settings, endpoint, lanes)
        threading.Thread(target=lambda seat=seat: ended.put(seat()), daemon=True).start()
    return ended.get()


def _seat(settings: Settings, endpoint: str, lanes: Any) -> int:
    """Take one frame after the other; the exit status."""
    try:
        Worker(settings, Pair(connect=endpoint), lanes).run()
    except DeviceFailed as error:
        return _said(error)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _said(error: DeviceFailed) -> int:
    _say(f"ends: {error}")
    return error.exit_status


def _say(what: object) -> None:
    print(f"worker {os.getpid()}: {what}", file=sys.stderr)


def _end_with_parent() -> None:
    """Standard input is a pipe that the differencer holds open: it ends when the differencer does."""
    os.read(0, 1)
    os._exit(0)


class Worker:
    """What turns one frame after the other into committed detections.

    lanes : arrays.lanes.Lanes of the device, shared with the others of this process
    """

    def __init__(self, settings: Settings, pair: Pair, lanes: Any):
        self.configuration = settings.configuration
        self.service = settings.configuration.service
        instrument = self.configuration.instrument
        self.device, self.lanes = open_device(self.configuration), lanes
        self.templates = TemplateStore(settings.templates, instrument, CACHE_BYTES // lanes.most, settings.index)
        self.process = load(settings.process)
        self.known = known_positions(settings.known_objects)
        self.calibrated = calibrator(self.service, partial(remove_signature, device=self.device))
        self.model = model_named(self.configuration.reliability.model)
        self.handover = Handovers(
            settings.regions, keys_by_endpoint(self.configuration.security, settings.regions.keys)
        )
        self.later = settings.put_off
        self.segments = Segments(Path(settings.ring)) if settings.ring else None
        self.pair = pair

    def run(self) -> None:
        """Take work and answer it."""
        self.pair.send([READY])
        while True:
            message = self.pair.receive(LISTEN_S)
            if message is None:
                continue
            if bytes(message[0]) == STOP:
                return
            self.pair.send(self.answer(message))

    def answer(self, message: Sequence[Any]) -> list[bytes]:
        """[done, JSON] or [error, JSON] for one order.  Raises DeviceFailed: this process computes no more."""
        try:
            if bytes(message[0]) == MAKE_UP:
                done = self.make_up(Path(os.fsdecode(bytes(message[1]))))
            else:
                done = self.work(float(bytes(message[1])), bytes(message[2]), message[3:])
            return [DONE, json.dumps(done).encode()]
        except DeviceFailed:
            raise
        except GpudiffError as error:
            return _error(error.name, str(error))
        except Exception as error:  # a bug must cost one frame, by name, not the service
            traceback.print_exc()
            return _error(type(error).__name__, " ".join(str(error).split()))

    def work(self, received_tai: float, when: bytes, parts: Sequence[Any]) -> dict[str, Any]:
        """What the receipt says of the frame, and the seconds of each stage; forced fluxes measured, and the
        bytes that were put off, None where they had to be left out; frames that may be at work here at a time.

        when : forced photometry is measured NOW, put off until LATER, or NEVER measured
        """
        made, header, said = self.lanes.run(lambda: self._detections(received_tai, when, parts))
        self.pair.send([HANDING])
        start = time.perf_counter()
        answer = self.handover.commit(made, header)
        said["seconds"]["commit"] = time.perf_counter() - start
        status = "duplicate" if answer.status == "duplicate" else "done"
        at_a_time = self.lanes.now
        return {**said, "status": status, "alerts": answer.alerts, "load": answer.load, "at_a_time": at_a_time}

    def _detections(
        self, received_tai: float, when: bytes, parts: Sequence[Any]
    ) -> tuple[DetectionBatch, Header, dict[str, Any]]:
        """What is handed over, the frame's header, and what the receipt says of both."""
        seconds, start = {}, time.perf_counter()
        envelope = wire.open_envelope(parts, self.service.max_frame_bytes, self.segments)
        frame = self.calibrated(wire.frame_in(envelope))
        template = self.templates.find(frame)
        seconds["read"] = time.perf_counter() - start
        begun = time.perf_counter()
        difference, sources = self.process(frame, template, self.configuration)
        aside = sum(difference.seconds.get(stage, 0.0) for stage in ("calibrate", "detect"))
        seconds["subtract"] = max(0.0, time.perf_counter() - begun - aside)
        difference, sources = rate(difference, sources, self.model)
        all_planes = self.service.cutout_planes == "all"
        made = batch(difference, sources, self.service.cutout_size, received_tai, all_planes)
        later: int | None = 0
        if self.service.forced:
            start = time.perf_counter()
            squares = forced_squares(difference, sources, self.known, self.service.association_radius)
            if squares and when == NEVER:
                later = None
            elif squares:
                later = 0 if when == NOW else self._put_off(made, envelope.header, squares)
                if not later:
                    made = dataclasses.replace(made, forced=measured(squares, self.device.frame()))
            seconds["forced"] = time.perf_counter() - start
        wire.confirm(envelope, self.segments)
        said = {
            "sources": len(sources),
            "fingerprint": made.fingerprint,
            "template": template.name,
            "forced": len(made.forced),
            "put_off": later,
            "seconds": {**difference.seconds, **seconds},
        }
        return made, envelope.header, said

    def _put_off(self, made: DetectionBatch, header: Header, squares: ForcedSquares) -> int:
        """Keep on disk what the forced photometry will be measured on; bytes, 0 where that cannot be."""
        words = made.fingerprint, made.unit, made.zero_point
        try:
            return put_off.write(self.later, PutOff(made.observation.frame, *words, *place(header), squares))
        except StoreFailed as error:
            _say(error)
            return 0

    def make_up(self, path: Path) -> dict[str, Any]:
        """Measure what was put off, and have it committed; its fluxes, and what the associator leaves out."""
        owed = put_off.read(path)
        made = MadeUp(owed.frame, owed.fingerprint, owed.unit, owed.zero_point, measured(owed.squares))
        self.pair.send([HANDING])
        answer = self.handover.make_up(made, owed.ra, owed.dec)
        return {"forced": len(made.forced), "load": answer.load}


def load(name: str) -> Callable:
    """The function "module:function"."""
    module, function = name.split(":")
    return getattr(importlib.import_module(module), function)


def _error(name: str, reason: str) -> list[bytes]:
    return [ERROR, json.dumps({"error": name, "reason": reason}).encode()]


if __name__ == "__main__":
    status = main(*sys.argv[1:])
    sys.stderr.flush()
    os._exit(status)  # whatever other threads are at: their frames are given to other workers
