"""gpudiff requeue."""

import json

import numpy as np
import pytest
from serving import a_frame

from gpudiff.__main__ import main
from gpudiff.edges import wire
from gpudiff.edges.client_double import FrameClientDouble
from gpudiff.edges.dead_letters import DeadLetters, frames_in, send_again
from gpudiff.model.errors import BadMessage, NeighbourLost, NoStars, NoTemplate
from gpudiff.model.frame import FrameId


@pytest.fixture
def letters(tmp_path):
    letters = DeadLetters(tmp_path / "dead")
    for visit, error in ((1, NoTemplate), (2, NoTemplate), (3, NoStars)):
        letters.bury(wire.encode(a_frame(visit)), error("as planned"), f"{visit}-0-4")
    letters.bury([b"GDD1", b"x"], BadMessage("odd"), "detections-1-0-4")
    return letters


def log(letters) -> list[dict]:
    return [json.loads(line) for line in (letters.folder / "requeued.jsonl").read_text().splitlines()]


def test_letters_are_chosen_by_error_and_visit(letters):
    names = [path.stem for path in frames_in(letters.folder, "NoTemplate", 2)]
    assert names == ["2-0-4-NoTemplate"]
    assert len(frames_in(letters.folder)) == 3


def test_committed_frames_are_filed_and_their_letters_removed(letters, service, tmp_path, capsys):
    words = ["requeue", "--error", "NoTemplate", str(tmp_path), "--to", service.endpoint]
    assert main(words) == 0
    assert "2 letters: 2 committed" in capsys.readouterr().out
    assert [path.stem for path in frames_in(letters.folder)] == ["3-0-4-NoStars"]
    assert [(line["letter"], line["status"]) for line in log(letters)] == [
        ("1-0-4-NoTemplate", "done"),
        ("2-0-4-NoTemplate", "done"),
    ]
    assert not (letters.folder / "1-0-4-NoTemplate.gdf").exists()


def test_a_frame_refused_again_stays_and_is_said_so(letters, service, tmp_path):
    letters.bury(wire.encode(a_frame(9, fill=np.nan)), NoTemplate("none"), "9-0-4")
    assert main(["requeue", "--visit", "9", str(tmp_path), "--to", service.endpoint]) == 3
    assert [path.stem for path in frames_in(letters.folder, visit=9)] == ["9-0-4-NoTemplate"]
    assert log(letters)[-1]["error"] == "NoUsablePixels"


def test_the_running_service_of_the_directory_is_asked_by_itself(service):
    directory = service.settings.directory
    service.differencer.reception.dead_letters.bury(wire.encode(a_frame(20)), NoStars("few"), "20-0-4")
    assert main(["requeue", "--visit", "20", str(directory)]) == 0


def test_nothing_is_lost_when_it_is_interrupted(letters):
    (first, *_), double = frames_in(letters.folder), FrameClientDouble({FrameId(1, 0, 4): [NeighbourLost("gone")]})
    with pytest.raises(NeighbourLost):
        send_again(first, double)
    assert first.exists()
    assert send_again(first, double).status == "done"


def test_a_letter_that_cannot_be_read_stays_and_is_filed(letters):
    path = letters.bury([b"GDF1", b"{"], BadMessage("no JSON"))
    assert send_again(path, FrameClientDouble()).error == "BadMessage"
    assert path.exists()
    assert log(letters)[-1]["letter"] == path.stem


def test_a_directory_without_letters_or_service_is_refused(tmp_path, letters):
    assert main(["requeue", str(tmp_path / "nowhere")]) == 3
    assert main(["requeue", str(tmp_path)]) == 3
