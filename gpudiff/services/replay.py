"""Replay: archived alerts to a sink again, in order of time and at its pace, or faster."""

import time
from collections import Counter
from collections.abc import Callable, Iterable

from gpudiff.model.errors import NeighbourLost
from gpudiff.model.outgoing import Delivery, OutgoingBatch, Sink

TRIES, PAUSE_S = 5, 1.0


def replay(
    batches: Iterable[tuple[float, OutgoingBatch]],
    sink: Sink,
    speed: float,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
    progress: Callable[[int], None] = lambda alerts: None,
) -> Counter[str]:
    """Publish each batch when its time has come; how many alerts were delivered and refused.

    batches : (MJD TAI, batch) in order of time; speed : 10 for ten times faster than it was, inf for no waiting
    clock, wait : seconds now; to let so many pass; progress : called with the alerts of each batch published
    Raises NeighbourLost when the sink takes a batch in none of TRIES tries.
    """
    counts: Counter[str] = Counter()
    wait(getattr(sink, "settle_s", 0.0))  # for its readers
    start, first = clock(), None
    for mjd_tai, batch in batches:
        first = mjd_tai if first is None else first
        early = start + (mjd_tai - first) * 86400 / speed - clock()
        if early > 0:
            wait(early)
        delivery = _publish(sink, batch, wait)
        counts["delivered"] += delivery.delivered
        counts["refused"] += len(delivery.refused)
        progress(len(batch))
    return counts


def _publish(sink: Sink, batch: OutgoingBatch, wait: Callable[[float], None]) -> Delivery:
    for _ in range(TRIES - 1):
        try:
            return sink.publish(batch)
        except NeighbourLost:
            wait(PAUSE_S)
    return sink.publish(batch)
