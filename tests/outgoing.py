"""Small batches of alerts on their way out, for the tests of sinks and notices."""

from typing import Any

import numpy as np
from batches import a_batch

from gpudiff.edges import alert_codec
from gpudiff.edges.alert_schema import SCHEMA_ID, schema_text
from gpudiff.model.outgoing import OUTGOING, OutgoingBatch
from gpudiff.model.tables import DIAOBJECT, Table
from gpudiff.science.alert import make_alerts
from gpudiff.science.associate import associate

NOW = 61020.0


def an_outgoing(count: int = 3, revision: int = 0, broken: tuple[int, ...] = (), **columns: Any) -> OutgoingBatch:
    """The alerts of `a_batch`, each new; those at `broken` are empty: no schema reads them."""
    batch = a_batch(count, zero_point=27.0, **columns)
    found = associate(batch.sources, Table.empty(DIAOBJECT), 1.0, NOW)
    alerts = make_alerts(batch, found, revision, "", NOW)
    none = [[[]] * count]
    data = next(alert_codec.encode_alerts([alerts], alert_codec.encode_sources([alerts]), none, none)).whole()
    own = {
        "diaObjectId": found.object_ids,
        "kind": found.kind,
        "probability": found.probability,
        "revision": np.full(count, revision),
        "band": np.full(count, "r"),
        "nDiaSources": found.objects["nDiaSources"],
        "firstDiaSourceMjdTai": found.objects["firstDiaSourceMjdTai"],
    }
    rows = Table(OUTGOING, {**batch.sources.columns, **own})
    kept = [b"" if n in broken else one for n, one in enumerate(data)]
    return OutgoingBatch(rows, kept, schema_text(), SCHEMA_ID, alerts.fingerprint)
