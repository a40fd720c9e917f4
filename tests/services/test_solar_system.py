"""gpudiff.services.solar_system: a night's ephemerides, built and looked up."""

import numpy as np
import pytest

from gpudiff.edges.orbits import SAMPLE
from gpudiff.edges.sky_file import SkyFile, write_sky_file
from gpudiff.model.errors import BadConfiguration, UnreadableFile
from gpudiff.model.sky import within
from gpudiff.science.ephemerides import Night, Site, predict
from gpudiff.services.solar_system import KIND, SolarSystem, build

NIGHT = Night(61001.2, 14.0)
SITE = Site(-70.749, -30.245, 2663.0)


@pytest.fixture(scope="module")
def belt(tmp_path_factory):
    """3000 made-up orbits, from close to the Earth to beyond Neptune."""
    folder, generator = tmp_path_factory.mktemp("orbits"), np.random.default_rng(9)
    rows = ["designation,epoch,a,e,i,node,peri,M,H,G"]
    for n in range(3000):
        a, e, i = (
            generator.choice([1.0, 2.5, 40.0], p=[0.1, 0.8, 0.1]),
            generator.uniform(0, 0.3),
            generator.uniform(0, 20),
        )
        node, peri, m = generator.uniform(0, 360, 3)
        rows.append(f"made {n},61000,{a},{e},{i},{node},{peri},{m},{generator.uniform(10, 20)},0.15")
    (folder / "belt.csv").write_text("\n".join(rows))
    build(folder / "belt.csv", folder / "belt.sky", NIGHT, SITE, 99.0)
    return folder / "belt.sky"


@pytest.mark.parametrize(("ra", "dec"), [(60.0, 20.0), (0.1, 0.0), (359.5, -3.0), (100.0, 85.0), (180.0, -60.0)])
@pytest.mark.parametrize("hour", [-6.9, 0.0, 5.0])
def test_a_visits_objects_are_those_of_evaluating_all(belt, ra, dec, hour):
    mjd = NIGHT.middle + hour / 24
    everything = predict(SkyFile(belt, KIND).columns, NIGHT, mjd, 30.0)
    inside = within(everything["ra"], everything["dec"], ra, dec, 8.0)
    found = SolarSystem(belt).at(mjd, 30.0, ra, dec, 8.0)
    assert set(everything["ssObjectId"][inside].tolist()) <= set(found["ssObjectId"].tolist())
    assert within(found["ra"], found["dec"], ra, dec, 8.02).all()


@pytest.mark.parametrize("mjd", [NIGHT.middle + 0.3, NIGHT.middle - 5, np.nan])
def test_outside_the_night_nothing_is_known(belt, mjd):
    assert len(SolarSystem(belt).at(mjd, 30.0, 60.0, 20.0, 180.0)) == 0


def test_designations_are_found_by_id(belt):
    system = SolarSystem(belt)
    found = system.at(NIGHT.middle, 30.0, 60.0, 20.0, 90.0)
    names = system.designations([*found["ssObjectId"].tolist(), 5])
    assert all(name.startswith("made ") for name in names[:-1])
    assert names[-1] == ""


def test_faint_objects_are_left_out(tmp_path):
    assert build(SAMPLE, tmp_path / "a.sky", NIGHT, SITE, 9.0)[1] > 0
    assert np.all(SkyFile(tmp_path / "a.sky", KIND).columns["magnitude"] <= 9)


def test_elements_of_another_year_are_refused(tmp_path):
    with pytest.raises(BadConfiguration, match="within 400 d"):
        build(SAMPLE, tmp_path / "a.sky", Night(62000.0, 14.0), SITE, 99.0)


def test_what_is_known_of_objects_is_found_by_id(belt):
    system, columns = SolarSystem(belt), SkyFile(belt, KIND).columns
    rows = np.array([2000, 3, 700])
    ids = np.append(columns["ssObjectId"][rows], 5)
    seen = system.sight(ids, NIGHT.middle)
    assert seen.ss_object_id.tolist() == ids[:3].tolist()
    assert seen.designation.tolist() == [name.decode() for name in columns["designation"][rows]]
    # light has left minutes ago: at most 0.01 AU of way for these
    np.testing.assert_allclose(seen.there[:, :3], columns["state"][rows, :3], atol=0.01)
    away = np.linalg.norm(seen.there[:, :3] - seen.here[:3], axis=1)
    made = predict({name: column[rows] for name, column in columns.items()}, NIGHT, NIGHT.middle, 0.0)
    toward = (seen.there[:, :3] - seen.here[:3]) / away[:, None]
    np.testing.assert_allclose(np.degrees(np.arcsin(toward[:, 2])), made["dec"], atol=3e-7)


def test_a_file_of_an_older_form_is_refused_by_what_it_lacks(tmp_path):
    columns = {name: np.zeros(1) for name in ("ssObjectId", "ra", "dec", "reach")}
    write_sky_file(tmp_path / "old.sky", KIND, columns, {"middle_mjd_tai": 61000.0, "hours": 14.0})
    with pytest.raises(UnreadableFile, match="build it again"):
        SolarSystem(tmp_path / "old.sky")


def test_a_file_that_holds_no_ephemerides_is_refused_by_name(tmp_path):
    (tmp_path / "a.sky").write_bytes(b"no")
    with pytest.raises(UnreadableFile, match=r"a\.sky"):
        SolarSystem(tmp_path / "a.sky")
