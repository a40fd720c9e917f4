"""gpudiff.edges.ledger_database: what a database cannot do has a name."""

import resource
import sqlite3

import pytest
from ledgers import a_commit, everything

from gpudiff.edges.ledger import Ledger
from gpudiff.model.errors import BadConfiguration, StoreFailed


@pytest.fixture
def file_ledger(tmp_path):
    made = Ledger(tmp_path / "ledger.sqlite")
    yield made
    made.close()


def test_a_full_disk_is_named_and_leaves_the_ledger_as_it_was(file_ledger):
    file_ledger.commit(a_commit())
    before = everything(file_ledger)
    db = file_ledger._db.connection
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0] + 2}")
    with pytest.raises(StoreFailed, match="full"):
        file_ledger.commit(a_commit(visit=8, records=[bytes(40000)] * 2))
    assert everything(file_ledger) == before


@pytest.mark.parametrize("table", ["outbox", "transition", "archive"])
def test_what_is_asked_for_by_visit_is_not_searched_row_by_row(tmp_path, table):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger._db.run(f"DROP INDEX {table}_of_visit")  # as in a ledger of an earlier version
    ledger.close()
    ledger = Ledger(tmp_path / "ledger.sqlite")
    (plan,) = ledger._db.rows(f"EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE visit = 7")
    assert f"USING INDEX {table}_of_visit" in plan[-1]
    ledger.close()


def test_an_index_that_nobody_reads_is_not_kept_up(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger._db.run("CREATE INDEX IF NOT EXISTS dia_object_place ON dia_object (decl, ra)")  # of earlier versions
    ledger.close()
    ledger = Ledger(tmp_path / "ledger.sqlite")
    assert ledger._db.rows("SELECT name FROM sqlite_master WHERE name = 'dia_object_place'") == []
    ledger.close()


def test_what_was_committed_is_in_the_file_itself_after_a_rest(file_ledger, tmp_path):
    file_ledger.commit(a_commit())
    for rested in (False, True):
        if rested:
            file_ledger.rest()
        alone = tmp_path / f"alone-{rested}.sqlite"
        alone.write_bytes(file_ledger.where.read_bytes())
        found = (
            sqlite3.connect(alone).execute("SELECT count(*) FROM sqlite_master WHERE name = 'batch'").fetchone()
        )
        assert found == (int(rested),)


def test_a_rest_waits_for_no_reader(file_ledger):
    said = []
    file_ledger._db.connection.set_trace_callback(said.append)
    file_ledger.rest()
    assert said == ["PRAGMA wal_checkpoint(PASSIVE)"]  # SQLite's only kind that never waits


def test_a_rest_on_a_full_disk_leaves_all_to_the_wal(file_ledger):
    file_ledger.rest()
    size = file_ledger.where.stat().st_size
    file_ledger.commit(a_commit(records=[bytes(40000)] * 2))
    before = everything(file_ledger)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # a full disk: the file cannot grow
    try:
        file_ledger.rest()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert everything(file_ledger) == before
    file_ledger.rest()
    assert file_ledger.where.stat().st_size > size


def test_a_locked_ledger_is_named(file_ledger):
    other = sqlite3.connect(file_ledger.where, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    file_ledger._db.connection.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(StoreFailed, match="locked"):
        file_ledger.commit(a_commit())
    other.close()


def test_a_postgresql_ledger_has_one_writer(server):
    where = server.new_database()
    ledger = Ledger(where)
    with pytest.raises(StoreFailed, match="other writer"):
        Ledger(where)
    ledger.close()
    Ledger(where).close()


def test_a_server_that_is_silent_is_noticed_unless_its_url_says_otherwise(server):
    ledger = Ledger(f"{server.new_database()}&keepalives_idle=99")
    said = ledger._db.connection.info.get_parameters()
    assert (said["tcp_user_timeout"], said["keepalives_idle"]) == ("30000", "99")
    ledger.close()


@pytest.mark.parametrize("url", ["gpudiff:secret@127.0.0.1:1/night", "127.0.0.1:1/night?password=secret"])
def test_a_server_that_is_not_there_is_named_without_its_password(url):
    with pytest.raises(StoreFailed, match=r"^postgresql://127\.0\.0\.1:1/night: connection failed") as refusal:
        Ledger(f"postgresql://{url}")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("password", ["se%cret", "se%zzcret", "se@cret", "se/cret", "se cret", "x@[::1"])
def test_a_password_that_breaks_its_url_is_not_shown(password):
    with pytest.raises(BadConfiguration, match="%40 for @") as refusal:
        Ledger(f"postgresql://gpudiff:{password}@127.0.0.1:1/night")
    assert "cret" not in str(refusal.value)
