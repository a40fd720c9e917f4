"""From frames that are settled to alerts in the archive and rows in the ledger, those of one visit together."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gpudiff.edges import alert_codec
from gpudiff.edges.alert_schema import schema_fingerprint, schema_text
from gpudiff.edges.archive import Appended
from gpudiff.edges.avro_rows import Records
from gpudiff.edges.ledger import Ledger
from gpudiff.edges.ledger_commit import Commit
from gpudiff.edges.provenance_file import keep_steps
from gpudiff.model.alert import AlertBatch
from gpudiff.model.photometry import nanojansky
from gpudiff.science.alert import make_alerts, provenance, published_forced, reference_time
from gpudiff.science.stopwatch import Stopwatch
from gpudiff.services.alert_files import AlertFiles
from gpudiff.services.settled import Settled


class Storing:
    """What writes frames, within a transaction of the ledger."""

    def __init__(self, ledger: Ledger, archive: AlertFiles):
        self.ledger, self.archive = ledger, archive

    def store(self, frames: Sequence[Settled], settings: str, now: float, bare: bool, watch: Stopwatch) -> int:
        """Encode and archive the alerts of frames, and store all that they change; how many had no cutouts.

        frames : of one visit, with no object in common, and of the ledger's rows none are theirs; or a single one
        settings : digest of what the association depends on; now : MJD TAI
        bare : whether flagged detections go without cutouts
        watch : gets laps `encode`, `archive` (cutouts are made as they are written), `store`
        """
        alerts = [
            make_alerts(one.batch, one.association, one.revision.number, settings, now, one.seen) for one in frames
        ]
        records = alert_codec.encode_sources(alerts)
        without = np.concatenate([one.batch.sources["flagged"] for one in frames]) & bare
        encoded = self._encoded(frames, alerts, records, without)
        watch.lap("encode")
        places = list(self.archive.append(frames[0].frame.visit, encoded))
        watch.lap("archive")
        steps = [provenance(one.batch, settings)[1] for one in frames]
        for one, its, behind in zip(frames, alerts, steps, strict=True):
            keep_steps(self.archive.path, one.frame.visit, its.fingerprint, behind)
        rows = zip(frames, alerts, records, places, steps, strict=True)
        self.ledger.commit(*(commit_of(*row, now) for row in rows))
        watch.lap("store")
        for one, (file, appended) in zip(frames, places, strict=True):
            ids = one.association.object_ids.tolist()
            self.archive.note(file, one.batch.sources, ids, one.revision.number, appended)
        return int(np.count_nonzero(without))

    def _encoded(
        self, frames: Sequence[Settled], alerts: Sequence[AlertBatch], records: list[list[bytes]], bare: np.ndarray
    ) -> Iterator[Records]:
        """Each frame's alerts with what the ledger has of their objects; records : the frames' own diaSources."""
        ids = [one.association.object_ids.tolist() for one in frames]
        everyone, time = [n for some in ids for n in some], frames[0].batch.observation.midpoint_mjd_tai
        past = self.ledger.history(everyone, frames[0].frame, time)
        fluxes = self.ledger.forced_history(everyone, time)
        history, forced = ([[found.get(n, []) for n in some] for some in ids] for found in (past, fluxes))
        return alert_codec.encode_alerts(alerts, records, history, forced, bare)


def commit_of(
    one: Settled,
    alerts: AlertBatch,
    records: list[bytes],
    place: tuple[str, Appended],
    steps: Sequence[dict[str, Any]],
    now: float,
) -> Commit:
    """What the ledger stores of a frame.  place : of its alerts in the archive"""
    batch = one.batch
    return Commit(
        frame=one.frame,
        fingerprint=batch.fingerprint,
        revision=one.revision.number,
        band=batch.observation.band,
        sources=batch.sources,
        association=one.association,
        records=records,
        file=place[0],
        appended=place[1],
        withdrawn=one.revision.withdrawn,
        rebuilt=one.revision.rebuilt,
        schema=schema_text(),
        schema_fingerprint=schema_fingerprint(),
        alert_fingerprint=alerts.fingerprint,
        steps=steps,
        reference_tai=reference_time(batch),
        now=now,
        held=one.held,
        delayed=one.delayed,
        forced=batch.forced,
        forced_records=alert_codec.encode_forced(published_forced(batch), alerts.common),
        flux_scale=nanojansky(batch.unit, batch.zero_point) or 1.0,
        sky_trails=np.stack([alerts.sources[name] for name in ("trailLength", "trailAngle")]),
    )
