"""The associator with its ledger in a real PostgreSQL: the same answers, the same archive."""

import fastavro
import psycopg
import pytest
from batches import a_batch
from postgres import Server
from serving import until

from gpudiff.edges.sinks.memory import Memory
from gpudiff.model.config import Configuration, override
from gpudiff.services.associator import Associator


@pytest.fixture
def store():
    with Server() as server:
        yield server.new_database()


def test_repeats_are_absorbed_and_revisions_withdraw_as_in_a_file(tmp_path, store):
    answers = []
    for batch in (a_batch(3), a_batch(3), a_batch(2, fingerprint="cd" * 16), a_batch(2, visit=8)):
        associator = Associator(tmp_path, override(Configuration(), "ledger", store=store))
        answer = associator.take(batch)
        answers.append((answer.status, answer.known, answer.new))
        associator.close()
    assert answers == [("committed", 0, 3), ("duplicate", 0, 3), ("committed", 0, 2), ("committed", 2, 0)]
    with open(tmp_path / "alerts" / "7.avro", "rb") as file:
        revisions = [alert["provenance"]["revision"] for alert in fastavro.reader(file)]
    assert revisions == [0, 0, 0, 1, 1]


def test_a_sink_whose_connection_to_the_ledger_was_cut_goes_on_with_another(tmp_path, store):
    sink = Memory()
    associator = Associator(tmp_path, override(Configuration(), "ledger", store=store), sinks=[sink])
    associator.take(a_batch(3))
    until(lambda: len(sink.ids) == 3)
    with psycopg.connect(store, autocommit=True) as other:
        others = "datname = current_database() AND pid NOT IN (pg_backend_pid(), %s)"
        writer = associator.ledger._db.connection.info.backend_pid
        other.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}", (writer,))
    associator.take(a_batch(2, visit=8))
    until(lambda: len(sink.ids) == 5)
    assert associator.publisher.lag(0)["memory"]["trouble"] == ""
    associator.close()
