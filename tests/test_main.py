"""The command, whatever happens to it: one line, an exit status, nothing half written."""

import signal
import subprocess
import sys
import time

import pytest

from gpudiff import __main__
from gpudiff.__main__ import main


@pytest.mark.parametrize("command", [["inspect"], ["query"], ["status", "--once"], ["requeue"]])
def test_a_path_that_the_system_refuses_is_one_line(capsys, command):
    assert main([*command, "x" * 300]) == 3
    said = capsys.readouterr().err
    assert said.startswith(f"gpudiff {command[0]}: OSError: xxx")
    assert said.endswith(": File name too long\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_half_written_file_behind(tmp_path, number):
    code = f"""
import signal, sys
from gpudiff import __main__
from gpudiff.edges.atomic import atomically

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background

def run(arguments):
    with atomically({str(tmp_path / "d.fits")!r}) as temporary:
        temporary.touch()
        while True:
            pass

__main__._module = lambda command: type("Command", (), {{"configure": id, "run": run}})
sys.argv = ["gpudiff", "devices"]
sys.exit(__main__.main())
"""
    program = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not [*tmp_path.iterdir()] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [*tmp_path.iterdir()] != []
    program.send_signal(number)
    assert program.communicate(timeout=20)[1] == b""
    assert program.returncode == 128 + number
    assert [*tmp_path.iterdir()] == []


def test_a_file_that_is_missing_while_the_command_line_is_read_is_one_line(monkeypatch, capsys):
    def broken(argv):
        raise FileNotFoundError(2, "No such file or directory", "gpudiff/cli/devices.py")

    monkeypatch.setattr(__main__, "parser_for", broken)
    assert __main__.main(["devices"]) == 3
    assert capsys.readouterr().err.count("\n") == 1
