"""An associator that falls behind, a differencer that follows: real processes, steps on and off, nothing lost."""

import json

from batches import a_batch
from killing import Camera, Service, forced, ids, nothing_is_owed, same, stored
from serving import a_frame, until

from gpudiff.edges.client import FrameClient
from gpudiff.edges.detections import encode
from gpudiff.edges.transport import Dealer

AHEAD = 40
"""Batches under way that nobody waits for: so many are there that one always waits for another."""


def read(service: Service, name: str) -> dict:
    return json.loads((service.directory / name).read_text())


def flood(service: Service, enough) -> list[int]:
    """Send batches as another differencer would that never waits, until `enough`; the ids sent, all committed."""
    dealer, sent, answered = Dealer(service.detections), [], 0

    def under_way() -> int:
        nonlocal answered
        while dealer.receive(0.0) is not None:
            answered += 1
        return len(sent) - answered

    def step() -> bool:
        for _ in range(under_way(), AHEAD):
            batch = a_batch(1, visit=1_000_000 + len(sent))
            dealer.send(encode(batch))
            sent.extend(batch.sources["diaSourceId"].tolist())
        return enough()

    until(step)
    until(lambda: under_way() == 0)
    dealer.close()
    return sent


def test_a_differencer_follows_an_associator_that_is_behind_and_nothing_is_lost(tmp_path):
    service = Service(tmp_path / "night", "group = 1\npatience_s = 0.05\n")
    camera = None
    try:
        camera = Camera(service.endpoint, seed=1)
        camera.wait_for(1, 0.0)
        flooded = flood(service, lambda: read(service, "status.json")["load"]["level"] == 4)
        until(lambda: read(service, "status.json")["load"]["level"] == 0)
        camera.wait_for(3, 0.0)
        camera.finish()
        with FrameClient(service.endpoint) as client:
            assert client.send(a_frame(999_999)).status == "done"
        until(lambda: nothing_is_owed(service.directory))  # of the last frame too: it may have come under load
        said = read(service, "status.json")
        service.stop()
    finally:
        service.end()
        if camera is not None:
            camera.give_up()
    assert said["load"]["times"]["intake"] >= 1
    assert said["forced_deferred"] == said["forced_made_up"] >= 1
    assert said["dead_letters"] == 0
    last = a_frame(999_999).observation.frame
    same("ledger", stored(service.directory), [*ids(camera.sent | {last}), *flooded])
    same("forced", forced(service.directory), [(one.visit, one.detector) for one in camera.sent | {last}])
