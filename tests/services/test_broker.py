"""The mini-broker: every filter gets its own, and holds up nobody."""

import json
import os

import pytest
from batches import a_batch
from outgoing import an_outgoing
from serving import until

from gpudiff.edges.sinks.memory import Memory
from gpudiff.model.config import Configuration, override
from gpudiff.model.errors import BadConfiguration, BadFilter
from gpudiff.model.provenance import extend
from gpudiff.services.associator import Associator
from gpudiff.services.broker import Broker, broker_of, filter_step
from gpudiff.services.outlets import sinks_of

HEAD = '[[filter]]\nname = "{name}"\nowner = "a@b.c"\nsink = "zmq+tcp://127.0.0.1:1"\nwhere = \'{where}\'\n'


class Setup:
    """A broker with the filters `name=where`, and each filter's sink in their order."""

    def __init__(self, folder, clock=lambda: 0.0, more="", **filters):
        self.folder, self.path, self.more = folder, folder / "filters.toml", more
        self.sinks = []
        self.write(**filters)
        self.broker = Broker(self.path, folder, self.open, clock)

    def open(self, url):
        self.sinks.append(Memory())
        return self.sinks[-1]

    def write(self, **filters):
        text = "".join(HEAD.format(name=name, where=where) + self.more for name, where in filters.items())
        self.path.write_text(text)
        stamp = getattr(self, "stamp", 10**9) + 10**9
        self.stamp = stamp
        os.utime(self.path, ns=(stamp, stamp))  # a later time than before, however fast the test

    def told(self, name):
        return json.loads((self.folder / "broker.json").read_text())["filters"][name]

    def ids(self, number=0):
        return [one for batch in self.sinks[number].batches for one in batch.rows["diaSourceId"].tolist()]


def test_a_filter_gets_the_alerts_it_asks_for(tmp_path):
    setup = Setup(tmp_path, bright="snr > 15")
    batch = an_outgoing(4, snr=[10, 20, 12, 30])
    assert setup.broker.publish(batch).delivered == 4
    assert setup.ids() == batch.rows["diaSourceId"][[1, 3]].tolist()
    assert setup.sinks[0].batches[0].alerts == [batch.alerts[1], batch.alerts[3]]


def test_a_word_goes_to_every_filters_readers_and_waits_for_none(tmp_path):
    setup = Setup(tmp_path, bright="snr > 15", faint="snr < 15")
    setup.broker.publish(an_outgoing(2))
    setup.sinks[0].away = True
    setup.broker.tell("withdrawn", {"visit": 7})
    setup.broker.report()
    assert [sink.words for sink in setup.sinks] == [[], [("withdrawn", {"visit": 7})]]
    assert (setup.told("bright")["lost"], setup.told("faint")["lost"]) == (1, 0)


def test_what_is_let_through_carries_the_filters_step(tmp_path):
    setup = Setup(tmp_path, bright="snr > 15")
    batch = an_outgoing(2)
    setup.broker.publish(batch)
    declared = setup.broker.running["bright"].declared
    assert setup.sinks[0].batches[0].fingerprint == extend(batch.fingerprint, [filter_step(declared)])


def test_a_quota_is_exact_for_each_visit(tmp_path):
    setup = Setup(tmp_path, more="quota = 5\n", all="True")
    for detector in (1, 2):
        setup.broker.publish(an_outgoing(4, visit=7, detector=detector))
    setup.broker.publish(an_outgoing(4, visit=8))
    visits = [one >> 24 for one in setup.ids()]
    assert (visits.count(7), visits.count(8)) == (5, 4)
    told = setup.told("all")
    assert told.pop("step") == filter_step(setup.broker.running["all"].declared)
    assert told == {
        "owner": "a@b.c",
        "matches": 12,
        "sent": 9,
        "over_quota": 3,
        "refused": 0,
        "lost": 0,
        "waiting": 0,
        "off": "",
    }


def test_a_failing_filter_is_switched_off_and_does_not_stop_the_others(tmp_path):
    setup = Setup(tmp_path, bad="visit * 9000000000000000000 > 1", good="snr > 1")
    for _ in range(2):
        setup.broker.publish(an_outgoing(3))
    assert len(setup.ids(1)) == 6
    assert "overflow" in setup.told("bad")["off"]
    said = [json.loads(line) for line in (tmp_path / "switched-off.jsonl").read_text().splitlines()]
    assert [(one["filter"], one["owner"]) for one in said] == [("bad", "a@b.c")]


def test_a_report_that_cannot_be_written_has_no_alert_leave_twice(tmp_path):
    setup = Setup(tmp_path, bad="visit * 9000000000000000000 > 1", good="snr > 1")
    setup.broker.directory = tmp_path / "full"
    assert setup.broker.publish(an_outgoing(3)).delivered == 3
    assert len(setup.ids(1)) == 3
    assert "not written down: No such file" in setup.broker.running["bad"].off


def test_the_owner_of_a_filter_that_is_switched_off_is_told_through_its_sink(tmp_path):
    setup = Setup(tmp_path, bad="visit * 9000000000000000000 > 1", good="snr > 1")
    for _ in range(2):
        setup.broker.publish(an_outgoing(3))
    ((subject, said),) = setup.sinks[0].words
    assert subject == "filter-off"
    assert (said["filter"], said["owner"]) == ("bad", "a@b.c")
    assert "overflow" in said["reason"]
    assert setup.sinks[1].words == []


def test_an_owner_whose_sink_is_away_is_told_when_it_is_back(tmp_path):
    setup = Setup(tmp_path, bad="visit * 9000000000000000000 > 1")
    setup.sinks[0].away = True
    setup.broker.publish(an_outgoing(3))
    setup.sinks[0].away = False
    for _ in range(2):
        setup.broker.publish(an_outgoing(0))
    assert [subject for subject, _ in setup.sinks[0].words] == ["filter-off"]


def test_a_slow_filter_is_switched_off_and_does_not_stop_the_others(tmp_path):
    ticks = iter(range(0, 1000, 1))
    slow = " and ".join(["snr > 1"] * 40)
    setup = Setup(tmp_path, clock=lambda: next(ticks) * 0.01, slow=slow, quick="snr > 1")
    setup.broker.publish(an_outgoing(3))
    assert "took more than 50 ms" in setup.told("slow")["off"]
    assert len(setup.ids(1)) == 3


def test_matches_wait_for_a_sink_that_is_away(tmp_path):
    setup = Setup(tmp_path, away="snr > 1", here="snr > 1")
    setup.broker.publish(an_outgoing(1))
    setup.sinks[0].away = True
    setup.broker.publish(an_outgoing(2, visit=8))
    assert (setup.told("away")["waiting"], len(setup.ids(1))) == (2, 3)
    setup.sinks[0].away = False
    setup.broker.publish(an_outgoing(0, visit=9))
    assert setup.ids(0) == setup.ids(1)


def test_the_sinks_are_open_before_the_first_alert(tmp_path):
    setup = Setup(tmp_path, bright="snr > 15", faint="snr < 15")
    assert len(setup.sinks) == 2  # so that subscribers can be there when it comes
    assert setup.broker.settle_s > 0


def test_a_sink_that_cannot_be_opened_switches_its_filter_off(tmp_path):
    def refuse(url):
        raise BadConfiguration(f"{url}: expected a free endpoint")

    setup = Setup(tmp_path, bright="snr > 15")
    broker = Broker(setup.path, tmp_path, refuse)
    assert "BadConfiguration" in broker.running["bright"].off
    assert broker.publish(an_outgoing(2)).delivered == 2


def test_a_changed_file_is_taken(tmp_path):
    setup = Setup(tmp_path, bright="snr > 100")
    setup.broker.publish(an_outgoing(2))
    setup.write(bright="snr > 15")
    setup.broker.publish(an_outgoing(2, visit=8))
    assert len(setup.ids(1)) == 2


def test_a_wrong_file_changes_nothing_and_is_told(tmp_path):
    setup = Setup(tmp_path, bright="snr > 15")
    setup.write(bright="snrr > 15")
    setup.broker.publish(an_outgoing(2))
    assert len(setup.ids()) == 2
    assert "did you mean snr" in json.loads((tmp_path / "broker.json").read_text())["problem"]


def test_a_quota_goes_on_when_a_filter_changes(tmp_path):
    setup = Setup(tmp_path, more="quota = 3\n", all="snr > 1")
    setup.broker.publish(an_outgoing(2))
    setup.write(all="snr > 2")
    setup.broker.publish(an_outgoing(2, detector=5))
    assert sum(len(sink.batches[0]) for sink in setup.sinks) == 3


def test_a_wrong_file_at_the_start_is_refused_by_the_filters_name(tmp_path):
    with pytest.raises(BadFilter, match="filter 'bright': no column"):
        Setup(tmp_path, bright="snrr > 15")


def test_the_publisher_drives_the_broker(tmp_path):
    setup = Setup(tmp_path, bright="snr > 15")
    associator = Associator(tmp_path / "service", Configuration(), sinks=[setup.broker])
    associator.take(a_batch(3))
    until(lambda: associator.tick() or associator.ledger.pending() == [])
    associator.close()
    assert setup.told("bright")["sent"] == 3
    assert len(setup.ids()) == 3


def test_the_configured_sinks_end_with_the_broker(tmp_path):
    setup = Setup(tmp_path, bright="snr > 15")
    asked = override(Configuration(), "broker", filters=str(setup.path))
    asked = override(asked, "service", sinks=("zmq+tcp://127.0.0.1:0",))
    made = sinks_of(asked, tmp_path)
    for one in made:
        one.close()
    assert len(made) == 2
    assert made[-1].name == "broker"


def test_the_configuration_says_whether_there_is_a_broker(tmp_path):
    setup = Setup(tmp_path, bright="snr > 15")
    assert broker_of(Configuration(), tmp_path, setup.open) == []
    asked = override(Configuration(), "broker", filters=str(setup.path))
    assert [one.name for one in broker_of(asked, tmp_path, setup.open)] == ["broker"]
