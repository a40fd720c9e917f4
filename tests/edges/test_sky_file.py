"""gpudiff.edges.sky_file: tables by place, whole or refused."""

import numpy as np
import pytest

from gpudiff.edges.sky_file import SkyFile, write_sky_file
from gpudiff.model.errors import UnreadableFile
from gpudiff.model.sky import within

KIND = "test rows"
COUNT = 20_000


def some_columns() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(6)
    dec = np.degrees(np.arcsin(generator.uniform(-1, 1, COUNT)))
    return {
        "id": np.arange(COUNT),
        "ra": generator.uniform(0, 360, COUNT),
        "dec": dec,
        "many": generator.normal(size=(COUNT, 3)).astype("f4"),
    }


@pytest.fixture
def written(tmp_path):
    write_sky_file(tmp_path / "a.sky", KIND, some_columns(), {"night": 61000}, order=5)
    return tmp_path / "a.sky"


@pytest.mark.parametrize(
    ("ra", "dec", "radius"),
    [(10, 20, 5), (0, 0, 3), (359.9, -30, 10), (77, 90, 4), (0, -89.5, 8), (200, 45, 0.01), (-160, 45, 5)],
)
def test_a_cone_holds_all_rows_within_and_nothing_far_off(written, ra, dec, radius):
    columns, file = some_columns(), SkyFile(written, KIND)
    cone = file.cone(ra, dec, radius)
    inside = columns["id"][within(columns["ra"], columns["dec"], ra, dec, radius)]
    assert set(inside.tolist()) <= set(cone["id"].tolist())
    assert within(cone["ra"], cone["dec"], ra, dec, radius + 6).all()  # pixels of 1.8 degrees, with neighbours
    np.testing.assert_array_equal(cone["many"], columns["many"][cone["id"]])


def test_the_same_rows_give_the_same_bytes_in_any_order(written, tmp_path):
    shuffled = np.random.default_rng(1).permutation(COUNT)
    columns = {name: column[shuffled] for name, column in some_columns().items()}
    write_sky_file(tmp_path / "b.sky", KIND, columns, {"night": 61000}, order=5)
    assert (tmp_path / "b.sky").read_bytes() == written.read_bytes()


def test_rows_without_a_place_are_left_out(tmp_path):
    columns = {"id": np.arange(3), "ra": np.array([1.0, np.nan, 2.0]), "dec": np.array([0.0, 0.0, np.inf])}
    assert write_sky_file(tmp_path / "c.sky", KIND, columns, {}) == 1


def test_an_empty_file_has_empty_cones(tmp_path):
    write_sky_file(tmp_path / "d.sky", KIND, {name: c[:0] for name, c in some_columns().items()}, {})
    file = SkyFile(tmp_path / "d.sky", KIND)
    assert (len(file), file.cone(1, 2, 3)["many"].shape) == (0, (0, 3))


def test_facts_come_back(written):
    assert SkyFile(written, KIND).facts == {"night": 61000}


def test_the_file_before_is_kept_and_may_still_be_read(written):
    before, old = written.read_bytes(), SkyFile(written, KIND)
    write_sky_file(written, KIND, {name: c[:5] for name, c in some_columns().items()}, {})
    assert written.with_name("a.sky.previous").read_bytes() == before
    assert (len(SkyFile(written, KIND)), len(old.cone(0, 0, 180)["id"])) == (5, COUNT)


@pytest.mark.parametrize("length", [0, 4, 31, 200, 5000, -1, -17])
def test_a_file_that_is_not_whole_is_refused_by_name(written, length):
    written.write_bytes(written.read_bytes()[:length])
    with pytest.raises(UnreadableFile, match=r"a\.sky"):
        SkyFile(written, KIND)


@pytest.mark.parametrize("at", [0, 9, 20, 40, -4, -12])
def test_a_file_with_a_wrong_head_or_end_is_refused_by_name(written, at):
    data = bytearray(written.read_bytes())
    data[at] ^= 0xFF
    written.write_bytes(data)
    with pytest.raises(UnreadableFile, match=r"a\.sky"):
        SkyFile(written, KIND)


def test_a_changed_value_is_found_by_reading_all(written):
    file = SkyFile(written, KIND)
    file.verify()
    data = bytearray(written.read_bytes())
    data[-100] ^= 1
    written.write_bytes(data)
    with pytest.raises(UnreadableFile, match="checksum"):
        SkyFile(written, KIND).verify()


def test_other_rows_have_another_digest(written, tmp_path):
    columns = some_columns()
    columns["many"][7, 1] += 1
    write_sky_file(tmp_path / "e.sky", KIND, columns, {"night": 61000}, order=5)
    assert SkyFile(tmp_path / "e.sky", KIND).digest != SkyFile(written, KIND).digest


def test_a_file_of_another_kind_or_none_is_refused(written, tmp_path):
    with pytest.raises(UnreadableFile, match="expected known objects, got test rows"):
        SkyFile(written, "known objects")
    with pytest.raises(UnreadableFile, match="absent"):
        SkyFile(tmp_path / "absent.sky", KIND)


def test_a_failed_write_leaves_the_file_before(written):
    before = written.read_bytes()
    with pytest.raises(KeyError):
        write_sky_file(written, KIND, {"id": np.arange(3)}, {})
    assert written.read_bytes() == before
    assert len(list(written.parent.iterdir())) == 1
