"""bench/load.py: its short form runs, and finds that nothing was lost."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_short_form_measures_and_loses_nothing():
    command = [sys.executable, ROOT / "bench" / "load.py", "--short"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    words = {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines() if line.split()}
    assert (words["detections"], words["lost"], words["doubled"]) == ("80", "0", "0")
