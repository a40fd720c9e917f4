"""A wall clock for programs under test that jumps when it is told to, in all of them at once."""

import os
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "jumping.c"


class WallClock:
    """Programs started with `environment` go by it; it is right until `jump`.  Nothing else is wrong for them."""

    def __init__(self, folder: Path):
        """folder : for the library, made by the compiler that the CUDA tests need as well"""
        library, self._file = folder / "jumping.so", folder / "offset"
        command = [
            "g++",
            "-x",
            "c",
            "-O1",
            "-shared",
            "-fPIC",
            "-Wall",
            "-Werror",
            "-o",
            str(library),
            str(SOURCE),
        ]
        subprocess.run(command, check=True, timeout=60)
        self._file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(self._file)}

    def jump(self, hours: float) -> None:
        """Be so many hours ahead of the right time from now on; negative: behind."""
        file = os.open(self._file, os.O_WRONLY)
        os.pwrite(file, struct.pack("<q", round(hours * 3600e9)), 0)
        os.close(file)
