"""What leaves for the world: batches of alerts, and the contract of a sink that takes them."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gpudiff.model.tables import DIASOURCE, Column, Table

_C = Column
OUTGOING: tuple[Column, ...] = (
    *DIASOURCE,
    _C("diaObjectId", "i8", "", "the object this detection joined or made; 0 when it moves"),
    _C("kind", "i1", "", "model.association: KNOWN, TONIGHT, MOVING or NEW"),
    _C("probability", "f8", "", "of this choice, given the candidates within the gate"),
    _C("revision", "i4", "", "0, and one more each time other software repeats the frame"),
    _C("band", "U8", "", "filter, '' when unknown"),
    _C("nDiaSources", "i4", "", "detections of the object so far"),
    _C("firstDiaSourceMjdTai", "f8", "d", "when the object was first seen, MJD TAI"),
)
"""The columns of an OutgoingBatch, at the least: what people filter on."""


PUBLISHED: tuple[Column, ...] = (
    _C("psfFlux", "f4", "nJy, or the image's unit", "PSF flux"),
    _C("psfFluxErr", "f4", "nJy, or the image's unit", "its error"),
    _C("trailLength", "f4", "arcsec", "length of the trail, 0 for a point source"),
    _C("trailAngle", "f4", "deg", "bearing of the trail, from north to east"),
    _C("ssObjectId", "i8", "", "the Solar System object, 0 for none"),
)
"""What a notice says of an alert that OUTGOING has in other units, or not at all."""


@dataclass(frozen=True)
class OutgoingBatch:
    """Alerts on their way out: row i of `rows` and `alerts[i]` are one alert.

    rows : Table of OUTGOING, fluxes in the image's unit
    alerts : each alert's bare Avro body, without framing, in the schema below
    schema : that schema as JSON; schema_id : its number in Confluent framing, major * 100 + minor
    fingerprint : hex, provenance up to and including the alert; a broker extends it by a step of its own
    sources : each alert's bare diaSource record, for who need not look into the alerts; None where they must
    published : Table of PUBLISHED; None where only the alerts have it
    """

    rows: Table
    alerts: Sequence[bytes]
    schema: str
    schema_id: int
    fingerprint: str
    sources: Sequence[bytes] | None = None
    published: Table | None = None

    def __post_init__(self) -> None:
        given = {"an alert": self.alerts, "a diaSource": self.sources, "published columns": self.published}
        for what, some in given.items():
            if some is not None and len(some) != len(self.rows):
                raise ValueError(f"expected {what} a row, got {len(some)} for {len(self.rows)}")

    def take(self, rows: np.ndarray, fingerprint: str) -> "OutgoingBatch":
        """The picked rows as a batch of their own, of that fingerprint.  rows : (N,) int"""
        some = rows.tolist()
        return dataclasses.replace(
            self,
            rows=self.rows.take(rows),
            alerts=[self.alerts[row] for row in some],
            sources=None if self.sources is None else [self.sources[row] for row in some],
            published=None if self.published is None else self.published.take(rows),
            fingerprint=fingerprint,
        )

    def __len__(self) -> int:
        return len(self.alerts)


@dataclass(frozen=True)
class Delivery:
    """What became of a batch: how many alerts were delivered, and (diaSourceId, reason) of each refused.

    delivered + len(refused) is the batch's length: an alert that may still arrive later is neither, and then
    `publish` raises.  Refused is final: the same alert would be refused again (too large, not encodable).
    """

    delivered: int
    refused: tuple[tuple[int, str], ...] = ()


SETTLE_S = 1.0
"""How long readers may take to come to a new socket, and a message to leave after it was taken."""


class Sink(Protocol):
    """Where alerts go.  At least once: a reader drops repeats by (diaSourceId, revision).

    One to which readers connect has `settle_s`: so long it is left alone when it is new; what it took no longer
    ago may be lost when the program is killed, and is given to it again then.
    """

    @property
    def name(self) -> str:
        """Names the sink's watermark in the ledger, and its metrics: the same after a restart."""
        ...

    def publish(self, batch: OutgoingBatch) -> Delivery:
        """Deliver the batch; returns when each alert is delivered or refused, after the sink's own retries.

        Raises NeighbourLost when nothing can be delivered now: the caller offers the whole batch again.
        """
        ...

    def tell(self, subject: str, said: Mapping[str, Any]) -> None:
        """A word to the readers that is no alert, such as that their filter was switched off.

        Raises NeighbourLost when nobody can be told now, BadMessage when they do not want to know.
        """
        ...

    def close(self) -> None:
        """Give connections back; what `publish` said was delivered stays so."""
        ...
