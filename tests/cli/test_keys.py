"""gpudiff keys."""

from gpudiff.__main__ import main


def keys(folder, *words) -> int:
    return main(["keys", "--keys", str(folder), *map(str, words)])


def test_what_was_made_and_allowed_is_listed(tmp_path, capsys):
    assert keys(tmp_path / "here", "make", "service") == 0
    assert keys(tmp_path / "there", "make", "camera") == 0
    assert keys(tmp_path / "here", "allow", tmp_path / "there" / "camera.key") == 0
    capsys.readouterr()
    assert keys(tmp_path / "here", "list") == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["own", "service"],
        ["frames", "camera"],
    ]


def test_a_broker_is_let_in_to_hear_alerts(tmp_path, capsys):
    keys(tmp_path / "there", "make", "broker")
    keys(tmp_path / "here", "allow", tmp_path / "there" / "broker.key", "--for", "alerts")
    assert "may hear alerts" in capsys.readouterr().out
    assert keys(tmp_path / "here", "list") == 0
    assert capsys.readouterr().out.split()[:2] == ["alerts", "broker"]


def test_a_key_that_exists_is_refused_with_status_3(tmp_path, capsys):
    keys(tmp_path, "make", "service")
    assert keys(tmp_path, "make", "service") == 3
    assert "BadConfiguration" in capsys.readouterr().err
