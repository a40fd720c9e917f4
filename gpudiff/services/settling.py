"""From detections to frames that are settled: what each of them is, and the known sky as it is after them."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from gpudiff.edges.ledger import Ledger
from gpudiff.edges.object_store import ObjectStore
from gpudiff.model.association import together
from gpudiff.model.batch import DetectionBatch
from gpudiff.model.config import Configuration
from gpudiff.model.provenance import canonical, digest
from gpudiff.model.tables import DIAOBJECT, Table, concatenate
from gpudiff.science.objects import rebuild
from gpudiff.services.breaker import Breaker
from gpudiff.services.identify import identify, seen_of
from gpudiff.services.known_sky import KnownSky
from gpudiff.services.settled import Revision, Settled, with_free_ids, without_new_objects
from gpudiff.services.solar_system import SolarSystem
from gpudiff.services.visits import Visits


class Settling:
    """What settles frames; `sky` is as it is after all of them."""

    def __init__(
        self,
        configuration: Configuration,
        ledger: Ledger,
        visits: Visits,
        breaker: Breaker,
        clock: Callable[[], float],
    ):
        """clock : MJD TAI.  Raises StoreFailed, and UnreadableFile for a snapshot or ephemerides that are none."""
        self.configuration, self.clock = configuration, clock
        self.ledger, self.visits, self.breaker = ledger, visits, breaker
        known, ephemerides = configuration.sky.known_objects, configuration.sky.ephemerides
        self.snapshot = ObjectStore(Path(known)) if known else None
        self.solar_system = SolarSystem(Path(ephemerides)) if ephemerides else None
        self.sky = KnownSky(self.ledger.objects(), self.snapshot)

    def settle(self, batches: Sequence[DetectionBatch], number: int, now: float) -> list[Settled]:
        """Say what the detections of one look are, and let the known sky be as it is after them.

        number : of the revision of the one frame there is; 0, the first of each
        """
        revision = self._revision(batches[0], number)
        self.sky.remove(revision.withdrawn)
        self.sky.put(revision.rebuilt)
        made = []
        for batch, found in zip(
            batches, identify(batches, self.sky, self.solar_system, self.configuration, now), strict=True
        ):
            frame = batch.observation.frame
            named = with_free_ids(found, frame, self.sky)
            held = self.breaker.judge(frame.detector, len(batch.sources))
            settled = without_new_objects(named) if held else named
            seen = seen_of(batch, self.solar_system, settled)
            made.append(Settled(batch, settled, revision, held, self.visits.late(frame), seen))
        found = together([one.association for one in made])
        self.sky.put(found.stored_objects)
        self.sky.note(concatenate([batch.sources for batch in batches]), found)
        return made

    def settings(self) -> str:
        """Digest of what the association depends on: its configuration, the snapshot, the ephemerides."""
        values = dataclasses.asdict(self.configuration.sky)
        values["association_radius"] = self.configuration.service.association_radius
        values["known_objects"] = self.snapshot.digest if self.snapshot else ""
        values["ephemerides"] = self.solar_system.digest if self.solar_system else ""
        return digest(canonical(values))

    def _revision(self, batch: DetectionBatch, number: int) -> Revision:
        if number == 0:
            return Revision(0, [], Table.empty(DIAOBJECT))
        ids, left, owner, light = self.ledger.left_without(batch.observation.frame)
        before = self.sky.before(ids, left["ra"], left["dec"])
        return Revision(number, ids, rebuild(left, owner, self.clock(), light, before))
