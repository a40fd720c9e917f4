import fastavro
import pytest

from gpudiff.edges.published import read_alerts
from gpudiff.model.errors import UnreadableFile

SOURCE = {
    "diaSourceId": "long",
    "diaObjectId": ["null", "long"],
    "visit": "long",
    "detector": "int",
    "x": "float",
    "y": "float",
    "snr": "float",
    "isNegative": "boolean",
    "flags": "long",
    "flagged": "boolean",
}
SCHEMA = {
    "type": "record",
    "name": "alert",
    "fields": [
        {"name": "diaSourceId", "type": "long"},
        {
            "name": "diaSource",
            "type": {
                "type": "record",
                "name": "source",
                "fields": [{"name": name, "type": kind} for name, kind in SOURCE.items()],
            },
        },
        *({"name": f"cutout{name}", "type": ["null", "bytes"]} for name in ("Difference", "Science", "Template")),
    ],
}


def alert(number, **values):
    source = {name: False if kind == "boolean" else 0 for name, kind in SOURCE.items()}
    cutouts = {"cutoutDifference": b"d", "cutoutScience": b"s", "cutoutTemplate": None}
    return {"diaSourceId": number, "diaSource": {**source, "diaSourceId": number, **values}, **cutouts}


def write(path, alerts):
    with open(path, "wb") as file:
        fastavro.writer(file, SCHEMA, alerts)


def test_the_alerts_of_all_visits_are_read(tmp_path):
    write(tmp_path / "1.avro", [alert(5, x=2.5, isNegative=True)])
    write(tmp_path / "2.avro", [alert(9), alert(3)])
    table, cutouts = read_alerts(tmp_path)
    assert table["diaSourceId"].tolist() == [3, 5, 9]
    assert table["x"].tolist() == [0, 2.5, 0]
    assert table["isNegative"].tolist() == [False, True, False]
    assert cutouts[0] == (b"s", None, b"d")


def test_an_alert_that_stands_there_twice_counts_once(tmp_path):
    write(tmp_path / "1.avro", [alert(5, x=1), alert(5, x=2)])
    table, _ = read_alerts(tmp_path)
    assert table["x"].tolist() == [2]


def test_no_alerts_are_no_rows(tmp_path):
    table, cutouts = read_alerts(tmp_path)
    assert (len(table), cutouts) == (0, [])


@pytest.mark.parametrize("content", [b"", b"not avro at all"])
def test_another_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "1.avro").write_bytes(content)
    with pytest.raises(UnreadableFile, match=r"1\.avro: expected an Avro container file"):
        read_alerts(tmp_path)


def test_a_torn_file_is_refused(tmp_path):
    write(tmp_path / "1.avro", [alert(n) for n in range(50)])
    whole = (tmp_path / "1.avro").read_bytes()
    (tmp_path / "1.avro").write_bytes(whole[:-100])
    with pytest.raises(UnreadableFile):
        read_alerts(tmp_path)


def test_what_moves_belongs_to_no_object(tmp_path):
    write(tmp_path / "1.avro", [alert(5, diaObjectId=None), alert(6, diaObjectId=7)])
    table, _ = read_alerts(tmp_path)
    assert table["diaObjectId"].tolist() == [0, 7]
