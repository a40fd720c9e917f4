"""gpudiff differencer: started alone, as a process."""

import re
import signal
import subprocess
import sys
import urllib.request

from serving import TIMEOUT_S, a_frame

from gpudiff.__main__ import main
from gpudiff.edges.client import FrameClient
from gpudiff.edges.fits import write_frame


def test_it_takes_frames_offers_counters_and_stops_on_sigterm(tmp_path):
    (tmp_path / "templates").mkdir()
    write_frame(tmp_path / "templates" / "template.fits", a_frame(visit=0))
    command = [sys.executable, "-m", "gpudiff", "differencer", "--directory", str(tmp_path / "night")]
    command += ["--templates", str(tmp_path / "templates"), "--frames", "tcp://127.0.0.1:0", "--workers", "1"]
    command += ["--detections", "tcp://127.0.0.1:9", "--metrics", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    port = re.search(r"differencer metrics port=(\d+)", process.stderr.readline()).group(1)
    endpoint = process.stdout.readline().removeprefix("ready: frames ").strip()
    with FrameClient(endpoint, timeout_s=TIMEOUT_S) as client:
        assert client.send(a_frame(1)).status == "rejected"  # too small to subtract
    assert (
        'gpudiff_frames_total{status="rejected"} 1.0'
        in urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    )
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0


def test_an_endpoint_that_cannot_be_bound_gives_status_3(tmp_path, capsys):
    (tmp_path / "templates").mkdir()
    words = ["--directory", str(tmp_path), "--templates", str(tmp_path / "templates"), "--frames", "nonsense"]
    assert main(["differencer", *words]) == 3
    assert "BadConfiguration: nonsense" in capsys.readouterr().err


def test_a_number_of_workers_that_is_none_gives_status_2(tmp_path):
    words = ["--directory", str(tmp_path), "--templates", str(tmp_path), "--workers", "many"]
    command = [sys.executable, "-m", "gpudiff", "differencer", *words]
    assert subprocess.run(command, capture_output=True, timeout=TIMEOUT_S).returncode == 2
