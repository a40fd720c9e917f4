"""gpudiff announce: a file of visits to a service, by exit status, what is printed, and what is counted."""

import dataclasses
import json

import pytest
from serving import TIMEOUT_S, Raw, a_frame, until

from gpudiff.__main__ import main
from gpudiff.edges.client import FrameClient
from gpudiff.edges.next_visit import encode
from gpudiff.model.clock import tai_now
from gpudiff.model.next_visit import NextVisit


def line(number: int, **values) -> str:
    visit = NextVisit(number, 1, "next", 150.0, -30.0, start_tai=tai_now() + 0.01, band="r")
    return encode(dataclasses.replace(visit, **values))[1].decode() + "\n"


@pytest.fixture
def announce(service, tmp_path):
    def run(*lines: str) -> int:
        (tmp_path / "visits.jsonl").write_text("".join(lines))
        return main(["announce", str(tmp_path / "visits.jsonl"), "--to", service.endpoint])

    return run


def test_visits_are_noted_and_counted(announce, service, capsys):
    assert announce(line(1), line(1), line(2, valid_until=60000.0)) == 0
    assert capsys.readouterr().out == "3 visits: 1 noted, 1 stale, 1 expired\n"
    until(lambda: service.status()["next_visits"].items() >= {"noted": 1, "stale": 1, "expired": 1}.items())


def test_more_visits_than_fit_under_way_are_all_answered(announce, capsys):
    assert announce(*(line(number) for number in range(1000, 1120))) == 0
    assert capsys.readouterr().out == "120 visits: 120 noted\n"


def test_a_frame_of_an_announced_visit_is_a_hit_and_another_a_miss(announce, service):
    announce(line(40))
    before = service.status()["next_visits"].get("unannounced", 0)
    with FrameClient(service.endpoint, timeout_s=TIMEOUT_S) as client:
        for number in (40, 41):
            assert client.send(a_frame(number)).status == "done"
    until(lambda: service.status()["next_visits"].get("announced") == 1)
    until(lambda: service.status()["next_visits"]["unannounced"] == before + 1)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b"{", "BadMessage"),
        (b"{}", "MissingKey"),
        (line(50).replace('"rotationSystem": 2', '"rotationSystem": 3').encode(), "WrongCoordinates"),
    ],
)
def test_a_bad_announcement_is_refused_by_name_and_counted(service, message, error):
    raw = Raw(service.endpoint)
    raw.dealer.send([b"GDN1", message])
    said = json.loads(bytes(raw.dealer.receive(TIMEOUT_S)[1]))
    assert (said["say"], said["status"], said["error"]) == ("announced", "refused", error)
    until(lambda: service.status()["next_visits"].get(error))
    raw.dealer.close()


def test_a_service_that_is_not_there_gives_status_1(tmp_path, capsys):
    (tmp_path / "visits.jsonl").write_text(line(1))
    words = ["--to", f"ipc://{tmp_path}/none.ipc", "--timeout", "0.1"]
    assert main(["announce", str(tmp_path / "visits.jsonl"), *words]) == 1
    assert "no answer" in capsys.readouterr().err
