import json

import pytest

from gpudiff.edges.control import Receipt
from gpudiff.edges.fits import write_frame
from gpudiff.model.clock import tai_now
from gpudiff.model.errors import BadConfiguration, NeighbourLost
from gpudiff.model.frame import FrameId
from gpudiff.model.scene import Night, grid
from gpudiff.science import expose
from gpudiff.science.night import catalogue, visits
from gpudiff.services import demo


def test_the_endpoint_is_in_the_ready_line():
    assert demo.endpoint("ready: frames tcp://127.0.0.1:5570 directory /tmp/x") == "tcp://127.0.0.1:5570"


def test_another_ready_line_is_refused():
    with pytest.raises(NeighbourLost, match="expected 'ready: frames ENDPOINT"):
        demo.endpoint("ready: whatever")


def test_a_frame_is_read_out_when_it_is_sent(tmp_path):
    night, plane = Night(visits=1), grid(1, 128)
    sky = catalogue(night, 0, plane.detectors[0])
    frame, _ = expose.frame(night, plane, sky, visits(night)[0], plane.detectors[0])
    write_frame(tmp_path / "one.fits", frame)
    before, ends = tai_now(), {}
    (sent,) = demo._read_out((tmp_path / "one.fits",), ends)
    assert before <= sent.observation.readout_end_tai <= tai_now()
    assert ends == {sent.observation.frame: sent.observation.readout_end_tai}
    assert sent.observation.mjd_start_tai == frame.observation.mjd_start_tai


def test_a_rejection_keeps_its_reason():
    receipt = Receipt(7, 0, 3, 1, "rejected", error="NoStars", reason="frame 7/0/3: expected stars")
    record = demo._record(receipt, {FrameId(7, 0, 3): tai_now()})
    assert not record.good
    assert record.reason == "NoStars frame 7/0/3: expected stars"


def test_an_earlier_demo_is_cleared_and_anything_else_left_alone(tmp_path):
    (tmp_path / "service").mkdir()
    (tmp_path / "simulation.json").write_text("{}")
    demo.clear(tmp_path)
    assert not (tmp_path / "service").exists()
    (tmp_path / "simulation.json").unlink()
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(BadConfiguration, match="expected a new or empty folder"):
        demo.clear(tmp_path)


@pytest.mark.parametrize(("committed", "behind"), [(3, 2), (2, 0)], ids=["alerts behind", "frames to come"])
def test_the_filters_are_waited_for_until_they_have_every_alert(tmp_path, committed, behind):
    def says(committed, behind):
        said = {"sinks": {"broker": {"behind": behind}}, "counts": {"committed": committed}}
        (tmp_path / "associator.json").write_text(json.dumps(said))

    says(3, 0)
    demo.until_filtered(tmp_path, 3)
    says(committed, behind)
    with pytest.raises(NeighbourLost, match="expected its filters to have every alert"):
        demo.until_filtered(tmp_path, 3, 0.01)
