"""bench/night.py: a few visits of a night run, and it finds that nothing was lost."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NIGHT = """\
observationId,observationStartMJD,visitTime,filter,fieldRA,fieldDec,rotSkyPos
11,61000.00,34.0,r,196.18,-21.07,95.4
12,61000.01,34.0,z,10.5,-14.85,109.3
13,61000.02,34.0,r,196.18,-21.07,95.4
"""


def test_a_short_night_is_sent_subtracted_and_found_whole(tmp_path):
    night = tmp_path / "night.csv"
    night.write_text(NIGHT)
    command = [sys.executable, ROOT / "bench" / "night.py", night, "--no-record"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    words = {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines() if line.split()}
    assert [words[name] for name in ("visits", "frames", "lost", "doubled")] == ["3", "6", "0", "0"]
