"""How many alerts a second one core packs: three cutouts, variance, mask, PSF, and a history of 36 records.

The peer is fastavro, handed every alert as nested dicts, in the same run.  Before anything is timed, our bytes are
compared with fastavro's: they are the same.

    python bench/alert_codec.py --sources 2000
"""

import io
import statistics
from typing import Any

import fastavro
import numpy as np
from _common import CUTOUT, arguments, device, median_s, own_planes, record

from gpudiff.edges import alert_codec
from gpudiff.edges.alert_schema import alert_schema
from gpudiff.edges.avro_rows import Records
from gpudiff.model.alert import AlertBatch
from gpudiff.model.batch import DetectionBatch
from gpudiff.model.frame import FrameId, Observation
from gpudiff.model.tables import DIAOBJECT, DIASOURCE, FORCED_SOURCE, Table, dia_source_ids
from gpudiff.science.alert import make_alerts
from gpudiff.science.associate import associate

NOW = 61020.0
SOURCES, FORCED = 12, 24
"""Records of the history: earlier detections, forced photometry."""
WCS = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 2048.5, "CRPIX2": 2002.5, "CRVAL1": 150.0}
WCS |= {"CRVAL2": -30.0, "CD1_1": -5.5e-5, "CD1_2": 1e-7, "CD2_1": 1e-7, "CD2_2": 5.5e-5}


def main() -> None:
    options = arguments(__doc__)
    options.add_argument("--sources", type=int, default=2000, help="alerts in the frame (%(default)s)")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--planes", choices=("difference", "all"), default="all", help="(%(default)s)")
    asked = options.parse_args()

    alerts, forced = a_frame(asked.sources, asked.planes == "all")
    past = alert_codec.encode_sources([alerts])[0][:SOURCES]
    earlier = alert_codec.encode_forced(forced, alerts.common)
    history, measured = [[past] * asked.sources], [[earlier] * asked.sources]

    memory = memoryview(bytearray(1 << 20))

    def ours() -> Records:
        sources = alert_codec.encode_sources([alerts])
        return next(alert_codec.encode_alerts([alerts], sources, history, measured))

    def packing() -> None:
        """Into memory that is used again, as the archive does it."""
        for piece in ours().pieces:
            memory[: len(piece)] = piece

    packed = ours().whole()
    some = [alert_codec.decode_alert(one) for one in packed[:: max(1, asked.sources // 100)]]
    schema = fastavro.parse_schema(alert_schema())
    if [naive(one, schema) for one in some] != packed[:: max(1, asked.sources // 100)]:
        raise SystemExit("our bytes are not fastavro's")

    rate = asked.sources / median_s(packing, asked.rounds)
    peer = len(some) / median_s(lambda: [naive(one, schema) for one in some], asked.rounds)
    size = statistics.mean(map(len, packed))
    print(f"{device()}: {asked.sources} alerts of {size / 1e3:.1f} kB, {SOURCES} + {FORCED} records of history")
    print(f"gpudiff  {rate:10,.0f} alerts/s  {rate * size / 1e9:.2f} GB/s")
    print(f"fastavro {peer:10,.0f} alerts/s, the same bytes")
    rates = {"gpudiff_per_s": rate, "fastavro_per_s": peer}
    record(__file__, {"planes": asked.planes, "alerts": asked.sources, "bytes": size, **rates}, asked)


def naive(alert: dict[str, Any], schema: Any) -> bytes:
    """One alert by fastavro."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, alert)
    return out.getvalue()


def a_frame(count: int, all_planes: bool = False) -> tuple[AlertBatch, Table]:
    """The alerts of a frame with `count` detections that are all new, and forced photometry for a history.

    all_planes : whether science and template cutouts have planes of their own
    """
    random = np.random.default_rng(1)
    columns = {c.name: random.normal(1000, 30, count).astype(c.dtype) for c in DIASOURCE if c.dtype != "?"}
    columns |= {c.name: random.random(count) < 0.1 for c in DIASOURCE if c.dtype == "?"}
    columns |= {"diaSourceId": dia_source_ids(7, 4, count), "visit": np.full(count, 7)}
    columns |= {"detector": np.full(count, 4), "ra": random.uniform(149, 151, count)}
    columns |= {
        "dec": random.uniform(-31, -29, count),
        "raErr": np.full(count, 2e-5),
        "decErr": np.full(count, 2e-5),
    }
    columns |= {"psfChi2": np.where(random.random(count) < 0.2, np.nan, 1)}
    observation = Observation(FrameId(7, 0, 4), band="r", mjd_end_tai=61007.0, readout_end_tai=61007.0)
    cutouts = random.normal(size=(count, 3, CUTOUT, CUTOUT)).astype(np.float32)
    batch = DetectionBatch(
        observation=observation,
        sources=Table(DIASOURCE, columns),
        cutouts=cutouts,
        variance=np.ones((count, CUTOUT, CUTOUT), np.float32),
        mask=np.zeros((count, CUTOUT, CUTOUT), np.uint16),
        psf=np.full((25, 25), 1 / 625, np.float32),
        wcs=WCS,
        fingerprint="ab" * 16,
        steps=(),
        own=own_planes(count) if all_planes else None,
    )
    found = associate(batch.sources, Table.empty(DIAOBJECT), 1.0, NOW)
    values = {c.name: np.arange(FORCED).astype(c.dtype) for c in FORCED_SOURCE}
    return make_alerts(batch, found, 0, "", NOW), Table(FORCED_SOURCE, values)


if __name__ == "__main__":
    main()
