"""The peers that a registry has, in an environment of their own, timed on a simulated pair.

`sh bench/peers.sh` makes that environment in build/peers (two minutes, 2 GB); GPUDIFF_PEERS_PYTHON names
another Python that has them.  What cannot be imported there is left out, and said so.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

import _common as common

NOISE = {"sfft": "conv", "zogy": "white", "ois": "conv", "properimage": "white"}
"""What evalpair.py is told of the template's noise in the peer's difference."""
DISTRIBUTIONS = {"sfft": "sfft", "zogy": "stdpipe", "ois": "ois", "properimage": "properimage"}
"""Name in `_peer.PEERS` -> what a registry calls it."""
LARGEST = 1024
"""px along one side: sfft's NumPy backend takes 4.8 GB there, 18 GB at 2048."""


def python() -> Path:
    """The interpreter that may have the peers."""
    return Path(os.environ.get("GPUDIFF_PEERS_PYTHON", common.ROOT / "build" / "peers" / "bin" / "python"))


def available() -> dict[str, str]:
    """Name -> version of the peers that can run; {} where there is no such Python."""
    if not python().exists():
        return {}
    code = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"
    found = {}
    for name, distribution in DISTRIBUTIONS.items():
        said = subprocess.run([python(), "-c", code, distribution], capture_output=True, text=True, check=False)
        if said.returncode == 0:
            found[name] = f"{'' if name == distribution else f'of {distribution} '}{said.stdout.strip()}"
    return found


def run(name: str, pair: Path, repeats: int = 1) -> dict[str, Any]:
    """evalpair.py's figures of the peer's difference, and the median wall and CPU seconds and memory.

    With more than one run the first, which compiles, is not counted.  Raises CalledProcessError when it fails.
    """
    out = pair / f"{name}.fits"
    command: list[str | Path] = [python(), common.ROOT / "bench" / "_peer.py", name, pair, out]
    runs = [common.timed(command) for _ in range(repeats + (repeats > 1))]
    judged = common.score(pair, out, "--ref-noise", NOISE[name])
    return judged | common.median(runs[repeats > 1 :])
