"""What the service counts: for Prometheus, and in status.json for everybody else."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client import Counter as Total

from gpudiff.edges.atomic import atomically
from gpudiff.edges.control import Receipt
from gpudiff.services.load import STEPS, Level
from gpudiff.services.monitor import Monitor, Probe, well

SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)
GAUGES = (
    ("at_a_time", "frames_at_a_time", "frames that workers may have at work, fewer where GPU memory is short"),
    ("away", "frames_away", "frames that wait for an associator that is away"),
    ("clients", "clients", "clients with frames in hand"),
    ("free", "credits", "frames that clients with frames in hand may still send"),
    ("bytes", "bytes_in_hand", "bytes of frames in hand, beside shared memory"),
    ("room", "bytes_room", "bytes that frames in hand may have at most"),
    ("put_off", "forced_waiting", "frames whose forced photometry is to be made up"),
)
"""Key in status.json, name, meaning."""


class LoadMetrics:
    """What is left out under load, in both programs: gpudiff_load_level, gpudiff_load_steps_total{step}."""

    def __init__(self, registry: CollectorRegistry):
        self._level = Gauge("gpudiff_load_level", "steps left out under load now", registry=registry)
        self._steps = Total("gpudiff_load_steps", "how often each step has begun", ["step"], registry=registry)
        self._counted: Counter[str] = Counter()
        for step in STEPS:
            self._steps.labels(step)

    def note(self, level: Level) -> None:
        """Show the level, count the steps that have begun since it was last shown."""
        self._level.set(level.level)
        for step, count in (level.counts - self._counted).items():
            self._steps.labels(step).inc(count)
        self._counted = level.counts.copy()


def counted(total: Total) -> dict[str, int]:
    """What a counter has come to, by the values of its one label; under '' where it has none."""
    (family,) = total.collect()
    return {"".join(one.labels.values()): int(one.value) for one in family.samples if one.name.endswith("_total")}


class Metrics:
    """Counters of one differencer; services/OPERATIONS.md lists the names.

    Those that are public are for whoever sees what they count: `metrics.dead_letters.inc()`.
    """

    def __init__(self, endpoint: str):
        """endpoint : where clients send frames, shown in status.json."""
        self._endpoint = endpoint
        self._sums: Counter[str] = Counter()
        self._left_out = Level().report()
        self._written: dict[str, Any] = {}
        self._monitor: Monitor | None = None
        self.registry = registry = CollectorRegistry()
        total, gauge = partial(Total, registry=registry), partial(Gauge, registry=registry)
        seconds = partial(Histogram, registry=registry, buckets=SECONDS)
        self._frames = total("gpudiff_frames", "receipts by status", ["status"])
        self._rejections = total("gpudiff_rejections", "rejected frames by error", ["error"])
        self._failures = total("gpudiff_failures", "frames to be sent again by error", ["error"])
        self.dead_letters = total("gpudiff_dead_letters", "frames kept as dead letters")
        self.worker_restarts = total("gpudiff_worker_restarts", "workers started again")
        self._refused = total("gpudiff_connections_refused", "connections not let in", ["reason"])
        self._stages = seconds("gpudiff_stage_seconds", "time of one frame in a stage", ["stage"])
        self._latency = seconds("gpudiff_frame_latency_seconds", "arrival to commit")
        self._visits = total("gpudiff_next_visits", "announcements", ["status"])
        self._loads = total("gpudiff_template_loads", "templates of frames", ["when"])
        self.forced = total("gpudiff_forced_sources", "forced fluxes")
        self.put_off = total("gpudiff_forced_deferred", "frames whose forced photometry was put off")
        self._made_up = total("gpudiff_forced_made_up", "frames whose forced photometry was made up")
        self._dropped = total("gpudiff_forced_dropped", "frames whose forced photometry never will be")
        self._load = LoadMetrics(registry)
        self._in_flight = gauge("gpudiff_frames_in_flight", "frames in hand")
        self._queued = gauge("gpudiff_frames_queued", "frames no worker has yet")
        self.overdue = total("gpudiff_leases_expired", "frames taken from a worker that took too long")
        self._more = {key: gauge(f"gpudiff_{name}", text) for key, name, text in GAUGES}
        for when in ("before", "on_arrival"):
            self._loads.labels(when)

    def serve(self, where: str | int, alive: Probe = well, ready: Probe = well) -> int:
        """Offer the counters, /healthz and /readyz at "[HOST:]PORT"; the port (a free one for 0)."""
        self._monitor = Monitor(self.registry, str(where), alive, ready)
        return self._monitor.port

    def count(self, receipt: Receipt) -> None:
        """Count a receipt that says something new of a frame (not a repeat to a second waiter)."""
        self._frames.labels(receipt.status).inc()
        if receipt.status == "rejected":
            self._rejections.labels(receipt.error).inc()
        elif receipt.status == "failed":
            self._failures.labels(receipt.error).inc()
        elif receipt.status == "done":
            self._sums["sources"] += receipt.sources or 0
            self._sums["alerts"] += receipt.alerts or 0
            self._latency.observe(receipt.latency_s or 0.0)

    def visit(self, status: str) -> None:
        """Count an announcement by what became of it, or the first frame of a visit, announced or unannounced."""
        self._visits.labels(status).inc()

    def template(self, before: bool) -> None:
        """Count a frame's template: read before the frame came, or on its arrival."""
        self._loads.labels("before" if before else "on_arrival").inc()

    def made_up(self, count: int) -> None:
        """Count a frame whose forced photometry was made up, and its fluxes."""
        self._made_up.inc()
        self.forced.inc(count)

    def dropped(self, so_far: int) -> None:
        """Count frames whose forced photometry is given up.  so_far : since the start"""
        self._dropped.inc(so_far - counted(self._dropped)[""])

    def load(self, level: Level) -> None:
        """Note what is left out under load."""
        self._left_out = level.report()
        self._load.note(level)

    def refused(self, connections: Counter[str]) -> None:
        """Count connections that were not let in, by reason."""
        for reason, count in connections.items():
            self._refused.labels(reason).inc(count)

    def stages(self, seconds: dict[str, float]) -> None:
        """Note how long each stage of a frame took."""
        for stage, value in seconds.items():
            self._stages.labels(stage).observe(value)

    def write(
        self,
        file: Path,
        in_flight: int,
        queued: int,
        workers: list[int],
        state: str,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Write status.json when anything changed since it was last written; raises StoreFailed.

        accepted, done, duplicate and failed count receipts; `rejected` counts them by the error's name;
        `refused` counts connections without a key that is allowed; `workers` are process ids; `next_visits`
        counts announcements and first frames, `template_loads` the templates that were read before their frame
        came and on its arrival; `load` says what the associator has left out; `more` joins what is written.
        """
        self._in_flight.set(in_flight)
        self._queued.set(queued)
        for name, gauge in self._more.items():
            gauge.set(more.get(name, 0))
        frames, sums = counted(self._frames), self._sums
        status = {
            "state": state,
            "pid": os.getpid(),
            "frames": self._endpoint,
            **{name: frames.get(name, 0) for name in ("accepted", "done", "duplicate", "failed")},
            "rejected": counted(self._rejections),
            "refused": counted(self._refused),
            "sources": sums["sources"],
            "alerts": sums["alerts"],
            "dead_letters": counted(self.dead_letters)[""],
            "worker_restarts": counted(self.worker_restarts)[""],
            "forced_sources": counted(self.forced)[""],
            "forced_deferred": counted(self.put_off)[""],
            "forced_made_up": counted(self._made_up)[""],
            "forced_dropped": counted(self._dropped)[""],
            "next_visits": counted(self._visits),
            "template_loads": counted(self._loads),
            "load": self._left_out,
            "in_flight": in_flight,
            "queued": queued,
            "workers": workers,
            **more,
        }
        if status != self._written:
            with atomically(file) as temporary:
                temporary.write_text(json.dumps(status, indent=1))
            self._written = status

    def close(self) -> None:
        """Stop serving."""
        if self._monitor is not None:
            self._monitor.close()
