import hashlib
import json
import signal
from functools import partial

import pytest

from gpudiff.edges.fits import read_frame
from gpudiff.edges.sources import read_table
from gpudiff.model.errors import BadConfiguration
from gpudiff.model.frame import FrameId
from gpudiff.model.scene import TRUTH, Night, grid
from gpudiff.services import simulator
from gpudiff.services.simulator import simulate

NIGHT = Night(visits=2, seed=11, epochs=2)


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    return simulate(NIGHT, grid(2, 256), tmp_path_factory.mktemp("night"), processes=1)


def pixels(folder):
    return {p.name: hashlib.sha1(p.read_bytes()).hexdigest() for p in sorted(folder.glob("*/*.fits"))}


def test_the_pixels_do_not_depend_on_the_number_of_processes(night, tmp_path):
    simulate(NIGHT, grid(2, 256), tmp_path, processes=2)
    assert pixels(tmp_path) == pixels(night.folder)
    assert (tmp_path / "truth.ecsv").read_bytes() == (night.folder / "truth.ecsv").read_bytes()


def test_frames_come_in_the_order_of_their_readout(night):
    names = [path.stem for path in night.frames]
    assert names == ["20261122001_0", "20261122001_1", "20261122002_0", "20261122002_1"]


def test_a_frame_on_disk_says_who_it_is(night):
    frame = read_frame(night.frames[3])
    assert frame.observation.frame == FrameId(20261122002, 0, 1)
    assert frame.observation.band == "r"
    assert frame.observation.exposure_s == 30
    assert frame.observation.mjd_end_tai - frame.observation.mjd_start_tai == pytest.approx(30 / 86400)
    assert (frame.gain, frame.read_noise, frame.saturation) == (1.6, 6.0, 60000)
    assert frame.image.dtype.kind == "u"


def test_a_template_on_disk_has_the_gain_of_all_its_epochs(night):
    template = read_frame(night.templates[1])
    assert night.templates[1].name == "r_1.fits"
    assert template.gain == pytest.approx(3.2)
    assert template.read_noise == pytest.approx(6 * 2**0.5)
    assert template.observation.frame.detector == 1
    assert template.wcs


def test_the_truth_on_disk_is_the_truth_returned(night):
    back = read_table(night.folder / "truth.ecsv", TRUTH)
    assert (back["objectId"] == night.truth["objectId"]).all()
    assert set(back["visit"]) == {20261122001, 20261122002}


def test_the_summary_holds_every_option(night):
    summary = json.loads((night.folder / "simulation.json").read_text())
    assert summary["night"]["seed"] == 11
    assert len(summary["detectors"]) == 2
    assert len((night.folder / "pointings.csv").read_text().splitlines()) == 3


def test_several_fields_have_templates_of_their_own(tmp_path):
    made = simulate(Night(visits=2, fields=2, epochs=1), grid(1, 128), tmp_path, processes=1)
    assert [path.name for path in made.templates] == ["r_f0_0.fits", "r_f1_0.fits"]


def test_an_earlier_simulation_leaves_nothing_behind(tmp_path):
    simulate(Night(visits=2, epochs=1), grid(1, 128), tmp_path, processes=1)
    made = simulate(Night(visits=1, epochs=1), grid(1, 128), tmp_path, processes=1)
    assert sorted(tmp_path.glob("frames/*.fits")) == list(made.frames)


def test_other_processes_leave_a_ctrl_c_to_the_first():
    heard = [partial(signal.getsignal, signal.SIGINT)] * 2
    assert [*simulator._run(heard, 2)] == [signal.SIG_IGN] * 2


def test_no_processes_at_all_are_refused(tmp_path):
    with pytest.raises(BadConfiguration, match="processes: expected 1 to 1024, got 0"):
        simulate(NIGHT, grid(1, 128), tmp_path, processes=0)
