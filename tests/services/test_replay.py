"""gpudiff.services.replay: order and pace, on a clock of the test's own."""

import json

import pytest
from batches import a_batch, taken

from gpudiff.__main__ import main
from gpudiff.edges.alert_archive import AlertArchive
from gpudiff.edges.alert_batches import batches
from gpudiff.edges.alert_schema import SCHEMA_ID
from gpudiff.edges.sinks.memory import Memory
from gpudiff.model.alert_index import AlertQuery
from gpudiff.model.errors import NeighbourLost
from gpudiff.model.outgoing import Delivery
from gpudiff.services.replay import PAUSE_S, TRIES, replay


class Recorded:
    """A sink and its clock: what came, and when."""

    name = "recorded"

    def __init__(self, away: int = 0):
        self.now, self.away, self.seen = 5.0, away, []

    def wait(self, seconds):
        self.now += seconds

    def publish(self, batch):
        if self.away:
            self.away -= 1
            raise NeighbourLost("away")
        self.seen.append((self.now, batch))
        return Delivery(len(batch))

    def close(self):
        pass


@pytest.fixture
def archive(tmp_path) -> AlertArchive:
    batches = [a_batch(2, visit=visit) for visit in (9, 7, 8)]  # as frames come: not in the order of their times
    return AlertArchive(taken(tmp_path, *batches))


def run(archive, sink, speed):
    rows = archive.find(AlertQuery())
    return replay(batches(archive, rows, 100), sink, speed, lambda: sink.now, sink.wait)


@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_alerts_come_in_order_and_at_their_pace(archive, speed):
    sink = Recorded()
    assert run(archive, sink, speed)["delivered"] == 6
    assert [batch.rows["visit"][0] for _, batch in sink.seen] == [7, 8, 9]
    # visits are a day apart; microseconds are what a double of an MJD resolves
    assert [time - 5.0 for time, _ in sink.seen] == pytest.approx([0, 86400 / speed, 172800 / speed], abs=1e-4)


def test_a_sink_with_readers_of_its_own_is_left_alone_until_they_are_there(archive):
    sink = Recorded()
    sink.settle_s = 2.0
    run(archive, sink, float("inf"))
    assert {time for time, _ in sink.seen} == {7.0}


def test_without_a_speed_nothing_waits(archive):
    sink = Recorded()
    run(archive, sink, float("inf"))
    assert {time for time, _ in sink.seen} == {5.0}


def test_a_batch_is_what_left(archive):
    sink = Recorded()
    run(archive, sink, float("inf"))
    _, batch = sink.seen[2]
    assert batch.rows["diaSourceId"].tolist() == [9 << 24 | 4 << 16, (9 << 24 | 4 << 16) + 1]
    assert batch.rows["psfFlux"].tolist() == [1000, 1001]
    assert batch.rows["band"].tolist() == ["r", "r"]
    assert len(bytes.fromhex(batch.fingerprint)) == 16


def test_a_sink_that_is_away_for_a_moment_is_tried_again(archive):
    sink = Recorded(away=TRIES - 1)
    assert run(archive, sink, float("inf"))["delivered"] == 6
    assert sink.seen[0][0] == 5.0 + (TRIES - 1) * PAUSE_S


def test_a_sink_that_stays_away_ends_the_replay(archive):
    with pytest.raises(NeighbourLost):
        run(archive, Recorded(away=TRIES), float("inf"))


def test_a_dry_run_prints_one_object_a_line(archive, capsys):
    assert main(["replay", str(archive.folder), "--speed", "max", "--visit", "8"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["diaSourceId"] for one in said] == [8 << 24 | 4 << 16, (8 << 24 | 4 << 16) + 1]


def test_a_sink_of_the_service_takes_what_is_replayed(archive):
    sink = Memory()
    counts = replay(batches(archive, archive.find(AlertQuery()), SCHEMA_ID), sink, float("inf"))
    assert counts["delivered"] == len(sink.messages) == 6
    assert {message.data[:1] for message in sink.messages} == {b"\0"}


def test_an_unknown_sink_is_refused(archive, capsys):
    assert main(["replay", str(archive.folder), "--sink", "carrier-pigeon://home:1"]) == 3
    assert "carrier-pigeon" in capsys.readouterr().err


@pytest.mark.parametrize("speed", ["0x", "-1", "fast", "nan"])
def test_a_speed_that_is_none_is_refused(archive, speed):
    with pytest.raises(SystemExit):
        main(["replay", str(archive.folder), f"--speed={speed}"])
