"""gpudiff.services.log: one line an event."""

import json

import pytest

from gpudiff.model.errors import NoStars
from gpudiff.model.frame import FrameId
from gpudiff.services import log


@pytest.fixture
def started(capsys):
    """Starts the log."""
    return lambda kind: log.start("associator", kind)


def test_json_says_who_what_and_which_frame(started, capsys):
    started("json")
    log.say("commit", FrameId(7, 0, 42), sources=51)
    said = json.loads(capsys.readouterr().err)
    assert (said["level"], said["program"], said["event"]) == ("info", "associator", "commit")
    assert (said["visit"], said["snap"], said["detector"], said["sources"]) == (7, 0, 42, 51)


def test_text_is_one_line_even_when_a_reason_has_more(started, capsys):
    started("text")
    log.warn("rejected", NoStars("expected stars\ngot none"), FrameId(7, 0, 42))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "warning associator rejected visit=7 snap=0 detector=42 error=NoStars reason=expected stars got none"
    )
