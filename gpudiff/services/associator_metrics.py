"""What the associator counts, for Prometheus."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client import Counter as Total
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gpudiff.edges.ledger import Delivered, Published
from gpudiff.services.load import Level
from gpudiff.services.metrics import SECONDS, LoadMetrics

LOST = ("missing", "failed")
Waited = tuple[float | None, float | None]
"""MJD TAI of a frame's commit and of the start of its latency."""


class Following:
    """A counter of one label that follows a number counted elsewhere, which may begin again at 0."""

    def __init__(self, total: Total):
        self.total = total
        self._before: dict[str, int] = {}

    def note(self, label: str, value: int) -> None:
        """The number is so high now."""
        before = self._before.get(label, 0)
        self.total.labels(label).inc(value - before if value >= before else value)
        self._before[label] = value


class Weighted(Collector):
    """A histogram of values that count many times: prometheus_client's own takes them one by one."""

    def __init__(self, name: str, documentation: str, registry: CollectorRegistry):
        self.name, self.documentation = name, documentation
        self._counts, self._sum = np.zeros(len(SECONDS) + 1, np.int64), 0.0
        registry.register(self)

    def observe(self, value: float, times: int) -> None:
        """Count a value so many times."""
        self._counts[np.searchsorted(SECONDS, value)] += times
        self._sum += value * times

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """Its name and what it is."""
        yield HistogramMetricFamily(self.name, self.documentation)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What Prometheus is told."""
        limits = [floatToGoString(one) for one in (*SECONDS, math.inf)]
        buckets = list(zip(limits, np.cumsum(self._counts).tolist(), strict=True))
        yield HistogramMetricFamily(self.name, self.documentation, buckets, self._sum)


class AssociatorMetrics:
    """Counters of one associator; services/OPERATIONS.md lists the names."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        total, gauge = partial(Total, registry=registry), partial(Gauge, registry=registry)
        seconds = partial(Histogram, registry=registry, buckets=SECONDS)
        self._batches = total("gpudiff_batches", "batches by answer", ["status"])
        self._errors = total("gpudiff_batch_errors", "failed batches by error", ["error"])
        self._sources = total("gpudiff_sources", "DIASources by kind", ["kind"])
        self._alerts = total("gpudiff_alerts", "alerts published")
        stages = "time of frames that are taken together, or one transaction, in a stage"
        self._stages = seconds("gpudiff_associator_stage_seconds", stages, ["stage"])
        latency = "end of readout (arrival, where nobody said it) until every sink had it, of each alert"
        self._latency = Weighted("gpudiff_alert_latency_seconds", latency, registry)
        committed = "end of readout (arrival) to the commit, of each frame"
        self._committed = seconds("gpudiff_commit_latency_seconds", committed)
        self._refused = total("gpudiff_connections_refused", "connections not let in", ["door", "reason"])
        self._detectors = Following(total("gpudiff_detectors", "frames by what became of them", ["state"]))
        closed = "visits by what they reached; in_time: published, 98 % of alerts within 60 s"
        self._closed = Following(total("gpudiff_visits", closed, ["reached"]))
        self._apart = total("gpudiff_alerts_apart", "alerts that are held, or came late", ["why"])
        self._sent = Following(total("gpudiff_alerts_sent", "alerts that a sink took", ["sink"]))
        self._dead = total("gpudiff_alerts_dead", "alerts that a sink never takes", ["sink"])
        errors = "deliveries that failed and are repeated"
        self._sink_errors = Following(total("gpudiff_sink_errors", errors, ["sink"]))
        self._behind = gauge("gpudiff_sink_behind_frames", "frames in the outbox for it", ["sink"])
        sink_latency = "end of readout (arrival) until a sink had the alerts, of each frame"
        self._sink_latency = seconds("gpudiff_sink_latency_seconds", sink_latency, ["sink"])
        age = "since the known sky was built; NaN without one"
        self._snapshot_age = gauge("gpudiff_snapshot_age_seconds", age)
        self._snapshot_age.set(math.nan)
        self._objects = gauge("gpudiff_objects", "DIAObjects in memory")
        self._filters_off = total("gpudiff_filters_switched_off", "times that a filter was", ["filter"])
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
        self._detectors.total.labels("committed").inc()
        self._alerts.inc(alerts)
        self._objects.set(objects)
        if latency_s is not None and np.isfinite(latency_s):
            self._committed.observe(latency_s)

    def published(self, frames: Sequence[Published]) -> None:
        """Note how long the alerts of frames took until the last sink had them; without sinks, the archive."""
        for one in frames:
            if one.reference_tai is not None:
                self._latency.observe((one.at_tai - one.reference_tai) * 86400, one.alerts)

    def set_apart(self, alerts: int, held: bool, delayed: bool) -> None:
        """Count the alerts of a suspect frame, which are held, and of one that came after it was given up."""
        self._apart.labels("held").inc(alerts * held)
        self._apart.labels("delayed").inc(alerts * delayed)

    def delivered(self, done: Sequence[Delivered], waits: Mapping[int, Waited]) -> None:
        """Note what sinks have taken since the last time.  waits : LedgerReader.waits of it"""
        for one in done:
            self._dead.labels(one.sink).inc(len(one.refused))
            committed_tai, reference_tai = waits.get(one.seq, (None, None))
            if committed_tai is not None:
                self._stages.labels("publish").observe(max(0.0, (one.at_tai - committed_tai) * 86400))
            if reference_tai is not None:
                self._sink_latency.labels(one.sink).observe(max(0.0, (one.at_tai - reference_tai) * 86400))

    def note(self, visits: Mapping[str, int], sinks: Mapping[str, Mapping[str, int]]) -> None:
        """Take over what Visits.counts and Publisher.lag say by now."""
        for name, count in visits.items():
            (self._detectors if name in LOST else self._closed).note(name, count)
        for name, one in sinks.items():
            self._behind.labels(name).set(one["behind"])
            self._sent.note(name, one["alerts"])
            self._sink_errors.note(name, one["errors"])

    def snapshot(self, built: float) -> None:
        """Show the age of the known sky from now on.  built : seconds since 1970"""
        self._snapshot_age.set_function(lambda: time.time() - built)

    def refused(self, door: str, connections: Mapping[str, int]) -> None:
        """Count differencers (door: detections) and subscribers (alerts) that were not let in, by reason."""
        for reason, count in connections.items():
            self._refused.labels(door, reason).inc(count)

    def filter_off(self, name: str) -> None:
        """Count a filter of the mini-broker that was switched off."""
        self._filters_off.labels(name).inc()

    def loaded(self, level: Level) -> None:
        """Note what is left out under load."""
        self._load.note(level)

    def stages(self, seconds: Mapping[str, float]) -> None:
        """Note how long each stage took: associate, encode, archive, store of frames; commit of a transaction
        (publish, of a frame for a sink, is noted by `delivered`)."""
        for stage, value in seconds.items():
            self._stages.labels(stage).observe(value)
