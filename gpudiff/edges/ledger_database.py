"""The two databases a ledger can live in, SQLite and PostgreSQL, behind one small contract.

Everything in which their SQL differs is in this file.  Statements are written once, with `?` for a value,
`{IDS}` for membership in a list of integers that is given as JSON, and names of columns without quotes (so
PostgreSQL reads them in small letters); rows come as tuples.

SQLite: journal WAL, synchronous FULL: a commit is on disk when it returns, because the frame's sender is then
told that it may forget the frame.  NORMAL would survive a crash of the program, but not of the machine.  What the
WAL holds goes to the file's own pages, 16 KiB each and far apart, when nothing else is to be done (`rest`).
PostgreSQL: its default, synchronous_commit = on, says the same.
"""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Protocol

from gpudiff.model.errors import BadConfiguration, StoreFailed, UnreadableFile

BUSY_S = 10.0
"""How long to wait for somebody else who holds the file (a backup, say) before it fails."""
WAL_PAGES = 16_000
"""After which a transaction must empty the WAL by itself, 250 MB: three visits of 40,000 detections on end."""
FEW = 5
"""Rows for which a COPY does not pay."""
Rows = list[tuple[Any, ...]]
OWNER, OWNER_S = 0x67706466, 2.0
"""The advisory lock of the one writer of a PostgreSQL ledger, and how long to wait for it."""
ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 30_000}
"""How a link that was silently cut is noticed, at both ends, within 30 s (libpq; a URL may say otherwise).  As the
system has it, a writer would hang for a quarter of an hour, and a dead one keep the lock for two hours."""

URL = re.compile(r"(postgres(?:ql)?://)(?:[^@/]*@)?([^@/?]*(?:/[^@?]*)?)(?:\?.*)?", re.DOTALL)
"""A server's URL: its groups name it in messages; user, password and options, between and behind them, do not."""


class Taken(Exception):
    """A key is there already."""


class Database(Protocol):
    """One connection.  Every method raises StoreFailed when the database cannot do it."""

    name: str
    GIVEN_UP: ClassVar[tuple[str, ...]]
    """Statements that rid an earlier version's ledger of what only cost time."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """What a statement finds."""
        ...

    def run(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Execute one statement."""
        ...

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Add rows to a table, many at once; raises Taken where a key is there already."""
        ...

    def begin(self) -> None:
        """Begin a transaction that no other writer can be in; `run("COMMIT")` or `run("ROLLBACK")` ends it."""
        ...

    def create(self, statements: Iterable[str]) -> None:
        """Make the tables, with this database's types, and an index of positions where it has a kind for these."""
        ...

    def version(self) -> int:
        """Of the tables; 0 where there are none yet."""
        ...

    def rest(self) -> None:
        """Do now, when nothing is to be stored, what would hold up a later transaction."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


def connect(where: Path | str, write: bool) -> Database:
    """The database in a file, or at a postgresql:// URL; a file is made when it is not there and `write`."""
    if isinstance(where, str) and where.startswith(("postgresql://", "postgres://")):
        return Postgres(where, write)
    return Sqlite(Path(where), write)


class Sqlite:
    """A file.  One thread writes; another connection may read beside it."""

    TYPES: ClassVar = {
        "BLOB": "BLOB",
        "REAL": "REAL",
        "INTEGER": "INTEGER",
        "SERIAL": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "CLUSTERED": " WITHOUT ROWID",
    }
    GIVEN_UP: ClassVar[tuple[str, ...]] = ("DROP INDEX IF EXISTS dia_object_place",)
    """Nobody looks for objects by place there, and the index was a fifth of every commit."""
    IDS = "IN (SELECT value FROM json_each(?))"

    def __init__(self, path: Path, write: bool):
        self.name = str(path)
        if not write and not path.is_file():
            raise UnreadableFile(f"{path}: expected a ledger, there is none (is it in PostgreSQL? --config)")
        with self._failing():
            self.connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            if write:
                self.connection.execute("PRAGMA page_size = 16384")  # a row has about 700 bytes
                self.connection.execute("PRAGMA journal_mode = WAL")
                self.connection.execute("PRAGMA synchronous = FULL")
                self.connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
            else:
                self.connection.execute("PRAGMA query_only = ON")

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        with self._failing():
            return self.connection.execute(sql.replace("{IDS}", self.IDS), values).fetchall()

    def run(self, sql: str, values: Sequence[Any] = ()) -> None:
        with self._failing():
            self.connection.execute(sql.replace("{IDS}", self.IDS), values)

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        marks = ", ".join("?" * len(columns))
        with self._failing():
            self.connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)

    def begin(self) -> None:
        self.run("BEGIN IMMEDIATE")

    def create(self, statements: Iterable[str]) -> None:
        for statement in statements:
            self.run(_typed(statement, self.TYPES))

    def version(self) -> int:
        version = int(self.rows("PRAGMA user_version")[0][0])  # where the first ledgers kept it
        if version or not self.rows("SELECT 1 FROM sqlite_master WHERE name = 'meta'"):
            return version
        return int(self.rows("SELECT value FROM meta WHERE name = 'version'")[0][0])

    def rest(self) -> None:
        with suppress(StoreFailed):  # as after a commit: the WAL has it all, and a commit that fails is told of
            self.rows("PRAGMA wal_checkpoint(PASSIVE)")  # waits for no reader

    def close(self) -> None:
        with self._failing():
            self.connection.close()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise Taken from None
        except sqlite3.Error as error:
            raise StoreFailed(f"{self.name}: {error}") from None


class Postgres:
    """A server.  One writer, by an advisory lock that ends with the connection; q3c indexes positions if there."""

    TYPES: ClassVar = {
        "BLOB": "BYTEA",
        "REAL": "DOUBLE PRECISION",
        "INTEGER": "BIGINT",
        "SERIAL": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "CLUSTERED": "",
    }
    GIVEN_UP: ClassVar[tuple[str, ...]] = ()
    IDS = "IN (SELECT value::bigint FROM json_array_elements_text(?::json))"

    def __init__(self, url: str, write: bool):
        try:
            import psycopg
        except ImportError:
            raise BadConfiguration("[ledger] store: expected psycopg: pip install 'gpudiff[postgres]'") from None
        self._errors = psycopg
        self.name, given = _parsed(url)
        with self._failing():
            said = {**ALIVE, "connect_timeout": int(BUSY_S), **given}
            self.connection = psycopg.connect(autocommit=True, **said)
            if write:
                self._own()
            else:
                self.connection.execute("SET default_transaction_read_only = on")
            self.connection.execute(f"SET lock_timeout = {int(BUSY_S * 1000)}")

    def _own(self) -> None:
        """Take the writer's lock; that of one that was killed is free as soon as the server notices."""
        for name, value in ALIVE.items():
            self.connection.execute(f"SET tcp_{name.removeprefix('tcp_')} = {value}")
        self.connection.execute(f"SET lock_timeout = {int(OWNER_S * 1000)}")
        try:
            self.connection.execute(f"SELECT pg_advisory_lock({OWNER})")
        except self._errors.errors.LockNotAvailable:
            self.connection.close()
            raise StoreFailed(f"{self.name}: expected no other writer of this ledger, there is one") from None

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        with self._failing():
            return self.connection.execute(self._text(sql), values).fetchall()

    def run(self, sql: str, values: Sequence[Any] = ()) -> None:
        with self._failing():
            self.connection.execute(self._text(sql), values)

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        names, many = ", ".join(columns), list(rows)
        if len(many) < FEW:
            marks = ", ".join("?" * len(columns))
            for row in many:
                self.run(f"INSERT INTO {table} ({names}) VALUES ({marks})", row)
            return
        sql: Any = f"COPY {table} ({names}) FROM STDIN"
        with self._failing(), self.connection.cursor() as cursor, cursor.copy(sql) as copy:
            for row in many:
                copy.write_row(row)

    def begin(self) -> None:
        self.run("BEGIN")

    def create(self, statements: Iterable[str]) -> None:
        for statement in statements:
            self.run(_typed(statement, self.TYPES))
        if self.rows("SELECT 1 FROM pg_available_extensions WHERE name = 'q3c'"):
            self.run("CREATE EXTENSION IF NOT EXISTS q3c")
            self.run("CREATE INDEX dia_object_place ON dia_object (q3c_ang2ipix(ra, decl))")

    def version(self) -> int:
        if self.rows("SELECT to_regclass('meta')")[0][0] is None:
            return 0
        return int(self.rows("SELECT value FROM meta WHERE name = 'version'")[0][0])

    def rest(self) -> None:
        """The server does so by itself."""

    def close(self) -> None:
        with self._failing():
            self.connection.close()

    def _text(self, sql: str) -> Any:
        return sql.replace("{IDS}", self.IDS).replace("%", "%%").replace("?", "%s")

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except self._errors.errors.UniqueViolation:
            raise Taken from None
        except self._errors.Error as error:
            raise StoreFailed(f"{self.name}: {' '.join(str(error).split())}") from None


def _parsed(url: str) -> tuple[str, dict[str, Any]]:
    """The name of a server in messages, and what libpq reads in its URL.

    Raises BadConfiguration, which shows nothing of the URL: what is wrong with it may be in the password.
    """
    import psycopg

    try:
        found = URL.fullmatch(url)
        if found:
            return found[1] + found[2], psycopg.conninfo.conninfo_to_dict(url)
    except (psycopg.Error, UnicodeDecodeError):
        pass
    raise BadConfiguration(
        "ledger: expected postgresql://USER:PASSWORD@HOST:PORT/NAME?OPTION=VALUE with options of libpq, and"
        " in user, password and values %40 for @, %2F for /, %25 for %, %20 for a space"
    )


def _typed(statement: str, types: dict[str, str]) -> str:
    """A CREATE statement with a database's own types, for {BLOB} and its like."""
    for name, own in types.items():
        statement = statement.replace("{" + name + "}", own)
    return statement
