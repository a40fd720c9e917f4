"""The associator as a program: its socket, its turns, what it shows over HTTP."""

import gc
import time
from collections.abc import Callable
from pathlib import Path

from gpudiff.edges import detections
from gpudiff.edges.endpoint import endpoint_in
from gpudiff.edges.keys import server_keys
from gpudiff.edges.transport import Received, Router, wait
from gpudiff.model.config import Configuration
from gpudiff.services import log
from gpudiff.services.associator import MAX_BYTES, Associator, Message, Read
from gpudiff.services.monitor import Monitor, well
from gpudiff.services.sealing import Sealer
from gpudiff.services.switched_off import SwitchedOff

LISTEN_S = 1.0
"""How often what is due is seen to: not in the moments in which those who were just answered send their next."""
GROUP_PAUSE_S = 0.012
"""How long a group waits for one more batch: a sender that was answered just now has sent its next by then, and
frames that come together take a third less than one by one."""


def serve(
    directory: Path,
    endpoint: str,
    configuration: Configuration,
    ready: Callable[[str], None],
    stopping: Callable[[], bool],
    metrics: str | None = None,
) -> None:
    """Answer detections until told to stop; a batch that was begun is finished and answered.

    endpoint : to bind; ready : called with the endpoint once batches are taken; stopping : asked every second
    and after each batch; metrics : "[HOST:]PORT" for Prometheus and health, None for none
    Batches that still wait in the socket are their senders' to repeat.
    """
    import astropy.io.fits
    import astropy.wcs  # noqa: F401  # now, not in the first frame's latency

    associator = Associator(directory, configuration, apart=True)
    sealer, switched_off = Sealer(associator.alerts), SwitchedOff(directory)
    monitor: Monitor | None = None
    try:
        if metrics is not None:
            monitor = Monitor(associator.metrics.registry, metrics, well, lambda: "stopping" if stopping() else "")
        bind = endpoint_in(directory, endpoint)
        router = Router(
            bind, max_part_bytes=MAX_BYTES, keys=server_keys(configuration.security, bind, "detections")
        )
        try:
            gc.freeze()  # what is there now stays: 0.05 s in the middle of a visit to find that out again
            associator.report("ready", router.endpoint)
            reported = time.monotonic()
            ready(router.endpoint)
            while not stopping():
                idle = not (wait([router], LISTEN_S) and step(associator, router))
                _count_refused(associator, router)
                _tell_of_filters(associator, switched_off)
                sealer.turn(associator.visits.open)
                if sealer.failed:
                    associator.counts["index not sealed"] = sealer.failed
                if idle or time.monotonic() - reported > LISTEN_S:
                    (associator.rest if idle else associator.tick)()
                    associator.report("ready", router.endpoint)
                    reported = time.monotonic()
            associator.report("stopped", router.endpoint)
        finally:
            router.close()
    finally:
        if monitor is not None:
            monitor.close()
        sealer.close()
        associator.close()


def step(associator: Associator, router: Router) -> int:
    """Answer what waits, as many as may share a transaction; how many messages that were."""
    settings = associator.configuration.ledger
    received: list[Received] = []
    batches, read = list[Received](), list[Read]()
    end = time.monotonic() + settings.group_s
    while len(received) < settings.group:
        message = router.receive(max_bytes=MAX_BYTES)
        if message is None and (not received or time.monotonic() >= end or not wait([router], GROUP_PAUSE_S)):
            break
        if message is not None:
            received.append(message)
            if not (detections.is_control(message.parts) or detections.is_later(message.parts)):
                batches.append(message)
                read.append(associator.read(Message(message.parts, message.cut)))  # while the next one comes
    controls = [one for one in received if detections.is_control(one.parts)]
    later = [one for one in received if detections.is_later(one.parts)]
    answers = associator.answers([Message(one.parts, one.cut) for one in batches], read) if batches else []
    answers += [associator.control(one.parts) for one in controls]
    answers += [associator.later(one.parts) for one in later]
    for one, answer in zip([*batches, *controls, *later], answers, strict=True):
        answer.load = associator.load.level
        if not router.send(one.sender, detections.encode_answer(answer)):
            associator.counts["unheard"] += 1
    associator.burdened(bool(wait([router], 0.0)))
    return len(received)


def _tell_of_filters(associator: Associator, switched_off: SwitchedOff) -> None:
    """Log and count the filters that the mini-broker has switched off."""
    for said in switched_off.news():
        log.say("filter off", level=log.WARNING, **said)
        associator.metrics.filter_off(said["filter"])


def _count_refused(associator: Associator, router: Router) -> None:
    """Count who was not let in, differencers and subscribers."""
    for door, refused in (("detections", router.refused()), ("alerts", associator.publisher.refused())):
        associator.metrics.refused(door, refused)
        associator.counts.update({f"refused {door}: {reason}": count for reason, count in refused.items()})
