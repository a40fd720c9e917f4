"""The ledger's tables, made from the columns of model.tables."""

from gpudiff.model.tables import DIAOBJECT, DIASOURCE, Column

VERSION = 1
"""Of the tables below, kept in PRAGMA user_version."""
SQL_TYPE = {"i": "INTEGER", "f": "REAL", "b": "INTEGER", "?": "INTEGER"}

DIA_SOURCE: tuple[Column, ...] = (
    *DIASOURCE,
    Column("diaObjectId", "i8", "", "the DIAObject it belongs to"),
    Column("known", "?", "", "joined an object that was known before"),
    Column("runnerUp", "i8", "", "diaObjectId of the next best candidate, 0 for none"),
    Column("probability", "f8", "", "of the association"),
    Column("revision", "i4", "", "0, and one more each time other software repeats the frame"),
)
"""What the ledger knows of a DIASource; NaN is stored as NULL."""


def _columns(columns: tuple[Column, ...]) -> str:
    return ", ".join(f"{c.name} {SQL_TYPE[c.dtype[0]]}" for c in columns)


CREATE = (
    "CREATE TABLE visit (visit INTEGER PRIMARY KEY, state TEXT NOT NULL)",
    "CREATE TABLE detector (visit INTEGER, snap INTEGER, detector INTEGER, state TEXT NOT NULL,"
    " fingerprint TEXT, revision INTEGER, sources INTEGER, known INTEGER,"
    " committed_tai REAL, reference_tai REAL, published_tai REAL, PRIMARY KEY (visit, snap, detector))",
    "CREATE TABLE transition (seq INTEGER PRIMARY KEY, visit INTEGER, snap INTEGER, detector INTEGER,"
    " before TEXT, after TEXT, at_tai REAL, reason TEXT)",
    f"CREATE TABLE dia_source ({_columns(DIA_SOURCE)}, band TEXT, withdrawn_at REAL, record BLOB,"
    " PRIMARY KEY (diaSourceId, revision))",
    "CREATE INDEX dia_source_of_object ON dia_source (diaObjectId) WHERE withdrawn_at IS NULL",
    "CREATE INDEX dia_source_of_frame ON dia_source (visit, snap, detector)",
    f"CREATE TABLE dia_object ({_columns(DIAOBJECT)}, withdrawn_at REAL, PRIMARY KEY (diaObjectId))",
    "CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, visit INTEGER, snap INTEGER,"
    " detector INTEGER, diaSourceId INTEGER, revision INTEGER, schema TEXT, alert BLOB)",
    "CREATE TABLE archive (file TEXT PRIMARY KEY, visit INTEGER, schema TEXT, size INTEGER, alerts INTEGER)",
    "CREATE TABLE alert_schema (fingerprint TEXT PRIMARY KEY, schema TEXT)",
    "CREATE TABLE provenance (fingerprint TEXT PRIMARY KEY, steps TEXT)",
)


def insert(table: str, columns: int, verb: str = "INSERT") -> str:
    """The statement that puts one row of so many columns into a table."""
    return f"{verb} INTO {table} VALUES ({', '.join('?' * columns)})"
