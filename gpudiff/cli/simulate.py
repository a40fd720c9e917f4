"""gpudiff simulate: a night of frames, templates and truth."""

import argparse
import dataclasses
from pathlib import Path

from gpudiff.model.hard_scene import SCENES
from gpudiff.model.scene import FocalPlane, Night, grid

DESCRIPTION = """\
Simulate a night: visits of one or several fields by a camera of any number of detectors, with templates made
from earlier epochs, and a table of everything that changed.

  gpudiff simulate --output night --visits 3 --detectors 9 --size 1024
  gpudiff simulate --output night --focal-plane lsstcam.csv --detectors 21 --size 2048 --fields 2

  gpudiff simulate --scene streak --output pair --size 1024 --seed 7

Writes OUTPUT/frames/<visit>_<detector>.fits, OUTPUT/templates/, truth.ecsv, pointings.csv, simulation.json.
The same options and seed give the same pixels, however many processes share the work.  With --scene, one hard
pair: science.fits, template.fits, truth.ecsv, and perfect.fits, the difference that a noiseless template of
the same seeing would give; options of the night that are not at their defaults win over the scene's.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("--output", "-o", type=Path, required=True, help="folder to write")
    parser.add_argument("--force", action="store_true", help="replace an earlier simulation in OUTPUT")
    parser.add_argument("--scene", metavar="NAME", choices=list(SCENES), help=f"one of {', '.join(SCENES)}")
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the night, the camera and the work, which `gpudiff demo` shares."""
    camera = parser.add_argument_group("camera")
    camera.add_argument("--focal-plane", type=Path, metavar="CSV", help="sensors: positions, sizes, gain, noise")
    camera.add_argument("--detectors", type=int, help="how many (default: 9, or all of the CSV)")
    camera.add_argument("--size", type=int, help="px a side (default: 1024, or as in the CSV)")
    night = parser.add_argument_group("night")
    for field in dataclasses.fields(Night):
        name, meaning = "--" + field.name.replace("_", "-"), field.metadata["meaning"]
        if field.type is bool:
            night.add_argument(name, action="store_true", help=meaning)
        else:
            help_text = f"{meaning} (default: %(default)s)"
            night.add_argument(name, type=field.type, default=field.default, help=help_text)
    parser.add_argument("--processes", type=int, help="default: one a core")


def night_of(arguments: argparse.Namespace) -> Night:
    """The night that the options describe; raises BadConfiguration."""
    return Night(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Night)})


def focal_plane_of(arguments: argparse.Namespace) -> FocalPlane:
    """The camera that the options describe; raises InputRejected."""
    if arguments.focal_plane is None:
        detectors = 9 if arguments.detectors is None else arguments.detectors
        return grid(detectors, 1024 if arguments.size is None else arguments.size)
    from gpudiff.edges.focal_plane import read_focal_plane

    return read_focal_plane(arguments.focal_plane, arguments.detectors, arguments.size)


def run(arguments: argparse.Namespace) -> int:
    return _night(arguments) if arguments.scene is None else _pair(arguments)


def _pair(arguments: argparse.Namespace) -> int:
    from gpudiff.model.errors import BadConfiguration
    from gpudiff.model.hard_scene import hard_scene, night_of_scene
    from gpudiff.services.hard_pair import simulate_pair

    if (arguments.output / "science.fits").exists() and not arguments.force:
        raise BadConfiguration(f"output: {arguments.output} already holds a pair; --force replaces it")
    for name in ("detectors", "focal_plane"):
        if getattr(arguments, name) is not None:
            raise BadConfiguration(f"{name}: expected none with --scene, which has one detector")
    scene, size = hard_scene(arguments.scene), 1024 if arguments.size is None else arguments.size
    pair = simulate_pair(scene, night_of_scene(scene, night_of(arguments), size), size, arguments.output)
    of_sky = pair.truth["objectId"] > 0
    visible = of_sky & (pair.truth["snr"] >= 5)
    print(
        f"{arguments.output}: {scene.meaning}; {of_sky.sum()} changes to see, "
        f"{visible.sum()} of them with an ideal S/N of 5 or more (truth.ecsv)"
    )
    return 0


def _night(arguments: argparse.Namespace) -> int:
    from gpudiff.cli.progress import bars
    from gpudiff.model.errors import BadConfiguration
    from gpudiff.services.simulator import simulate

    night, plane = night_of(arguments), focal_plane_of(arguments)
    if (arguments.output / "frames").exists() and not arguments.force:
        raise BadConfiguration(f"output: {arguments.output} already holds frames; --force replaces them")
    with bars("simulating") as (progress,):
        made = simulate(night, plane, arguments.output, arguments.processes, progress)
    changes = made.truth["kind"] != "cosmic-ray"
    visible = changes & (made.truth["snr"] >= 5)
    print(
        f"{arguments.output}: {len(made.frames)} frames, {len(made.templates)} templates; "
        f"{changes.sum()} changes to see, {visible.sum()} of them with an ideal S/N of 5 or more (truth.ecsv)"
    )
    return 0
