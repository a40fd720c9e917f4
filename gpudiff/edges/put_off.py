"""PutOff <-> a file: forced photometry that waits for a quieter moment, one file a frame, whole or absent.

VISIT-SNAP-DETECTOR.npz holds plain arrays, and their names beside "about", one JSON object as bytes.
"""

import dataclasses
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.atomic import atomically
from gpudiff.model.errors import UnreadableFile
from gpudiff.model.forced import ForcedSquares, LightSquares, PutOff
from gpudiff.model.frame import FrameId
from gpudiff.model.tables import FORCED_SOURCE, Table

SQUARES = "dy", "dx", "data", "weight", "psf"
LIGHT = "image", "matched", "usable", "psf", "sky"
ABOUT = "fingerprint", "unit", "zero_point", "ra", "dec"


def path_in(folder: Path, frame: FrameId) -> Path:
    """Where a frame's file is."""
    return folder / f"{frame.visit}-{frame.snap}-{frame.detector}.npz"


def write(folder: Path, what: PutOff) -> int:
    """Keep it on disk, in the place of an earlier one of the frame; bytes written.  Raises StoreFailed."""
    squares, light = what.squares, what.squares.science
    about = {"frame": dataclasses.astuple(what.frame), "scale": squares.scale, "own": squares.own}
    about |= {"gain": float(light.gain)} | {name: getattr(what, name) for name in ABOUT}
    arrays: dict[str, Any] = {f"places.{name}": column for name, column in squares.places.columns.items()}
    arrays |= {name: getattr(squares, name) for name in SQUARES}
    arrays |= {f"science.{name}": getattr(light, name) for name in LIGHT}
    path = path_in(folder, what.frame)
    with atomically(path, lasting=True) as temporary:
        np.savez(temporary, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
        return temporary.stat().st_size


def read(path: Path) -> PutOff:
    """What `write` kept there; raises UnreadableFile."""
    with _opened(path) as file:
        about = json.loads(file["about"].tobytes())
        squares = ForcedSquares(
            Table(FORCED_SOURCE, {c.name: file[f"places.{c.name}"] for c in FORCED_SOURCE}),
            scale=about["scale"],
            own=about["own"],
            science=LightSquares(**{name: file[f"science.{name}"] for name in LIGHT}, gain=about["gain"]),
            **{name: file[name] for name in SQUARES},
        )
        return PutOff(FrameId(*about["frame"]), squares=squares, **{name: about[name] for name in ABOUT})


def about(path: Path) -> dict[str, Any]:
    """Of a file only `frame` (FrameId), `ra` and `dec`; raises UnreadableFile."""
    with _opened(path) as file:
        said = json.loads(file["about"].tobytes())
        return {"frame": FrameId(*said["frame"]), "ra": float(said["ra"]), "dec": float(said["dec"])}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The arrays of a file by name; whatever is wrong with what is read of them is an UnreadableFile."""
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except (OSError, EOFError, LookupError, TypeError, ValueError, zipfile.BadZipFile) as error:
        what = f"{type(error).__name__} {error}"
        raise UnreadableFile(f"{path}: expected forced photometry that was put off: {what}") from None
