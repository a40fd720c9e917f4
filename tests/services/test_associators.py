"""gpudiff.services.associators: several share the sky."""

from dataclasses import replace

import pytest
from serving import SmallAssociator, until

from gpudiff.edges.detections import Answer, decode_control
from gpudiff.model.frame import FrameId
from gpudiff.model.next_visit import NextVisit
from gpudiff.model.regions import Region, Regions
from gpudiff.services.associators import Associators


class Told(SmallAssociator):
    """Keeps what it is told beside detections: (what, visit, perhaps the state or reason)."""

    def __init__(self):
        self.told = []
        super().__init__()

    def control(self, parts):
        said = decode_control(list(parts))
        self.told.append((said["say"], said.get("visit"), said.get("state", said.get("reason", ""))))
        return Answer(None, "done", load=len(self.told))


def a_visit(ra, **more):
    return NextVisit(**{"visit": 1, "revision": 1, "horizon": "next", "ra": ra, "dec": 2.0, **more})


@pytest.fixture
def sky():
    """(associators, the one of the eastern half, the one of the western)."""
    east, west = Told(), Told()
    made = Associators(Regions((Region(east.endpoint, (0, 180)), Region(west.endpoint, (180, 360)))))
    until(lambda: made.listen() or not made.closed([]))
    yield made, east, west
    made.close()
    east.close()
    west.close()


def test_a_visit_is_announced_to_the_one_that_has_its_sky(sky):
    made, east, west = sky
    made.visit(a_visit(visit=1, ra=10.0))
    made.visit(a_visit(visit=2, ra=190.0))
    made.visit(a_visit(visit=2, ra=190.0, cancelled=True))
    until(lambda: len(west.told) == 2)
    until(lambda: east.told == [("announce", 1, "")])
    assert west.told == [("announce", 2, ""), ("visit", 2, "CANCELLED")]


def test_a_visit_that_moves_to_another_ones_sky_is_taken_back_from_the_first(sky):
    made, east, west = sky
    made.visit(a_visit(visit=1, ra=10.0))
    made.visit(a_visit(visit=1, ra=190.0, revision=2))
    until(lambda: len(east.told) == 2)
    until(lambda: west.told == [("announce", 1, "")])
    assert east.told[1] == ("visit", 1, "CANCELLED")


def test_a_superseded_visit_is_taken_back_from_the_one_that_was_told_of_it_or_from_all(sky):
    made, east, west = sky
    made.visit(a_visit(visit=1, ra=10.0))
    made.visit(a_visit(visit=3, ra=190.0, supersedes=(1, 2)))
    until(lambda: len(east.told) == 3)
    until(lambda: len(west.told) == 2)
    assert east.told[1:] == [("visit", 1, "SUPERSEDED"), ("visit", 2, "SUPERSEDED")]
    assert west.told == [("visit", 2, "SUPERSEDED"), ("announce", 3, "")]


def test_a_dead_letter_is_told_to_the_one_that_would_have_had_the_frame(sky):
    made, east, west = sky
    made.failed(FrameId(7, 0, 4), "NoStars", west.endpoint)
    until(lambda: west.told == [("failed", 7, "NoStars")])
    assert east.told == []


def test_the_one_that_is_most_behind_counts_until_it_is_gone(sky):
    made, east, west = sky
    made.answered(east.endpoint, 1)
    made.answered(west.endpoint, 3)
    assert made.level == 3
    west.close()
    until(lambda: made.listen() or made.level == 1)


def test_one_that_is_gone_is_closed_and_the_other_is_not(sky):
    made, east, west = sky
    west.close()
    until(lambda: made.listen() or made.closed([]) == {west.endpoint})
    assert made.report()[east.endpoint]["connected"]


def test_one_that_hangs_is_tried_with_one_frame_now_and_then(sky, monkeypatch):
    made, east, west = sky
    made.gave_up(west.endpoint)
    assert made.closed([]) == {west.endpoint}
    monkeypatch.setattr("gpudiff.services.associators.AGAIN_S", 0.0)
    assert made.closed([]) == set()
    assert made.closed([west.endpoint, east.endpoint]) == {west.endpoint}
    made.answered(west.endpoint, 0)
    assert made.closed([west.endpoint]) == set()


def test_the_only_one_is_never_closed():
    made = Associators(Regions((Region("tcp://127.0.0.1:9"),)))
    made.gave_up("tcp://127.0.0.1:9")
    assert made.closed(["tcp://127.0.0.1:9"]) == set()
    made.close()


def test_what_is_announced_for_later_is_told_to_nobody_yet(sky):
    made, east, west = sky
    made.visit(replace(a_visit(visit=1, ra=10.0), horizon="hour"))
    made.failed(FrameId(7, 0, 4), "the last", east.endpoint)
    until(lambda: east.told == [("failed", 7, "the last")])
    assert west.told == []
