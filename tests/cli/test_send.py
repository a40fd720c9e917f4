"""gpudiff send: FITS files to a service, by exit status and what is printed."""

import pytest
from serving import a_frame

from gpudiff.__main__ import main
from gpudiff.edges import client
from gpudiff.edges.client_double import FrameClientDouble
from gpudiff.edges.fits import write_frame
from gpudiff.model.errors import NeighbourLost
from gpudiff.model.frame import FrameId


@pytest.fixture
def send(service):
    return lambda *words: main(["send", *map(str, words), "--to", service.endpoint])


def test_frames_that_are_done_give_status_0_and_a_summary(send, tmp_path, capsys):
    for visit in (1, 2):
        write_frame(tmp_path / f"{visit}.fits", a_frame(visit))
    assert send(*sorted(tmp_path.glob("*.fits"))) == 0
    assert "2 frames" in (out := capsys.readouterr().out)
    assert "2 done, 0 duplicate, 0 refused; 4 sources, 4 alerts" in out


def test_frames_sent_again_are_duplicates_and_give_status_0(send, tmp_path, capsys):
    write_frame(tmp_path / "3.fits", a_frame(3))
    send(tmp_path / "3.fits")
    assert send(tmp_path / "3.fits") == 0
    assert "0 done, 1 duplicate" in capsys.readouterr().out


def test_a_rejected_frame_gives_status_3_and_a_line(send, tmp_path, capsys):
    write_frame(tmp_path / "4.fits", a_frame(4, fill=float("nan")))
    assert send(tmp_path / "4.fits") == 3
    assert "4/0/4: rejected: NoUsablePixels: " in capsys.readouterr().out


def test_what_is_done_is_said_also_when_the_service_is_lost(tmp_path, capsys, monkeypatch):
    for visit in (1, 2):
        write_frame(tmp_path / f"{visit}.fits", a_frame(visit))
    double = FrameClientDouble({FrameId(2, 0, 4): [NeighbourLost("gone")]})
    monkeypatch.setattr(client, "FrameClient", lambda *_, **__: double)
    assert main(["send", *map(str, sorted(tmp_path.glob("*.fits")))]) == 1
    assert "1 of 2 frames in" in capsys.readouterr().out


def test_a_file_that_is_no_frame_gives_status_3_and_the_others_are_sent(send, tmp_path, capsys):
    (tmp_path / "a.fits").write_text("not FITS")
    write_frame(tmp_path / "b.fits", a_frame(5))
    assert send(tmp_path / "a.fits", tmp_path / "b.fits") == 3
    out = capsys.readouterr().out
    assert "not sent: UnreadableFile: " in out
    assert "1 done, 0 duplicate, 1 refused" in out


def test_visit_numbers_count_up_from_the_one_given(send, tmp_path, capsys, service):
    for name in ("a", "b"):
        write_frame(tmp_path / f"{name}.fits", a_frame(0, unit=name))
    assert send(tmp_path / "a.fits", tmp_path / "b.fits", "--visit", 50, "--detector", 9) == 0
    assert "2 done" in capsys.readouterr().out


def test_two_files_that_say_they_are_one_frame_are_not_both_sent(send, tmp_path, capsys):
    write_frame(tmp_path / "a.fits", a_frame(70))
    write_frame(tmp_path / "b.fits", a_frame(70, fill=3.0))
    assert send(tmp_path / "a.fits", tmp_path / "b.fits") == 3
    assert "b.fits: expected one frame a (visit, snap, detector)" in capsys.readouterr().out


def test_a_service_that_does_not_answer_gives_status_1(tmp_path, capsys):
    write_frame(tmp_path / "1.fits", a_frame(1))
    assert main(["send", str(tmp_path / "1.fits"), "--to", "tcp://127.0.0.1:9", "--timeout", "0.2"]) == 1
    assert "NeighbourLost" in capsys.readouterr().err
