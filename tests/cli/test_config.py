"""gpudiff config: a file is checked and printed."""

import tomllib

from gpudiff.__main__ import main


def test_the_defaults_are_printed_as_a_file_that_is_accepted(tmp_path, capsys):
    assert main(["config"]) == 0
    path = tmp_path / "gpudiff.toml"
    path.write_text(capsys.readouterr().out)
    assert tomllib.loads(path.read_text())["service"]["credit"] == 4
    assert main(["config", str(path), "--check"]) == 0
    assert capsys.readouterr().out == ""


def test_all_that_is_wrong_is_said_and_the_status_is_3(tmp_path, capsys):
    path = tmp_path / "gpudiff.toml"
    path.write_text(
        "[service]\ncredit = 0\nworkers = 'many'\nframes = '127.0.0.1:5570'\n[ledger]\nstore = 'mysql://x'\n"
    )
    assert main(["config", str(path)]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert "credit" in said.err
    assert "workers: expected int, got 'many'" in said.err
    assert "frames: expected tcp://HOST:PORT or ipc://PATH, got '127.0.0.1:5570'" in said.err
    assert "store: expected sqlite or a postgresql:// URL, got 'mysql://x'" in said.err


def test_a_sink_that_is_none_does_not_pass_the_check(tmp_path, capsys):
    path = tmp_path / "gpudiff.toml"
    path.write_text("[service]\nsinks = ['zmq+tcp://127.0.0.1:5571', 'zmq+tcp://127.0.0.1']\n")
    assert main(["config", str(path), "--check"]) == 3
    assert "sink 'zmq+tcp://127.0.0.1': expected one of" in capsys.readouterr().err
