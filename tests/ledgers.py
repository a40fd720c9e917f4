"""Frames to commit to a ledger, and all that is in one."""

import dataclasses

import numpy as np
from batches import a_sources

from gpudiff.edges.archive import Appended
from gpudiff.edges.ledger import Ledger
from gpudiff.edges.ledger_commit import Commit
from gpudiff.edges.ledger_reader import ArchiveFile
from gpudiff.model.association import KNOWN, NEW, Association
from gpudiff.model.frame import FrameId
from gpudiff.model.tables import DIAOBJECT, Table
from gpudiff.science.objects import new_objects

SCHEMA = '{"type": "string"}'


def a_commit(count: int = 2, visit: int = 7, detector: int = 4, **values) -> Commit:
    """All of a frame's sources new; records and alerts are words that say whose they are."""
    sources = values.pop("sources", a_sources(count, visit, detector))
    none = np.zeros(count, int)
    kind = KNOWN if "objects" in values else NEW
    objects = values.pop("objects", new_objects(sources, 61020.0))
    ids = sources["diaSourceId"].tolist()
    made = Commit(
        frame=FrameId(visit, 0, detector),
        fingerprint="f0",
        revision=0,
        band="r",
        sources=sources,
        association=Association(np.full(count, kind, np.int8), none, none, none, none + 0.5, objects),
        records=[b"record %d" % one for one in ids],
        file=f"{visit}.avro",
        appended=Appended(100 * count, 100 * np.arange(count), np.full(count, 90)),
        withdrawn=[],
        rebuilt=Table.empty(DIAOBJECT),
        schema=SCHEMA,
        schema_fingerprint="s0",
        alert_fingerprint="a0",
        steps=[{"step": "calibrate"}],
        reference_tai=61019.0,
        now=61020.0,
    )
    return dataclasses.replace(made, **values)


def everything(ledger: Ledger) -> list[tuple]:
    """Every row of every table."""
    tables = "visit detector transition batch dia_source dia_object outbox archive provenance sink dead_alert"
    return [row for table in tables.split() for row in sorted(ledger._rows(f"SELECT * FROM {table}"), key=repr)]


def committed(ledger: Ledger, *frames: Commit) -> None:
    """Commit frames, each into the file of its visit."""
    for one in frames:
        if one.frame.visit not in {file.visit for file in ledger.all_archive_files()}:
            ledger.new_archive_file(ArchiveFile(one.file, one.frame.visit, one.schema_fingerprint, 0))
        ledger.commit(one)
