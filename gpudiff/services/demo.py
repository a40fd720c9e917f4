"""The demo: simulate a night, run the real service on it as a child process, see what it found."""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.client import FrameClient
from gpudiff.edges.control import Receipt
from gpudiff.edges.fits import read_frame
from gpudiff.edges.ledger_reader import LedgerReader
from gpudiff.edges.published import read_alerts
from gpudiff.edges.sources import read_table
from gpudiff.model.clock import tai_now
from gpudiff.model.demo import Demo, FrameRecord
from gpudiff.model.errors import BadConfiguration, NeighbourLost
from gpudiff.model.frame import Frame, FrameId
from gpudiff.model.scene import TRUTH, FocalPlane, Night
from gpudiff.model.tables import Table
from gpudiff.science.night import visits
from gpudiff.science.recovery import recover
from gpudiff.services.child import child
from gpudiff.services.demo_review import declare_filters, review
from gpudiff.services.simulator import simulate

Progress = Callable[[int, int], None]
READY = "ready: "


def run_demo(
    night: Night,
    plane: FocalPlane,
    folder: Path,
    simulating: Progress,
    sending: Progress,
    processes: int | None = None,
) -> Demo:
    """The whole demo, under `folder`.

    The service works in folder/service; what it prints goes to folder/service.log.  Raises BadConfiguration
    for a folder that holds something else, NeighbourLost when the service does not start or falls silent.
    """
    clear(folder)
    started = time.monotonic()
    made = simulate(night, plane, folder, processes, simulating)
    simulated = time.monotonic()
    service = folder / "service"
    arguments = ["run", "--directory", str(service), "--templates", str(folder / "templates")]
    arguments += ["--frames", "tcp://127.0.0.1:*", "--config", str(declare_filters(folder))]
    with child(arguments, folder / "service.log", READY) as running:
        ready = time.monotonic()
        records = send(endpoint(running.ready), made.frames, sending)
        sent = time.monotonic()
        until_filtered(service, sum(one.good for one in records))
        status = running.stop()
    lost = frozenset((one.visit, one.detector) for one in records if not one.good)
    alerts, cutouts = read_alerts(service / "alerts")
    reviewing = time.monotonic()
    reviewed = review(folder, night.band)
    seconds = {"simulation": simulated - started, "start": ready - simulated, "frames": sent - ready}
    return Demo(
        night,
        plane,
        tuple(visits(night)),
        tuple(records),
        recover(read_table(folder / "truth.ecsv", TRUTH), alerts, lost),
        cutouts,
        {**seconds, "review": time.monotonic() - reviewing},
        status,
        len(sources(service / "ledger.sqlite")),
        reviewed,
    )


def until_filtered(service: Path, frames: int, patience_s: float = 30.0) -> None:
    """Return when the mini-broker has had every alert of so many frames; raises NeighbourLost after so long."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        said = json.loads((service / "associator.json").read_text())
        done = said["counts"].get("committed", 0) >= frames
        if done and all(one["behind"] == 0 for one in said["sinks"].values()):
            return
        time.sleep(0.1)
    raise NeighbourLost(f"gpudiff run: expected its filters to have every alert within {patience_s:g} s")


def sources(ledger: Path) -> Table:
    """The DIASources in a ledger; raises UnreadableFile where there is none."""
    reader = LedgerReader(ledger)
    try:
        return reader.sources()
    finally:
        reader.close()


def clear(folder: Path) -> None:
    """Remove an earlier demo; raises BadConfiguration when the folder holds anything else."""
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not _is_ours(folder))):
        raise BadConfiguration(f"output: expected a new or empty folder, or an earlier demo's, got {folder}")
    for name in ("service", "replay"):
        shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)


def _is_ours(folder: Path) -> bool:
    return (folder / "simulation.json").exists() or (folder / "frames").is_dir()


def endpoint(ready: str) -> str:
    """Where the service takes frames, from the line `ready: frames ENDPOINT directory DIR`.

    Raises NeighbourLost for another line.
    """
    words = ready.split()
    if "frames" not in words[:-1]:
        raise NeighbourLost(f"gpudiff run: expected 'ready: frames ENDPOINT directory DIR', got {ready!r}")
    return words[words.index("frames") + 1]


def send(address: str, paths: tuple[Path, ...], progress: Progress) -> list[FrameRecord]:
    """Every frame, its readout ended when it is sent; the final receipts, in the order in which they come."""
    ends: dict[FrameId, float] = {}
    records: list[FrameRecord] = []
    progress(0, len(paths))
    with FrameClient(address, "demo") as client:
        for receipt in client.send_many(_read_out(paths, ends)):
            records.append(_record(receipt, ends))
            progress(len(records), len(paths))
    return records


def _read_out(paths: tuple[Path, ...], ends: dict[FrameId, float]) -> Iterator[Frame]:
    """The frames on disk, each as if its last pixel had come this moment; `ends` notes when."""
    for path in paths:
        frame = read_frame(path)
        now = tai_now()
        ends[frame.observation.frame] = now
        observation = dataclasses.replace(frame.observation, readout_end_tai=now)
        yield dataclasses.replace(frame, observation=observation, digest="")


def _record(receipt: Receipt, ends: dict[FrameId, float]) -> FrameRecord:
    identity = receipt.frame
    if identity is None:
        raise NeighbourLost(f"gpudiff run: expected a receipt with the frame's name, got {receipt}")
    return FrameRecord(
        identity.visit,
        identity.detector,
        receipt.status,
        receipt.sources or 0,
        receipt.alerts or 0,
        (tai_now() - ends[identity]) * 86400,
        " ".join(part for part in (receipt.error, receipt.reason) if part),
    )


def recorded(demo: Demo) -> dict[str, Any]:
    """The demo's figures for a program to read (demo.json)."""
    r = demo.recovery
    return {
        "injected": len(r.truth),
        **r.counts,
        "alerts": len(r.alerts),
        "association_right": r.right,
        "association_wrong": r.wrong,
        "latency_s": _rounded(r.alerts["latency_s"]),
        "receipt_s": _rounded(np.array([one.answered_s for one in demo.frames])),
        "filters": {
            one.name: {**_fields(one, "quota", "matches", "sent", "over_quota", "off"), "passed": len(one.passed)}
            for one in demo.review.filters
        },
        "verified": demo.review.verified and dataclasses.asdict(demo.review.verified),
        "replayed": dataclasses.asdict(demo.review.replayed),
        "seconds": {name: round(value, 2) for name, value in demo.seconds.items()},
        "problems": demo.problems,
    }


def _fields(one: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(one, name) for name in names}


def _rounded(values: np.ndarray) -> dict[str, float | None]:
    from gpudiff.model.demo import latency

    names = ("median", "p98", "max")
    return {n: (None if np.isnan(v) else round(v, 3)) for n, v in zip(names, latency(values), strict=True)}
