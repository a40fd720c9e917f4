"""gpudiff.edges.alert_table and alert_nights: alerts to files, nights to Parquet, SQL over them, old ones gone."""

import fastavro
import pyarrow
import pytest
from batches import a_batch, taken

from gpudiff.edges import alert_nights, archive
from gpudiff.edges.alert_archive import AlertArchive
from gpudiff.edges.alert_table import write_alerts, write_table
from gpudiff.edges.sources import read_columns
from gpudiff.model.alert_index import AlertQuery
from gpudiff.model.errors import BadConfiguration, UnreadableFile


@pytest.fixture
def opened(tmp_path) -> AlertArchive:
    """Two visits of two nights, three alerts and two; the first two objects are seen twice."""
    return AlertArchive(taken(tmp_path, a_batch(3), a_batch(2, visit=8)))


def everything(opened):
    return opened.alerts(opened.find(AlertQuery()))


def test_alerts_are_written_as_they_are(opened, tmp_path):
    write_alerts(tmp_path / "out.avro", everything(opened))
    with open(tmp_path / "out.avro", "rb") as file:
        copied = list(fastavro.reader(file))
    with open(tmp_path / "alerts" / "7.avro", "rb") as file:
        assert copied[:3] == list(fastavro.reader(file))
    assert len(copied) == 5


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".ecsv"])
def test_alerts_are_written_as_a_table(opened, tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    write_alerts(path, everything(opened))
    columns = read_columns(path)
    assert [int(one) for one in columns["diaSourceId"]] == opened.find(AlertQuery())["diaSourceId"].tolist()
    assert [float(one) for one in columns["psfFlux"]] == [1000, 1001, 1002, 1000, 1001]


@pytest.mark.parametrize("suffix", [".avro", ".parquet", ".csv", ".ecsv"])
def test_no_alerts_make_a_file_that_can_be_read(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    write_alerts(path, [])
    if suffix == ".avro":
        assert list(archive.read(path)) == []
    else:
        assert len(read_columns(path)["diaSourceId"]) == 0


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(BadConfiguration, match="txt"):
        write_alerts(tmp_path / "out.txt", [])
    with pytest.raises(BadConfiguration, match="avro"):
        write_table(tmp_path / "out.avro", pyarrow.table({"n": [1]}))


def test_nights_are_exported_and_asked_in_sql(opened):
    for night, rows in alert_nights.nights(opened).items():
        alert_nights.export(opened, night, rows)
    asked = alert_nights.ask_sql(opened.folder, "SELECT visit, count(*) n FROM sources GROUP BY visit ORDER BY 1")
    assert asked.to_pydict() == {"visit": [7, 8], "n": [3, 2]}
    objects = alert_nights.ask_sql(opened.folder, "SELECT diaObjectId, max(nDiaSources) n FROM objects GROUP BY 1")
    assert sorted(objects["n"].to_pylist()) == [1, 2, 2]


def test_a_night_that_a_killed_export_left_half_written_is_none(opened):
    half = opened.folder / "parquet" / "sources" / ".123.61006.parquet"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"PAR1")
    with pytest.raises(UnreadableFile, match="expected exported nights"):
        alert_nights.ask_sql(opened.folder, "SELECT 1")
    for night, rows in alert_nights.nights(opened).items():
        alert_nights.export(opened, night, rows)
    assert alert_nights.ask_sql(opened.folder, "SELECT count(*) n FROM sources").to_pydict() == {"n": [5]}


@pytest.mark.parametrize("sql", ["SELECT nothing FROM sources", "SELECT * FROM read_csv('/etc/passwd')"])
def test_sql_that_asks_for_something_else_is_refused(opened, sql):
    for night, rows in alert_nights.nights(opened).items():
        alert_nights.export(opened, night, rows)
    with pytest.raises(BadConfiguration, match="--sql"):
        alert_nights.ask_sql(opened.folder, sql)


def test_sql_before_an_export_says_what_to_do(opened):
    with pytest.raises(UnreadableFile, match="gpudiff archive export"):
        alert_nights.ask_sql(opened.folder, "SELECT 1")


def test_only_sealed_and_exported_files_of_old_nights_are_deleted(opened):
    assert dict(alert_nights.deletable(opened, 61007)) == {"7.avro": "not sealed"}
    opened.index.catch_up()
    again = AlertArchive(opened.folder)
    assert dict(alert_nights.deletable(again, 61007)) == {"7.avro": "not exported"}
    alert_nights.export(again, 61006, alert_nights.nights(again)[61006])
    assert dict(alert_nights.deletable(again, 61007)) == {"7.avro": ""}
    alert_nights.delete(again, ["7.avro"])
    assert set(AlertArchive(opened.folder).find(AlertQuery())["file"]) == {"8.avro"}
    assert not list(opened.folder.glob("7.*"))


def test_a_deletion_that_was_cut_short_is_done_by_the_next(opened):
    opened.index.catch_up()
    again = AlertArchive(opened.folder)
    (opened.folder / "7.avro").unlink()
    alert_nights.delete(again, ["7.avro"])
    assert set(AlertArchive(opened.folder).find(AlertQuery())["file"]) == {"8.avro"}
