"""A real/bogus model as a JSON file: readable, diffable, nothing in it is executed."""

import dataclasses
import json
from importlib import resources
from pathlib import Path

import msgspec

from gpudiff.edges.atomic import atomically
from gpudiff.model.errors import BadConfiguration
from gpudiff.model.reliability import FEATURES, ReliabilityModel

DEFAULT = "default"
NONE = "none"


def model_named(name: str) -> ReliabilityModel | None:
    """The model that ships with gpudiff ("default"), none ("none"), or that of a file.

    Raises BadConfiguration.
    """
    if name == NONE:
        return None
    if name == DEFAULT:
        with resources.as_file(resources.files("gpudiff.edges") / "reliability.json") as path:
            return read_model(path)
    return read_model(Path(name))


def read_model(path: Path) -> ReliabilityModel:
    """What `write_model` wrote; raises BadConfiguration for anything else."""
    try:
        model = msgspec.json.decode(path.read_bytes(), type=ReliabilityModel)
    except (OSError, msgspec.MsgspecError) as error:
        raise BadConfiguration(f"{path}: expected a reliability model (JSON): {error}") from None
    unknown = set(model.curves) - {feature.name for feature in FEATURES}
    if unknown:
        raise BadConfiguration(f"{path}: expected features that this gpudiff measures, got {sorted(unknown)}")
    for name, curve in (*model.curves.items(), ("calibration", model.calibration)):
        if (
            len(curve.knots) != len(curve.values)
            or list(curve.knots) != sorted(set(curve.knots))
            or not curve.knots
        ):
            raise BadConfiguration(f"{path}: {name}: expected as many values as rising knots, at least one")
    return model


def write_model(path: Path, model: ReliabilityModel) -> None:
    """Write it, whole or not at all; raises StoreFailed."""
    with atomically(path) as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(model), indent=1, allow_nan=False) + "\n")
