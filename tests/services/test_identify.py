"""gpudiff.services.identify: a batch against all that is known of its sky."""

import numpy as np
import pytest
from batches import a_batch, a_sources

from gpudiff.edges.object_store import KIND, ObjectStore
from gpudiff.edges.sky_file import write_sky_file
from gpudiff.model.association import KNOWN, MOVING, NEW, TONIGHT
from gpudiff.model.config import Configuration, override
from gpudiff.model.tables import DIAOBJECT, Table
from gpudiff.science.ephemerides import DEGREE
from gpudiff.science.objects import new_objects
from gpudiff.services import solar_system
from gpudiff.services.identify import identify as identify_all
from gpudiff.services.identify import seen_of
from gpudiff.services.known_sky import KnownSky
from gpudiff.services.solar_system import SolarSystem

NOW = 61007.1


def identify(batch, *known):
    """The association of one batch."""
    [found] = identify_all([batch], *known)
    return found


@pytest.fixture
def snapshot(tmp_path):
    """The first of a batch's three places, seen in an earlier visit."""
    write_sky_file(tmp_path / "known.sky", KIND, new_objects(a_sources(1, 3), 61003.0).columns, {})
    return ObjectStore(tmp_path / "known.sky")


@pytest.fixture
def mover(tmp_path):
    """A Solar System object at the second place, which stands still."""
    place = a_sources(2)
    ra, dec = place["ra"][1:], place["dec"][1:]
    coefficients = np.zeros((1, 3, DEGREE + 1))
    alpha, delta = np.radians(ra[0]), np.radians(dec[0])
    coefficients[0, :, 0] = np.cos(delta) * np.cos(alpha), np.cos(delta) * np.sin(alpha), np.sin(delta)
    columns = {"ssObjectId": np.array([77]), "designation": np.array([b"x"], "S24"), "ra": ra, "dec": dec}
    columns |= {name: np.zeros(1, "f4") for name in ("reach", "error", "magnitude")}
    columns |= {"state": np.array([[2.0, 0, 0, 0, 0.01, 0]]), "coefficients": coefficients}
    facts = {"middle_mjd_tai": 61007.0, "hours": 14.0, "site": None}
    write_sky_file(tmp_path / "night.sky", solar_system.KIND, columns, facts)
    return SolarSystem(tmp_path / "night.sky")


def test_each_detection_finds_what_is_known_of_its_place(snapshot, mover):
    sky = KnownSky(Table.empty(DIAOBJECT), snapshot)
    found = identify(a_batch(3), sky, mover, Configuration(), NOW)
    assert found.kind.tolist() == [KNOWN, MOVING, NEW]
    assert found.object_ids[0] == a_sources(1, 3)["diaSourceId"][0]
    assert found.ss_object_ids.tolist() == [0, 77, 0]
    seen = seen_of(a_batch(3), mover, found)
    assert (seen.ss_object_id.tolist(), seen.designation.tolist()) == ([77], ["x"])
    assert seen_of(a_batch(3), None, found) is None


def test_what_was_new_is_tonights_the_next_time():
    sky = KnownSky(Table.empty(DIAOBJECT))
    sky.put(identify(a_batch(2), sky, None, Configuration(), NOW).stored_objects)
    again = identify(a_batch(2, visit=8, midpointMjdTai=61007.02), sky, None, Configuration(), NOW)
    assert again.kind.tolist() == [TONIGHT, TONIGHT]


def test_the_frames_of_one_look_each_get_their_own(snapshot, mover):
    sky = KnownSky(Table.empty(DIAOBJECT), snapshot)
    frames = [a_batch(3), a_batch(0, detector=5), a_batch(2, detector=6, dec=-30.1)]
    found = identify_all(frames, sky, mover, Configuration(), NOW)
    assert [one.kind.tolist() for one in found] == [[KNOWN, MOVING, NEW], [], [NEW, NEW]]
    assert found[2].object_ids.tolist() == frames[2].sources["diaSourceId"].tolist()


def test_a_solar_system_object_is_found_once_by_the_frames_of_one_look(mover):
    place = a_sources(2)
    frames = [
        a_batch(1, detector=n, ra=place["ra"][1], dec=place["dec"][1] + n * 0.9 / 3600, raErr=1e-4, decErr=1e-4)
        for n in (0, 1)
    ]
    found = identify_all(frames, KnownSky(Table.empty(DIAOBJECT)), mover, Configuration(), NOW)
    assert [one.ss_object_ids.tolist() for one in found] == [[77], [0]]


def test_objects_learn_their_brightness_in_nanojansky():
    found = identify(a_batch(1, zero_point=31.4), KnownSky(Table.empty(DIAOBJECT)), None, Configuration(), NOW)
    assert found.objects["r_psfFluxMean"][0] == pytest.approx(1000, rel=1e-3)  # magnitude 31.4 is 1 nJy


def test_three_detections_on_a_line_are_moving_under_one_tracklet():
    sky, made = KnownSky(Table.empty(DIAOBJECT)), []
    for n in range(3):
        place = {"ra": 150 + n * 0.003, "midpointMjdTai": 61007 + n / 72}  # 20 minutes, half an arcsec a minute
        batch = a_batch(1, visit=7 + n, **place)
        made.append(identify(batch, sky, None, Configuration(), NOW))
        sky.put(made[-1].stored_objects)
        sky.note(batch.sources, made[-1])
    assert [one.kind[0] for one in made] == [NEW, NEW, MOVING]
    assert made[2].tracklet_ids.tolist() == a_sources(1, 7)["diaSourceId"].tolist()


def test_the_configuration_limits_what_is_linked():
    configuration = override(Configuration(), "sky", tracklet_fastest=0.1)
    sky, kinds = KnownSky(Table.empty(DIAOBJECT)), []
    for n in range(3):
        batch = a_batch(1, visit=7 + n, ra=150 + n * 0.003, midpointMjdTai=61007 + n / 72)
        found = identify(batch, sky, None, configuration, NOW)
        sky.note(batch.sources, found)
        kinds.append(found.kind[0])
    assert kinds == [NEW, NEW, NEW]


def test_a_batch_without_positions_is_new(snapshot, mover):
    batch = a_batch(2, ra=np.nan, dec=np.nan)
    found = identify(batch, KnownSky(Table.empty(DIAOBJECT), snapshot), mover, Configuration(), NOW)
    assert found.kind.tolist() == [NEW, NEW]


@pytest.mark.parametrize("off", [-0.8, 0.8])
def test_what_lies_just_beyond_the_edge_of_a_frame_is_found(snapshot, mover, off):
    edge = a_sources(2)
    batch = a_batch(1, dec=-30 + off / 3600, ra=edge["ra"][0], raErr=1e-4, decErr=1e-4)
    assert identify(batch, KnownSky(Table.empty(DIAOBJECT), snapshot), mover, Configuration(), NOW).kind == KNOWN
    batch = a_batch(1, dec=-30 + off / 3600, ra=edge["ra"][1], raErr=1e-4, decErr=1e-4)
    assert identify(batch, KnownSky(Table.empty(DIAOBJECT), snapshot), mover, Configuration(), NOW).kind == MOVING
