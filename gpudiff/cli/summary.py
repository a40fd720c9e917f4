"""The one screen, and the JSON, that a subtraction ends with."""

import dataclasses
import math
from typing import Any

from gpudiff import __version__
from gpudiff.edges.words import counts, pixel_scale, quality_lines
from gpudiff.model.frame import Difference, Exposure
from gpudiff.model.photometry import nanojansky
from gpudiff.model.tables import Table

LABEL = 18  # characters of the left column


def summary(
    difference: Difference, sources: Table, device: str, seconds: dict[str, float], written: list[str]
) -> str:
    """Files and sizes, device, quality, detections, what to know, what was written, where the time went."""
    lines = [
        ("science", _of(difference.science)),
        ("template", _of(difference.template)),
        ("device", device),
        *quality_lines(difference, sources),
        *(("note", note) for note in difference.notes),
        *([("written", ", ".join(written))] if written else []),
        ("seconds", _times(seconds)),
    ]
    return "\n".join(f"{label:<{LABEL}} {value}" for label, value in lines)


def report(
    difference: Difference, sources: Table, device: str, seconds: dict[str, float], written: list[str]
) -> dict[str, Any]:
    """The same for programs: JSON values only, unknown numbers null."""
    return {
        "gpudiff": __version__,
        "science": difference.science.name,
        "template": difference.template.name,
        "device": device,
        "frame": dataclasses.asdict(difference.science.frame.observation.frame),
        "shape": list(difference.image.shape),
        "quality": _known(dataclasses.asdict(difference.quality)),
        "pixel_scale_arcsec": _known({"scale": pixel_scale(difference)})["scale"],
        "unit": difference.science.frame.unit,
        "nanojansky_per_unit": nanojansky(difference.science.frame.unit, difference.science.frame.zero_point),
        "decorrelated": difference.decorrelated,
        "sources": {"total": len(sources), **counts(sources)},
        "cells": [_known(row) for row in difference.cells.rows()],
        "notes": list(difference.notes),
        "fingerprint": difference.fingerprint,
        "steps": list(difference.steps),
        "seconds": {stage: round(value, 4) for stage, value in seconds.items()},
        "written": written,
    }


def _of(exposure: Exposure) -> str:
    height, width = exposure.shape
    o = exposure.frame.observation
    band = f", band {o.band}" if o.band else ""
    return f"{exposure.name}: {width} x {height} px, visit {o.frame.visit}, detector {o.frame.detector}{band}"


def _times(seconds: dict[str, float]) -> str:
    stages = ", ".join(f"{stage} {value:.2f}" for stage, value in seconds.items() if stage != "total")
    return f"{seconds['total']:.2f}: {stages}"


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """NaN and infinity as null, which JSON has."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
