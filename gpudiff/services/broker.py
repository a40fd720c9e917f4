"""The mini-broker: a sink that gives every filter the alerts it asks for, within its quota.

No filter can hold up another, or the publisher: one that fails or takes too long is switched off and its owner
told; matches whose own sink does not take them now wait, a limited number of them.
"""

import json
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.atomic import atomically
from gpudiff.edges.filter_file import read_filters
from gpudiff.edges.sinks import refusals
from gpudiff.model.clock import tai_now
from gpudiff.model.config import Configuration
from gpudiff.model.errors import BadFilter, GpudiffError, NeighbourLost, StoreFailed
from gpudiff.model.filters import VERSION, Filter
from gpudiff.model.outgoing import SETTLE_S, Delivery, OutgoingBatch, Sink
from gpudiff.model.provenance import extend, step
from gpudiff.science.filters import Node, OutOfTime, columns_of, compile_expression, matches
from gpudiff.services import switched_off

VISITS = 100
"""Visits whose quotas are remembered."""
WAITING = 1000
"""Alerts of one filter that wait for its sink, at most."""


@dataclass
class Running:
    """A filter at work.  sent : alerts of each visit that went to its sink; off : why it was switched off, ''"""

    declared: Filter
    node: Node
    sink: Sink | None
    sent: OrderedDict[int, int] = field(default_factory=OrderedDict)
    waiting: list[OutgoingBatch] = field(default_factory=list)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("matches", "sent", "over_quota", "refused", "lost"), 0)
    )
    off: str = ""
    word: dict[str, Any] | None = None
    """What its owner is still to be told through its sink."""


def filter_step(one: Filter) -> dict[str, Any]:
    """A filter's step of provenance: the language's version, the digest of all that was declared."""
    return step(f"filter {one.name}", VERSION, one.digest, [])


def compiled(path: Path) -> list[tuple[Filter, Node]]:
    """The filters of a file with their expressions' trees; raises BadFilter, which names the filter."""
    out = []
    for one in read_filters(path):
        try:
            out.append((one, compile_expression(one.where)))
        except BadFilter as error:
            raise BadFilter(f"{path}: filter {one.name!r}: {error}") from None
    return out


class Broker:
    """A Sink (model.outgoing) that the publisher drives like any other."""

    name = "broker"
    settle_s = SETTLE_S
    """For the filters' sinks."""

    def __init__(
        self,
        path: Path,
        directory: Path,
        open_sink: Callable[[str], Sink],
        clock: Callable[[], float] = time.thread_time,
    ):
        """Raises BadFilter for a file that is wrong.

        path : the filters' TOML file, read again whenever it changes; directory : where broker.json and
        switched-off.jsonl are written; open_sink : from a URL; clock : CPU seconds of this thread
        """
        self.path, self.directory, self.open_sink, self.clock = path, directory, open_sink, clock
        self.running: dict[str, Running] = {}
        self.problem = ""
        self._seen = self._stamp()
        self._take(compiled(path))

    def publish(self, batch: OutgoingBatch) -> Delivery:
        """Offer the batch to every filter; the broker itself takes all of it, always."""
        self._reload()
        columns = columns_of(batch.rows)
        for one in self.running.values():
            self._deliver(one)
            self._tell(one)
            if not one.off and len(batch):
                self._filter(one, batch, columns)
        with suppress(StoreFailed):  # what has left would leave again, and use up quotas, if this failed the offer
            self.report()
        return Delivery(len(batch))

    def tell(self, subject: str, said: Mapping[str, Any]) -> None:
        """Tell the readers of every filter's sink; one that does not take it now misses it: `lost`."""
        for one in self.running.values():
            if one.sink is not None:
                try:
                    one.sink.tell(subject, said)
                except GpudiffError:
                    one.counts["lost"] += 1

    def close(self) -> None:
        """Offer once more what waits, close the filters' sinks, count what is lost."""
        for one in self.running.values():
            self._retire(one)
        self.report()

    def refused(self) -> Counter[str]:
        """Subscribers that the filters' sinks did not let in since last asked, by reason; for any thread."""
        return refusals(one.sink for one in list(self.running.values()))

    def report(self) -> None:
        """Write broker.json: each filter's owner, step of provenance, counts, what waits, why it is off; what the
        file has wrong."""
        told = {
            name: {
                "owner": one.declared.owner,
                "step": filter_step(one.declared),
                **one.counts,
                "waiting": _length(one.waiting),
                "off": one.off,
            }
            for name, one in self.running.items()
        }
        with atomically(self.directory / "broker.json") as temporary:
            temporary.write_text(json.dumps({"filters": told, "problem": self.problem}, indent=1))

    def _filter(self, one: Running, batch: OutgoingBatch, columns: dict[str, Any]) -> None:
        try:
            found = matches(one.node, columns, one.declared.time_limit_ms / 1000, self.clock)
        except OutOfTime:
            return self._switch_off(
                one, f"took more than {one.declared.time_limit_ms:g} ms for {len(batch)} alerts"
            )
        except BadFilter as error:
            return self._switch_off(one, str(error))
        rows = np.flatnonzero(found)
        one.counts["matches"] += len(rows)
        kept = self._within_quota(one, batch.rows["visit"][rows], rows)
        one.counts["over_quota"] += len(rows) - len(kept)
        if len(kept):
            one.waiting.append(batch.take(kept, extend(batch.fingerprint, [filter_step(one.declared)])))
            self._deliver(one)
        return None

    def _within_quota(self, one: Running, visits: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The first rows of each visit, up to what is left of its quota."""
        kept = []
        for visit in np.unique(visits).tolist():
            left = one.declared.quota - one.sent.get(visit, 0)
            first = rows[visits == visit][: max(left, 0)]
            one.sent[visit] = one.sent.get(visit, 0) + len(first)
            kept.append(first)
            while len(one.sent) > VISITS:
                one.sent.popitem(last=False)
        return np.sort(np.concatenate(kept)) if kept else rows

    def _deliver(self, one: Running) -> None:
        """Give the filter's sink what waits for it, in order, until it takes no more."""
        while one.waiting:
            try:
                one.sink = one.sink or self.open_sink(one.declared.sink)
                delivery = one.sink.publish(one.waiting[0])
            except NeighbourLost:
                break
            except GpudiffError as error:
                one.counts["lost"] += _length(one.waiting)
                one.waiting.clear()
                return self._switch_off(one, f"its sink: {error.name}: {error}")
            one.counts["sent"] += delivery.delivered
            one.counts["refused"] += len(delivery.refused)
            one.waiting.pop(0)
        while _length(one.waiting) > WAITING:
            one.counts["lost"] += len(one.waiting.pop(0))
        return None

    def _switch_off(self, one: Running, reason: str) -> None:
        """No more alerts until its declaration changes; its owner is told through its sink, and by a line in
        switched-off.jsonl."""
        one.off = reason
        said = {"filter": one.declared.name, "owner": one.declared.owner, "at_tai": tai_now(), "reason": reason}
        try:
            with open(self.directory / switched_off.FILE, "a") as file:
                file.write(json.dumps(said) + "\n")
        except OSError as error:
            one.off += f"; not written down: {error.strerror}"
        one.word = said
        self._tell(one)

    def _tell(self, one: Running) -> None:
        """Give the owner's word to the filter's sink, if there is one, until it takes it."""
        if one.word is None:
            return
        try:
            one.sink = one.sink or self.open_sink(one.declared.sink)
            one.sink.tell("filter-off", one.word)
        except NeighbourLost:
            return
        except GpudiffError as error:  # the sink may be why it was switched off: the file and the log say so
            one.off += f"; its owner is not told: {error.name}"
        one.word = None

    def _reload(self) -> None:
        """Take the file's filters when it has changed; keep the old ones, and say so, when it is wrong."""
        now = self._stamp()
        if now == self._seen:
            return
        self._seen = now
        try:
            self._take(compiled(self.path))
            self.problem = ""
        except BadFilter as error:
            self.problem = str(error)

    def _take(self, wanted: list[tuple[Filter, Node]]) -> None:
        """Those that did not change stay as they are, counts and all; the others begin anew."""
        old, self.running = self.running, {}
        for declared, node in wanted:
            known = old.get(declared.name)
            if known and known.declared == declared:
                self.running[declared.name] = old.pop(declared.name)
            else:
                self.running[declared.name] = Running(declared, node, None)
                if known:
                    self.running[declared.name].sent = known.sent
        for one in old.values():
            self._retire(one)
        for one in self.running.values():
            self._open(one)

    def _open(self, one: Running) -> None:
        """Open the filter's sink before there is anything for it, so that its readers are there then."""
        try:
            one.sink = one.sink or self.open_sink(one.declared.sink)
        except NeighbourLost:
            pass  # with the first alerts, then
        except GpudiffError as error:
            self._switch_off(one, f"its sink: {error.name}: {error}")

    def _retire(self, one: Running) -> None:
        self._deliver(one)
        one.counts["lost"] += _length(one.waiting)
        one.waiting.clear()
        if one.sink is not None:
            one.sink.close()

    def _stamp(self) -> tuple[int, int]:
        """What changes when the file does."""
        try:
            found = self.path.stat()
            return found.st_mtime_ns, found.st_size
        except OSError:
            return 0, 0


def _length(batches: list[OutgoingBatch]) -> int:
    return sum(map(len, batches))


def broker_of(configuration: Configuration, directory: Path, open_sink: Callable[[str], Sink]) -> list[Sink]:
    """The broker that the configuration asks for, as the last of a publisher's sinks; [] for none.

    Raises BadFilter.
    """
    filters = configuration.broker.filters
    return [Broker(Path(filters), directory, open_sink)] if filters else []
