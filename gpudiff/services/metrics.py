"""What the service counts: for Prometheus, and in status.json for everybody else."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client import Counter as Total

from gpudiff.edges.atomic import atomically
from gpudiff.edges.control import Receipt
from gpudiff.services.monitor import Monitor, Probe, well

SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Counters of one differencer.

    gpudiff_frames_total{status}, gpudiff_rejections_total{error}, gpudiff_dead_letters_total,
    gpudiff_worker_restarts_total, gpudiff_stage_seconds{stage}, gpudiff_frame_latency_seconds (a frame's
    arrival to its commit), gpudiff_frames_in_flight, gpudiff_frames_queued.
    """

    def __init__(self, endpoint: str):
        """endpoint : where clients send frames, shown in status.json."""
        self._endpoint = endpoint
        self._frames: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._sums: Counter[str] = Counter()
        self._written: dict[str, Any] = {}
        self._monitor: Monitor | None = None
        self.registry = registry = CollectorRegistry()
        self._frames_total = Total("gpudiff_frames", "receipts by status", ["status"], registry=registry)
        self._rejections = Total("gpudiff_rejections", "rejected frames by error", ["error"], registry=registry)
        self._dead_letters = Total("gpudiff_dead_letters", "frames kept as dead letters", registry=registry)
        self._restarts = Total("gpudiff_worker_restarts", "workers started again", registry=registry)
        self._stages = Histogram(
            "gpudiff_stage_seconds",
            "time of one frame in a stage",
            ["stage"],
            registry=registry,
            buckets=SECONDS,
        )
        self._latency = Histogram(
            "gpudiff_frame_latency_seconds", "arrival to commit", registry=registry, buckets=SECONDS
        )
        self._in_flight = Gauge("gpudiff_frames_in_flight", "frames in hand", registry=registry)
        self._queued = Gauge("gpudiff_frames_queued", "frames no worker has yet", registry=registry)

    def serve(self, where: str | int, alive: Probe = well, ready: Probe = well) -> int:
        """Offer the counters, /healthz and /readyz at "[HOST:]PORT"; the port (a free one for 0)."""
        self._monitor = Monitor(self.registry, str(where), alive, ready)
        return self._monitor.port

    def count(self, receipt: Receipt) -> None:
        """Count a receipt that says something new of a frame (not a repeat to a second waiter)."""
        self._frames[receipt.status] += 1
        self._frames_total.labels(receipt.status).inc()
        if receipt.status == "rejected":
            self._rejected[str(receipt.error)] += 1
            self._rejections.labels(receipt.error).inc()
        elif receipt.status == "done":
            self._sums["sources"] += receipt.sources or 0
            self._sums["alerts"] += receipt.alerts or 0
            self._latency.observe(receipt.latency_s or 0.0)

    def dead_letter(self) -> None:
        """Count a dead letter."""
        self._sums["dead_letters"] += 1
        self._dead_letters.inc()

    def worker_restarted(self) -> None:
        """Count a worker that was started again."""
        self._sums["worker_restarts"] += 1
        self._restarts.inc()

    def stages(self, seconds: dict[str, float]) -> None:
        """Note how long each stage of a frame took."""
        for stage, value in seconds.items():
            self._stages.labels(stage).observe(value)

    def write(self, file: Path, in_flight: int, queued: int, workers: list[int], state: str) -> None:
        """Write status.json when anything changed since it was last written; raises StoreFailed.

        accepted, done, duplicate and failed count receipts; `rejected` counts them by the error's name;
        `workers` are process ids.
        """
        self._in_flight.set(in_flight)
        self._queued.set(queued)
        status = {
            "state": state,
            "pid": os.getpid(),
            "frames": self._endpoint,
            **{name: self._frames[name] for name in ("accepted", "done", "duplicate", "failed")},
            "rejected": dict(self._rejected),
            **{name: self._sums[name] for name in ("sources", "alerts", "dead_letters", "worker_restarts")},
            "in_flight": in_flight,
            "queued": queued,
            "workers": workers,
        }
        if status != self._written:
            with atomically(file) as temporary:
                temporary.write_text(json.dumps(status, indent=1))
            self._written = status

    def close(self) -> None:
        """Stop serving."""
        if self._monitor is not None:
            self._monitor.close()
