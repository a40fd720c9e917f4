"""How a running service stands, read from its directory beside it: nothing is written, nobody is asked."""

import json
import os
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges import dead_letters
from gpudiff.edges.ledger_reader import LedgerReader
from gpudiff.model.clock import tai_now
from gpudiff.model.errors import StoreFailed, UnreadableFile

VISITS, ERRORS = 8, 5
"""Shown at most: the last ones."""
HOUR = 1 / 24


@dataclass(frozen=True)
class Standing:
    """differencer, associator : what status.json and associator.json say, {} without one; `running` is whether
        the process that wrote it lives
    sinks : of each its name, how many frames and alerts are archived but not yet delivered to it, for how long the
        first of them has waited (wait_s, None when nothing does), how many were delivered and refused since the
        start, errors, and the trouble that it has now, '' for none
    held : alerts that wait for a rule (gpudiff ledger)
    hour : the last one: visits, frames, alerts committed, and the latency of those that are published
    visits : the last ones, as LedgerReader.visits says, with their `states` (detectors by state) and `latency`
    filters_off : of each filter that is switched off its name, owner and reason; filters_wrong : what the filters'
        file has wrong, so that the old ones stay, '' for nothing
    errors : the last dead letters' file name, error and reason; dead_letters : how many there are
    trouble : why the ledger could not be read, '' when it could
    """

    differencer: dict[str, Any] = field(default_factory=dict)
    associator: dict[str, Any] = field(default_factory=dict)
    sinks: list[dict[str, Any]] = field(default_factory=list)
    held: int = 0
    hour: dict[str, Any] = field(default_factory=dict)
    visits: list[dict[str, Any]] = field(default_factory=list)
    filters_off: list[dict[str, str]] = field(default_factory=list)
    filters_wrong: str = ""
    dead_letters: int = 0
    errors: list[dict[str, str]] = field(default_factory=list)
    trouble: str = ""


def standing(directory: Path, store: str = "sqlite", clock: Callable[[], float] = tai_now) -> Standing:
    """How the service of a directory stands now; raises UnreadableFile when there is no such directory.

    store : [ledger] store: sqlite for the directory's own ledger, or a postgresql:// URL
    """
    if not directory.is_dir():
        raise UnreadableFile(f"{directory}: expected the directory of a service")
    associator = _written(directory / "associator.json")
    ledger, trouble = _ledger(directory / "ledger.sqlite" if store == "sqlite" else store, associator, clock())
    broker = _written(directory / "broker.json")
    letters, last = dead_letters.latest(directory / "dead", ERRORS)
    return Standing(
        differencer=_written(directory / "status.json"),
        associator=associator,
        **ledger,
        filters_off=_filters_off(broker),
        filters_wrong=broker.get("problem", ""),
        dead_letters=letters,
        errors=[letter for path in last if (letter := _letter(path))],
        trouble=trouble,
    )


def _ledger(where: Path | str, associator: dict[str, Any], now: float) -> tuple[dict[str, Any], str]:
    """What the ledger says: sinks, held, hour, visits; and why it cannot be read."""
    try:
        with closing(LedgerReader(where)) as reader:
            hour = reader.committed_since(now - HOUR)
            return {
                "sinks": _sinks(reader, associator.get("sinks", {}), now),
                "held": reader.outbox(0)["held"],
                "hour": hour | {"latency": _latency(reader.latencies(since_tai=now - HOUR))},
                "visits": [_visit(reader, one) for one in reader.visits()[-VISITS:]],
            }, ""
    except (StoreFailed, UnreadableFile) as error:
        return {}, str(error)


def _sinks(reader: LedgerReader, told: dict[str, Any], now: float) -> list[dict[str, Any]]:
    """How far each sink is: what waits by the ledger, what was delivered by what the associator says."""
    marks, found = reader.watermarks(), []
    for name, said in told.items():
        waits = reader.outbox(marks.get(name, 0))
        since = waits["since_tai"]
        wait_s = None if since is None else round(max(0.0, (now - since) * 86400), 1)
        counts = {"frames": waits["frames"], "alerts": waits["alerts"], "wait_s": wait_s}
        said = {"refused": 0, "trouble": ""} | said  # an older program may have written it
        since_start = {"delivered": said["alerts"], "refused": said["refused"], "errors": said["errors"]}
        found.append({"name": name, **counts, **since_start, "trouble": said["trouble"]})
    return found


def _visit(reader: LedgerReader, one: dict[str, Any]) -> dict[str, Any]:
    last = {(row["snap"], row["detector"]): row["after"] for row in reader.transitions(one["visit"])}
    states = Counter(state for (_, detector), state in last.items() if detector is not None)
    return one | {"states": dict(states), "latency": _latency(reader.latencies(one["visit"]))}


def _latency(seconds: np.ndarray) -> dict[str, float | None]:
    """Of alerts, from the end of readout to publication: how many, and None for the rest where there are none."""
    values = np.percentile(seconds, [50, 98, 100]).round(3).tolist() if len(seconds) else [None] * 3
    return {"count": len(seconds), **dict(zip(("median_s", "p98_s", "max_s"), values, strict=True))}


def _written(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return said | {"running": said.get("state") != "stopped" and _lives(said.get("pid", 0))}


def _filters_off(broker: dict[str, Any]) -> list[dict[str, str]]:
    said = broker.get("filters", {})
    return [
        {"name": name, "owner": one["owner"], "reason": one["off"]} for name, one in said.items() if one["off"]
    ]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0


def _letter(path: Path) -> dict[str, str]:
    try:
        said = json.loads(path.read_text())
        return {"name": path.stem, **{key: said[key] for key in ("error", "reason", "time")}}
    except (OSError, ValueError, KeyError):
        return {}
