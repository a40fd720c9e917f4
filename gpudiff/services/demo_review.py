"""What a demo does with its alerts after the night: a replay, the filters' matches, a verified fingerprint."""

import json
import time
from importlib import resources
from pathlib import Path
from typing import Any

from gpudiff.edges.alert_archive import AlertArchive
from gpudiff.edges.alert_batches import batches
from gpudiff.edges.alert_schema import SCHEMA_ID
from gpudiff.edges.provenance_file import keep_steps
from gpudiff.edges.sinks.memory import Memory
from gpudiff.model.alert_index import AlertQuery
from gpudiff.model.demo import FilterRecord, Replayed, Review, Verified
from gpudiff.model.outgoing import OutgoingBatch
from gpudiff.services.broker import Broker, filter_step
from gpudiff.services.replay import replay
from gpudiff.services.verification import Given, alert_fingerprint, verify

FILTERS = "filters.toml"


def declare_filters(folder: Path) -> Path:
    """Write the demo's filters and the configuration that names them; the configuration's path."""
    declared = folder / FILTERS
    declared.write_text((resources.files("gpudiff.edges") / "demo_filters.toml").read_text())
    configuration = folder / "gpudiff.toml"
    configuration.write_text(f"[broker]\nfilters = {json.dumps(str(declared.resolve()))}\n")
    return configuration


def review(folder: Path, band: str) -> Review:
    """What became of the alerts in folder/service after the service has stopped.

    band : of the night, to find the template of the alert that is verified
    """
    archive = AlertArchive(folder / "service" / "alerts")
    try:
        replayed, again = _replay(archive)
    finally:
        archive.close()
    working = folder / "replay"
    working.mkdir(exist_ok=True)
    live = json.loads((folder / "service" / "broker.json").read_text())["filters"]
    passed = _filtered(folder / FILTERS, working, again)
    filters = tuple(_record(live[name], *one) for name, one in passed.items() if name in live)
    return Review(filters, _verified(folder, working, band, passed), replayed)


def _replay(archive: AlertArchive) -> tuple[Replayed, Memory]:
    """Every alert of the archive once more, into a sink that keeps them."""
    rows, sink = archive.find(AlertQuery()), Memory(tier="full")
    start = time.monotonic()
    counts = replay(batches(archive, rows, SCHEMA_ID), sink, float("inf"))
    seconds = time.monotonic() - start
    expected = set(zip(rows["diaSourceId"].tolist(), rows["revision"].tolist(), strict=True))
    came = [(one.dia_source_id, one.revision) for one in sink.messages]
    found = Replayed(
        archived=len(rows),
        delivered=counts["delivered"],
        refused=counts["refused"],
        missing=len(expected - set(came)),
        unexpected=len(set(came) - expected) + len(came) - len(set(came)),
        seconds=seconds,
    )
    return found, sink


Passed = tuple[Any, list[OutgoingBatch]]
"""A declared filter, and the batches that it let through."""


def _filtered(path: Path, working: Path, again: Memory) -> dict[str, Passed]:
    """What the filters let through of the alerts that were replayed, by name."""
    opened: list[Memory] = []

    def keep(url: str) -> Memory:
        opened.append(Memory())
        return opened[-1]

    broker = Broker(path, working, keep)
    for batch in again.batches:
        broker.publish(batch)
    running = dict(broker.running)
    broker.close()
    return {
        name: (one.declared, one.sink.batches if isinstance(one.sink, Memory) else [])
        for name, one in running.items()
    }


def _record(live: dict[str, Any], declared: Any, through: list[OutgoingBatch]) -> FilterRecord:
    return FilterRecord(
        name=declared.name,
        owner=declared.owner,
        where=declared.where,
        quota=declared.quota,
        matches=live["matches"],
        sent=live["sent"],
        over_quota=live["over_quota"],
        off=live["off"],
        passed=tuple(which for batch in through for which in batch.rows["diaSourceId"].tolist()),
    )


def _verified(folder: Path, working: Path, band: str, passed: dict[str, Passed]) -> Verified | None:
    """The first alert that a filter let through, from its frame to that filter; None when none let any through."""
    chosen = next((one for one in passed.values() if one[1]), None)
    if chosen is None:
        return None
    declared, (batch, *_) = chosen
    visit, detector = int(batch.rows["visit"][0]), int(batch.rows["detector"][0])
    own = filter_step(declared)
    archive = folder / "service" / "alerts"
    dia_source_id = int(batch.rows["diaSourceId"][0])
    keep_steps(working, visit, batch.fingerprint, [own], alert_fingerprint(archive, dia_source_id))
    template = folder / "templates" / f"{band}_{detector}.fits"
    given = Given(template=template if template.exists() else None, config=folder / "gpudiff.toml")
    more = sorted(working.glob("*.provenance.jsonl"))
    verdict = verify(archive, batch.fingerprint, more, given)
    compared = ("configuration", *(["template"] if given.template else []))
    return Verified(dia_source_id, batch.fingerprint, tuple(verdict.steps), compared, verdict.wrong)
