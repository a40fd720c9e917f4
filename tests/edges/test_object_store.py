"""gpudiff.edges.object_store: known objects from tables and ledgers."""

import numpy as np
import pytest
from astropy.table import MaskedColumn
from astropy.table import Table as Astropy
from batches import a_sources

from gpudiff.edges.ledger import Ledger
from gpudiff.edges.object_store import KIND, ObjectStore, build, read_objects
from gpudiff.edges.sky_file import write_sky_file
from gpudiff.model.errors import StoreFailed, UnreadableFile
from gpudiff.model.tables import DIAOBJECT
from gpudiff.science.objects import new_objects


def a_table(path, **columns):
    rows = Astropy({"ra": [10.0, 20.0, 30.0], "dec": [1.0, 2.0, 3.0], **columns})
    rows.write(path, **({"format": "ascii.ecsv"} if path.suffix == ".ecsv" else {}))
    return path


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "parquet"])
def test_every_kind_of_table_is_read(tmp_path, suffix):
    found = read_objects(a_table(tmp_path / f"a.{suffix}", nDiaSources=[4, 5, 6]))
    assert found["ra"].tolist() == [10, 20, 30]
    assert found["nDiaSources"].tolist() == [4, 5, 6]
    assert np.isnan(found["raErr"]).all()


def test_a_masked_number_is_unknown(tmp_path):
    path = a_table(tmp_path / "a.ecsv", raErr=MaskedColumn([1.0, 2.0, 3.0], mask=[False, True, False]))
    np.testing.assert_array_equal(read_objects(path)["raErr"], [1, np.nan, 3])


def test_rows_of_two_tables_without_ids_are_all_there_and_the_same_ones_once(tmp_path):
    for name, rows in (("a.csv", "10,1\n20,2\n"), ("b.csv", "-5,-3\n20,2\n355,4\n")):
        (tmp_path / name).write_text(f"ra,dec\n{rows}")
    assert build(tmp_path / "known.sky", [tmp_path / "a.csv", tmp_path / "b.csv"]) == (4, 0)
    assert build(tmp_path / "known.sky", [tmp_path / "a.csv"]) == (4, 0)


@pytest.mark.parametrize("ids", [["1", ""], ["9007199254740993", ""], ["1.5", "2"]])
def test_an_id_that_is_missing_or_has_lost_its_digits_is_refused(tmp_path, ids):
    path = tmp_path / "a.csv"
    path.write_text("diaObjectId,ra,dec\n" + "".join(f"{one},10,{n}\n" for n, one in enumerate(ids)))
    with pytest.raises(UnreadableFile, match="diaObjectId: expected a whole number in every row"):
        read_objects(path)


def test_a_later_source_wins_and_the_rest_stays(tmp_path):
    store = tmp_path / "known.sky"
    first = a_table(tmp_path / "a.csv", diaObjectId=[1, 2, 3])
    assert build(store, [first]) == (3, 0)
    second = a_table(tmp_path / "b.csv", diaObjectId=[3, 4, 5], nDiaSources=[7, 7, 7])
    assert build(store, [second]) == (5, 0)
    found = ObjectStore(store).everything()
    rows = dict(zip(found["diaObjectId"].tolist(), found["nDiaSources"].tolist(), strict=True))
    assert rows == {1: 0, 2: 0, 3: 7, 4: 7, 5: 7}
    assert len(ObjectStore(tmp_path / "known.sky.previous")) == 3


def test_building_again_gives_the_same_bytes(tmp_path):
    table = a_table(tmp_path / "a.csv", diaObjectId=[1, 2, 3])
    build(tmp_path / "one.sky", [table])
    build(tmp_path / "two.sky", [table, table])
    assert (tmp_path / "one.sky").read_bytes() == (tmp_path / "two.sky").read_bytes()


def test_tonights_ledger_becomes_tomorrows_known_sky(tmp_path, monkeypatch):
    Ledger(tmp_path / "ledger.sqlite").close()
    objects = new_objects(a_sources(3), 61007.5)
    monkeypatch.setattr("gpudiff.edges.ledger_reader.LedgerReader.objects", lambda self: objects)
    build(tmp_path / "known.sky", [tmp_path / "ledger.sqlite"])
    store = ObjectStore(tmp_path / "known.sky")
    assert store.until == 61007.5
    assert sorted(store.cone(150.0, -30.0, 1.0)["diaObjectId"].tolist()) == objects["diaObjectId"].tolist()


def test_objects_without_a_position_are_counted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("ra,dec\n1.0,2.0\nnan,3.0\n")
    assert build(tmp_path / "known.sky", [path]) == (1, 1)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "x,y\n1,2\n", "expected columns ra and dec"),
        ("a.fits", "no fits", "expected a table"),
        ("a.parquet", "no parquet", "expected a table"),
        ("a.txt", "", "expected a file named"),
        ("a.csv", "ra,dec\nten,1\n", "a.csv"),
    ],
)
def test_a_source_that_is_none_is_refused_by_name(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(UnreadableFile, match=said):
        build(tmp_path / "known.sky", [tmp_path / name])
    assert not (tmp_path / "known.sky").exists()


def test_a_store_of_other_columns_is_refused(tmp_path):
    write_sky_file(tmp_path / "old.sky", KIND, {"id": np.arange(1), "ra": np.ones(1), "dec": np.ones(1)}, {})
    with pytest.raises(UnreadableFile, match=r"old\.sky"):
        ObjectStore(tmp_path / "old.sky")


def test_a_folder_that_is_not_there_is_an_error_of_the_store(tmp_path):
    with pytest.raises(StoreFailed):
        build(tmp_path / "absent" / "known.sky", [a_table(tmp_path / "a.csv")])


def test_the_store_has_the_columns_of_the_objects(tmp_path):
    build(tmp_path / "known.sky", [a_table(tmp_path / "a.csv")])
    cone = ObjectStore(tmp_path / "known.sky").cone(20.0, 2.0, 0.5)
    assert [c.name for c in cone.schema] == [c.name for c in DIAOBJECT]
    assert 20.0 in cone["ra"]
