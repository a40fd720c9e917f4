"""Damaged input: wire messages and FITS files, taken or refused by a name, without growth of memory.

100,000 frame messages, control messages and detections damaged as tests/mutations.py does, in up to three ways at
once, and 5,000 FITS files with damaged cards, bytes and ends, go through what reads them in a service and in
`gpudiff send`.  An error without a name of model/errors.py is a crash: the input's number is printed (it depends
on the seed only) and the status is 1.
"""

import collections
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _common import ROOT, arguments, record

sys.path.insert(0, str(ROOT / "tests"))
from mutations import DAMAGE, ODD

from gpudiff.edges import control, detections, wire, wire_header
from gpudiff.edges.fits import read_frame, write_frame
from gpudiff.edges.ring import Segments
from gpudiff.model.errors import GpudiffError
from gpudiff.model.frame import Frame, FrameId, Observation

GROWTH_BYTES = 20 << 20
"""After the first tenth: allocators keep a little, a leak of 1 kB a message is 90 MB."""
WCS = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 8.0, "CRPIX2": 8.0}


def frame(visit: int) -> Frame:
    """A small frame with all that a header can say."""
    image, mask = np.full((16, 16), 100, np.float32), np.zeros((16, 16), np.int32)
    observation = Observation(FrameId(visit, 0, 3), "r", 61000.0, 61000.1)
    psf = np.full((5, 5), 0.04, np.float32)
    return Frame("frame", observation, image, mask, image, 1.5, 5.0, 6e4, {**WCS, "CD1_1": 1e-4}, psf)


def wire_message(folder: Path) -> Callable[[random.Random, int], None]:
    """Reads one damaged message."""
    segments = Segments(folder)

    def read(rng: random.Random, number: int) -> None:
        parts = [bytes(part) for part in wire.encode(frame(number))]
        for _ in range(rng.choice([1, 1, 2, 3])):
            try:
                rng.choice(DAMAGE)(parts, rng)
            except (ValueError, LookupError, TypeError, AttributeError):
                break  # the first damage left nothing that the second could change
        wire_header.identity(parts)
        if parts and parts[0][:4] == control.CONTROL:
            control.decode(parts)
        elif rng.random() < 0.05:
            detections.frame_of(parts)
            detections.decode(parts)
        else:
            wire.check(parts, 1 << 20, segments)
            wire.frame_in(wire.open_envelope(parts, 1 << 20, segments))

    return read


def fits_file(folder: Path) -> Callable[[random.Random, int], None]:
    """Reads one damaged FITS file."""
    path = folder / "frame.fits"
    write_frame(path, frame(1))
    whole = path.read_bytes()

    def read(rng: random.Random, number: int) -> None:
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 2, 5])):
            rng.choice([odd_card, flipped, cut])(data, rng)
        path.write_bytes(data)
        read_frame(path)

    return read


def odd_card(data: bytearray, rng: random.Random) -> None:
    """A card of the first headers has another value, or another keyword."""
    at = 80 * rng.randrange(100)
    if rng.random() < 0.8:
        data[at + 10 : at + 80] = f"{rng.choice(ODD)!s:<70.70}".encode("latin-1", "replace")
    else:
        data[at : at + 8] = rng.choice(
            [b"NAXIS   ", b"BITPIX  ", b"XTENSION", b"CTYPE1  ", b"END     ", b"\xff" * 8]
        )


def flipped(data: bytearray, rng: random.Random) -> None:
    """A byte is another."""
    if data:
        data[rng.randrange(len(data))] = rng.randrange(256)


def cut(data: bytearray, rng: random.Random) -> None:
    """The file ends early, now and then."""
    if rng.random() < 0.2:
        del data[rng.randrange(len(data) + 1) :]


def resident() -> int:
    """Bytes of memory in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def fuzz(
    read: Callable[[random.Random, int], None], count: int, seed: int
) -> tuple[dict[str, int], int, list[int]]:
    """(how many inputs ended under which name, bytes of growth, numbers of the inputs that crashed)."""
    names: collections.Counter[str] = collections.Counter()
    crashed, start = [], 0
    for number in range(count):
        try:
            read(random.Random(f"{seed}/{number}"), number)
            names["taken"] += 1
        except GpudiffError as error:
            names[error.name] += 1
        except Exception as error:
            print(f"input {number}, seed {seed}: {type(error).__name__}: {error}", file=sys.stderr)
            crashed.append(number)
        if number == count // 10:
            start = resident()
    return dict(names.most_common()), resident() - start, crashed


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=20261124)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results, good = {}, True
    with tempfile.TemporaryDirectory() as name:
        for what, make, count in (
            ("messages", wire_message, options.messages),
            ("files", fits_file, options.files),
        ):
            begun = time.perf_counter()
            names, growth, crashed = fuzz(make(Path(name)), count, options.seed)
            passed = not crashed and growth < GROWTH_BYTES
            good &= passed
            print(f"{count} {what} in {time.perf_counter() - begun:.0f} s: {'pass' if passed else 'FAIL'}")
            print(f"  crashes {len(crashed)}, growth {growth / 1e6:.1f} MB, {names}")
            results[what] = {"count": count, "crashes": crashed[:100], "growth_bytes": growth, "names": names}
    record(__file__, {"seed": options.seed, **results, "pass": good}, options)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
