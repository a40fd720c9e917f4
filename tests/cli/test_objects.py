"""gpudiff objects: build a store, look into it."""

from batches import a_batch, taken
from postgres import Server

from gpudiff.__main__ import main
from gpudiff.edges.object_store import ObjectStore


def test_objects_are_built_and_found(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("diaObjectId,ra,dec\n17,150.0,2.2\n18,150.5,2.2\n")
    store = str(tmp_path / "known.sky")
    assert main(["objects", "build", str(tmp_path / "a.csv"), "--output", store]) == 0
    assert main(["objects", "near", store, "--ra", "150", "--dec", "2.2"]) == 0
    said = capsys.readouterr().out
    assert "2 known objects" in said
    assert "1 of 2 known objects" in said
    assert " 17 " in said


def test_objects_are_built_from_a_ledger_in_postgresql(tmp_path, capsys):
    with Server() as server:
        store = server.new_database()
        taken(tmp_path / "service", a_batch(3), store=store)
        assert main(["objects", "build", store, "--output", str(tmp_path / "known.sky")]) == 0
    assert "3 known objects" in capsys.readouterr().out
    known = ObjectStore(tmp_path / "known.sky")
    assert sorted(known.everything()["diaObjectId"].tolist()) == a_batch(3).sources["diaSourceId"].tolist()
    assert known.until > 61000


def test_a_table_that_is_none_is_one_line_and_status_3(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    assert main(["objects", "build", str(tmp_path / "a.csv"), "--output", str(tmp_path / "known.sky")]) == 3
    assert "UnreadableFile" in capsys.readouterr().err
