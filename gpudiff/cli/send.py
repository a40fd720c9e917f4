"""gpudiff send: FITS frames to a running service, with receipts."""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpudiff.edges.control import Receipt
    from gpudiff.model.config import Configuration
    from gpudiff.model.frame import Frame, FrameId

DESCRIPTION = """\
Send FITS frames to a running service and wait until the detections of each are committed.

  gpudiff send night/*.fits
  gpudiff send science.fits --to tcp://camera-hall:5570 --key keys/camera.key_secret --visit 12

Exit status 0 when every frame is done (or was done before), 3 when one was refused, 1 when the service did
not answer.  Frames without VISIT in their headers need --visit: one visit, snap and detector are one frame.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("frames", type=Path, nargs="+", metavar="FRAMES", help="FITS files")
    parser.add_argument("--to", metavar="ENDPOINT", help="default: [service] frames, tcp://127.0.0.1:5570")
    parser.add_argument("--config", type=Path, help="TOML file")
    parser.add_argument("--visit", type=int, help="visit of the first frame, counted up for the next ones")
    parser.add_argument("--detector", type=int, help="detector of all frames")
    parser.add_argument("--raw", action="store_true", help="the frames are raw: the service calibrates them")
    parser.add_argument("--key", type=Path, metavar="FILE", help="NAME.key_secret, with service.key beside it")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="S", help="longest silence (%(default)g)")


def run(arguments: argparse.Namespace) -> int:
    from gpudiff.cli.progress import bars
    from gpudiff.edges.client import FrameClient
    from gpudiff.model.config import load

    configuration = load(arguments.config)
    endpoint = arguments.to or configuration.service.frames
    tally, start = Tally(), time.monotonic()
    try:
        with (
            FrameClient(endpoint, name="gpudiff send", timeout_s=arguments.timeout, keys=arguments.key) as client,
            bars("sending") as (move,),
        ):
            for receipt in client.send_many(readable(arguments, configuration, tally)):
                tally.add(receipt)
                move(tally.total, len(arguments.frames))
        if ": " in client.way:
            print(f"pixels went over the {client.way}")
    finally:
        if tally.total:
            print(tally.summary(time.monotonic() - start, len(arguments.frames)))
    return 3 if tally.bad else 0


class Tally:
    """What became of the frames so far."""

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []
        self.unreadable = 0

    @property
    def total(self) -> int:
        """Frames that are through."""
        return len(self.receipts) + self.unreadable

    @property
    def bad(self) -> int:
        """Frames that are neither done nor duplicates."""
        return self.unreadable + sum(not receipt.good for receipt in self.receipts)

    def add(self, receipt: "Receipt") -> None:
        """Count a final receipt; say so when the frame was refused."""
        self.receipts.append(receipt)
        if not receipt.good:
            print(f"{receipt.frame}: {receipt.status}: {receipt.error}: {receipt.reason}")

    def refuse(self, error: Exception) -> None:
        """Count and name a file that is no frame."""
        self.unreadable += 1
        print(f"not sent: {type(error).__name__}: {error}")

    def summary(self, seconds: float, given: int) -> str:
        """One line.  given : how many frames there were to send"""
        done = [receipt for receipt in self.receipts if receipt.status == "done"]
        duplicates = sum(receipt.status == "duplicate" for receipt in self.receipts)
        sources, alerts = (sum(getattr(one, key) or 0 for one in done) for key in ("sources", "alerts"))
        frames = f"{self.total} frames" if self.total == given else f"{self.total} of {given} frames"
        text = f"{frames} in {seconds:.1f} s: {len(done)} done, {duplicates} duplicate, "
        text += f"{self.bad} refused; {sources} sources, {alerts} alerts"
        waits = sorted(receipt.latency_s for receipt in done if receipt.latency_s is not None)
        if waits:
            text += f"; arrival to commit {statistics.median(waits):.2f} s median, {waits[-1]:.2f} s at most"
        return text


def readable(arguments: argparse.Namespace, configuration: "Configuration", tally: Tally) -> Iterator["Frame"]:
    """The frames in the files that are frames, each read when its turn comes."""
    from gpudiff.edges.fits import read_frame
    from gpudiff.edges.header import check_id
    from gpudiff.model.errors import BadMessage, InputRejected

    sent: dict[FrameId, tuple[Path, str]] = {}
    for number, path in enumerate(arguments.frames):
        visit = None if arguments.visit is None else arguments.visit + number
        try:
            frame = read_frame(path, configuration.instrument, visit=visit, detector=arguments.detector)
            check_id(frame.observation.frame, frame.name)
            if arguments.raw:
                frame = dataclasses.replace(frame, calibrated=False)
            first, digest = sent.setdefault(frame.observation.frame, (path, frame.digest))
            if digest != frame.digest:
                raise BadMessage(
                    f"{path}: expected one frame a (visit, snap, detector), but it is {frame.observation.frame} "
                    f"as {first} is: give --visit"
                )
        except InputRejected as error:
            tally.refuse(error)
        else:
            yield frame
