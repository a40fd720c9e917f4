"""A camera's focal plane from a CSV file, one line a sensor."""

import csv
import dataclasses
import math
from pathlib import Path

from gpudiff.model.errors import InputRejected, UnreadableFile
from gpudiff.model.scene import Detector, FocalPlane, check_size

COLUMNS = ("detector", "nx", "ny", "pix_mm", "fpx_mm", "fpy_mm", "yaw_deg", "gain_med", "readnoise_med")


def read_focal_plane(path: str | Path, count: int | None = None, size: int | None = None) -> FocalPlane:
    """The sensors in a CSV file with the columns of LSSTCam's table.

    detector (0 to 255), name, nx, ny (px), pix_mm, fpx_mm, fpy_mm (centre), yaw_deg (which holds radians in
    that table, and is read so), gain_med (electrons per ADU), readnoise_med (electrons), saturation_med
    (electrons; optional).  `count` keeps the first so many sensors; `size` cuts each to a square of so many
    pixels about its centre.

    Raises UnreadableFile for a file that is absent or not text, InputRejected for a missing column or a value
    that cannot be, naming file and line; BadConfiguration for a size that is too small.
    """
    if size is not None:
        check_size(size)
    try:
        with open(path, newline="", encoding="utf-8") as text:
            rows = list(csv.DictReader(text))
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{path}: expected a CSV file of sensors: {error}") from None
    missing = [name for name in COLUMNS if not rows or name not in rows[0]]
    if missing:
        raise InputRejected(f"{path}: expected columns {', '.join(COLUMNS)}; missing {', '.join(missing)}")
    if count is not None and not 1 <= count <= len(rows):
        raise InputRejected(f"{path}: expected 1 to {len(rows)} detectors, got {count}")
    detectors = [_detector(path, line, row) for line, row in enumerate(rows[:count], 2)]
    if len({d.number for d in detectors}) < len(detectors):
        raise InputRejected(f"{path}: expected detector numbers that differ")
    if size is not None:
        detectors = [
            dataclasses.replace(d, width=min(size, d.width), height=min(size, d.height)) for d in detectors
        ]
    return FocalPlane(tuple(detectors))


def _detector(path: str | Path, line: int, row: dict[str, str]) -> Detector:
    try:
        gain = float(row["gain_med"])
        made = Detector(
            number=int(row["detector"]),
            name=row.get("name") or row["detector"],
            width=int(row["nx"]),
            height=int(row["ny"]),
            x_mm=float(row["fpx_mm"]),
            y_mm=float(row["fpy_mm"]),
            pixel_mm=float(row["pix_mm"]),
            yaw_rad=float(row["yaw_deg"]),
            gain=gain,
            read_noise=float(row["readnoise_med"]),
            saturation=min(float(row.get("saturation_med") or 60000 * gain) / gain, 60000.0),
        )
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise InputRejected(f"{path}: line {line}: expected numbers: {error}") from None
    _check(path, line, made)
    return made


def _check(path: str | Path, line: int, made: Detector) -> None:
    numbers = (made.x_mm, made.y_mm, made.yaw_rad, made.pixel_mm, made.gain, made.read_noise, made.saturation)
    positive = min(made.pixel_mm, made.gain, made.saturation) > 0 and made.read_noise >= 0
    if not (all(map(math.isfinite, numbers)) and positive and 0 <= made.number < 256):
        raise InputRejected(
            f"{path}: line {line}: expected a detector 0 to 255 with finite, positive numbers, got {made}"
        )
    check_size(min(made.width, made.height))
    check_size(max(made.width, made.height))
