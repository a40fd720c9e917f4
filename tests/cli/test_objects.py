"""gpudiff objects: build a store, look into it."""

from gpudiff.__main__ import main


def test_objects_are_built_and_found(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("diaObjectId,ra,dec\n17,150.0,2.2\n18,150.5,2.2\n")
    store = str(tmp_path / "known.sky")
    assert main(["objects", "build", str(tmp_path / "a.csv"), "--output", store]) == 0
    assert main(["objects", "near", store, "--ra", "150", "--dec", "2.2"]) == 0
    said = capsys.readouterr().out
    assert "2 known objects" in said
    assert "1 of 2 known objects" in said
    assert " 17 " in said


def test_a_table_that_is_none_is_one_line_and_status_3(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    assert main(["objects", "build", str(tmp_path / "a.csv"), "--output", str(tmp_path / "known.sky")]) == 3
    assert "UnreadableFile" in capsys.readouterr().err
