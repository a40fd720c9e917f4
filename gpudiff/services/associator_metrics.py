"""What the associator counts, for Prometheus."""

from collections.abc import Mapping

import numpy as np
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client import Counter as Total

from gpudiff.services.load import Level
from gpudiff.services.metrics import SECONDS, LoadMetrics


class AssociatorMetrics:
    """Counters of one associator; services/OPERATIONS.md lists the names."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._batches = Total("gpudiff_batches", "batches by answer", ["status"], registry=registry)
        self._errors = Total("gpudiff_batch_errors", "failed batches by error", ["error"], registry=registry)
        self._sources = Total("gpudiff_sources", "DIASources by kind", ["kind"], registry=registry)
        self._alerts = Total("gpudiff_alerts", "alerts published", registry=registry)
        self._stages = Histogram(
            "gpudiff_associator_stage_seconds",
            "time of one batch, or one transaction, in a stage",
            ["stage"],
            registry=registry,
            buckets=SECONDS,
        )
        self._latency = Histogram(
            "gpudiff_alert_latency_seconds",
            "end of readout (arrival, where nobody said it) to the commit, of each alert",
            registry=registry,
            buckets=SECONDS,
        )
        self._refused = Total(
            "gpudiff_connections_refused", "connections not let in", ["door", "reason"], registry=registry
        )
        self._objects = Gauge("gpudiff_objects", "DIAObjects in memory", registry=registry)
        self._load = LoadMetrics(registry)

    def answered(self, status: str, error: str = "") -> None:
        """Count an answer, by the error's name too where there is one."""
        self._batches.labels(status).inc()
        if error:
            self._errors.labels(error).inc()

    def committed(self, kinds: Mapping[str, int], latency_s: float | None, objects: int) -> None:
        """Count a batch's DIASources by kind, each of which is an alert, now in the archive."""
        for kind, count in kinds.items():
            self._sources.labels(kind).inc(count)
        alerts = sum(kinds.values())
        self._alerts.inc(alerts)
        self._objects.set(objects)
        if latency_s is not None and np.isfinite(latency_s):
            for _ in range(alerts):
                self._latency.observe(latency_s)

    def refused(self, door: str, connections: Mapping[str, int]) -> None:
        """Count differencers (door: detections) and subscribers (alerts) that were not let in, by reason."""
        for reason, count in connections.items():
            self._refused.labels(door, reason).inc(count)

    def loaded(self, level: Level) -> None:
        """Note what is left out under load."""
        self._load.note(level)

    def stages(self, seconds: Mapping[str, float]) -> None:
        """Note how long each stage took: associate, encode, archive, store of a batch; commit of a transaction."""
        for stage, value in seconds.items():
            self._stages.labels(stage).observe(value)
