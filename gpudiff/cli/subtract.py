"""gpudiff subtract: two FITS frames in, what changed out."""

import argparse
import contextlib
import gc
import json
import os
import re
import time
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from gpudiff.arrays.parallel import another
from gpudiff.cli.quick_start import leave_out_units, load_engine, share_memory
from gpudiff.model.config import CHOICES, Configuration

DESCRIPTION = """\
Subtract a template from a science image: match their PSFs, remove what is common, decorrelate the noise, and
list what changed.  Both are FITS images: plain, multi-extension (IMAGE/MASK/VARIANCE or SCI/DQ/ERR or IVAR),
tile-compressed (.fz) or gzipped; "camera.fits[N4]" is its extension N4.  A template on a pixel grid of its own is
resampled onto the science image's.
"""
EPILOG = """\
examples:
  gpudiff subtract science.fits template.fits
      what it would find, on one screen; writes nothing
  gpudiff subtract science.fits template.fits -o difference.fits --sources sources.ecsv --plot report.png
      the difference with variance, mask, score and kernel; one row a detection; the picture to look at first
  gpudiff subtract s.fits.fz t.fits.fz --sources s.parquet --gain 1.6 --read-noise 5 --saturation 60000
      the header does not say them, or says them wrong
  gpudiff subtract s.fits t.fits --science-mask s_mask.fits --template-variance t_var.fits -o d.fits.fz
      planes in files of their own; a losslessly compressed difference
  gpudiff subtract s.fits t.fits --config survey.toml --convolve template --threshold 6 --json quality.json
      an instrument's file, fewer and surer detections, the quality numbers for a script
  gpudiff subtract s.fits t.fits --align stars
      the template lies on another pixel grid and no WCS says how

Without a variance plane the variance comes from gain and read noise, else it is measured from the sky; the
summary's notes say which.  Exit status: 0 done, 2 bad command line, 3 input refused (one line says what was
expected and what came), 4 the disk would not take it.
"""
PLANES = ("mask", "variance", "psf")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("science", type=Path, metavar="SCIENCE", help="FITS image in which to look for changes")
    parser.add_argument("template", type=Path, metavar="TEMPLATE", help="FITS image of the same sky before")
    _configure_output(parser.add_argument_group("what to write"))
    _configure_input(parser.add_argument_group("what the files do not say"))
    _configure_method(parser.add_argument_group("how to subtract"))


def run(arguments: argparse.Namespace) -> int:
    start = time.perf_counter()
    configuration = configuration_of(arguments)
    check_outputs(arguments)
    share_memory()
    with another(configuration.match.threads) as beside:
        frames = reading(arguments, configuration, beside)
        load_engine()
        from gpudiff.edges.reliability_model import model_named
        from gpudiff.science.reliability import rate
        from gpudiff.science.subtract import difference_exposures, open_device, search

        device = open_device(configuration).frame()
        model = model_named(configuration.reliability.model)
        begun = time.perf_counter()
        exposures = calibrated(frames, arguments, configuration, device)
        seconds = {"load": begun - start, "read and calibrate": time.perf_counter() - begun}
        begun = time.perf_counter()
        made = difference_exposures(exposures[0], exposures[1], configuration, device)
        with difference_file(arguments.output, made, beside) as write:
            difference, sources = rate(*search(made, configuration, device), model)
            seconds |= _stages(difference.seconds, time.perf_counter() - begun)
            begun = time.perf_counter()
            write_plot(arguments, difference, sources)
            del made
            exposures.clear()
            difference = difference.alone()
            table = beside.submit(write_table, arguments.sources, difference, sources)
            write(difference, sources)
        table.result()
    written = [str(path) for path in (arguments.output, arguments.sources, arguments.plot) if path]
    seconds["write"] = time.perf_counter() - begun
    seconds["total"] = time.perf_counter() - start
    say(arguments, difference, sources, device.name, seconds, written)
    return 0


def configuration_of(arguments: argparse.Namespace) -> Configuration:
    """The configuration file's, or the defaults, with the command line's values over them.

    Raises BadConfiguration, BadGain.
    """
    from gpudiff.model.config import load, override

    check_numbers(arguments)
    configuration = load(arguments.config)
    for section, keys in OVERRIDES.items():
        values = {key: getattr(arguments, key) for key in keys if getattr(arguments, key) is not None}
        configuration = override(configuration, section, **values)
    return configuration


def check_numbers(arguments: argparse.Namespace) -> None:
    """Raises BadGain, BadConfiguration for numbers that cannot be; in a file some of them say "not here"."""
    from gpudiff.model.errors import BadConfiguration, BadGain

    for option, error, lowest in (
        ("gain", BadGain, "above 0"),
        ("saturation", BadGain, "above 0"),
        ("read_noise", BadGain, "0 or more"),
        ("threshold", BadConfiguration, "above 0"),
        ("threads", BadConfiguration, "0 or more"),
    ):
        value = getattr(arguments, option)
        if value is not None and not (value > 0 or (value == 0 and lowest == "0 or more")):
            raise error(f"--{option.replace('_', '-')}: expected a number {lowest}, got {value:g}")


OVERRIDES = {
    "instrument": ("gain", "read_noise", "saturation"),
    "match": ("algorithm", "align", "convolve", "threads", "device"),
    "detect": ("threshold", "decorrelate"),
    "reliability": ("model",),
}
"""Configuration section -> keys that the command line has options for."""


def check_outputs(arguments: argparse.Namespace) -> None:
    """Refuse before the work, not after it: raises BadConfiguration for an output that cannot be written."""
    from gpudiff.edges.sources import check_suffix
    from gpudiff.model.errors import BadConfiguration

    suffixes = {"output": (".fits", ".FITS", ".fits.gz", ".fits.fz"), "plot": (".png", ".PNG")}
    taken = {os.path.realpath(path) for path in inputs(arguments)}
    for option in ("output", "sources", "plot", "json"):
        path = getattr(arguments, option)
        if path is None:
            continue
        place = os.path.realpath(path)
        folder = os.path.dirname(place)
        if not os.path.isdir(folder):
            raise BadConfiguration(f"--{option} {path}: expected an existing folder, found no {folder}")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise BadConfiguration(f"--{option} {path}: expected a folder that can be written, got {folder}")
        if len(os.fsencode(os.path.basename(place))) > os.pathconf(folder, "PC_NAME_MAX"):
            raise BadConfiguration(f"--{option} {path}: expected a shorter name: the folder does not take it")
        if os.path.lexists(place) and not os.path.isfile(place):
            raise BadConfiguration(f"--{option} {path}: expected the name of a file, found a folder or a device")
        if option in suffixes and not path.name.endswith(suffixes[option]):
            choices = ", ".join(suffixes[option])
            raise BadConfiguration(f"--{option} {path}: expected a name that ends in {choices}")
        if place in taken:
            raise BadConfiguration(f"{path}: expected a file of its own for each output, not an input or another")
        taken.add(place)
    if arguments.sources:
        check_suffix(arguments.sources)


def inputs(arguments: argparse.Namespace) -> list[str]:
    """The files that are read, also without the extension in brackets behind their names."""
    planes = [getattr(arguments, f"{role}_{plane}") for role in ("science", "template") for plane in PLANES]
    given = [arguments.science, arguments.template, arguments.config, arguments.model, *planes]
    names = [str(path) for path in given if path]
    return names + [re.sub(r"\[[^\[\]]+\]$", "", name) for name in names]


def reading(arguments: argparse.Namespace, configuration: Configuration, beside: Executor) -> list[Future]:
    """Science and template frame, which are read beside what the caller does next.

    astropy is loaded before: threads that import at the same time get in each other's way.
    """
    gc.disable()
    leave_out_units()
    from gpudiff.edges.fits import read_frame

    def read(role: str, **known: Any) -> Future:
        planes = {plane: getattr(arguments, f"{role}_{plane}") for plane in PLANES}
        return beside.submit(read_frame, getattr(arguments, role), configuration.instrument, **planes, **known)

    return [read("science", visit=arguments.visit, detector=arguments.detector), read("template")]


def calibrated(
    frames: list[Future], arguments: argparse.Namespace, configuration: Configuration, device: Any
) -> list[Any]:
    """The exposures of science and template frame, which are taken off the list.  Raises InputRejected."""
    from gpudiff.edges.header import check_id
    from gpudiff.science.calibrate import calibrate

    exposures: list[Any] = []
    while frames:
        frame = frames.pop(0).result()
        if not exposures:
            check_id(frame.observation.frame, frame.name)
        if arguments.calibrations and not exposures:
            frame = without_signature(frame, arguments.calibrations)
        exposures.append(calibrate(frame, configuration, device, used_up=True))
    return exposures


def without_signature(frame: Any, folder: Path) -> Any:
    """The calibrated frame of a raw one.  Raises NoCalibration, WrongShape, BadConfiguration."""
    from gpudiff.edges.calibrations import CalibrationStore
    from gpudiff.science.instrument_signature import remove_signature

    return remove_signature(frame, CalibrationStore(folder).find(frame))


def write_plot(arguments: argparse.Namespace, difference: Any, sources: Any) -> None:
    """The picture, where it was asked for; it shows the exposures too.  Raises StoreFailed."""
    if arguments.plot:
        from gpudiff.edges.picture import write_picture

        write_picture(arguments.plot, difference, sources)


def difference_file(output: Path | None, made: Any, beside: Executor) -> Any:
    """A context with the call that writes the difference and its sources, where that was asked for."""
    if output is None:
        return contextlib.nullcontext(lambda difference, sources: None)
    from gpudiff.edges import fits_difference

    return fits_difference.difference_file(output, made, beside)


def write_table(path: Path | None, difference: Any, sources: Any) -> None:
    """The sources and what they are of, where that was asked for.  Raises StoreFailed."""
    if path:
        from gpudiff.edges.sources import write_sources

        write_sources(path, sources, _meta(difference))


def say(
    arguments: argparse.Namespace,
    difference: Any,
    sources: Any,
    device: str,
    seconds: dict[str, float],
    written: list[str],
) -> None:
    """The summary on standard output and the JSON file, as asked for.  Raises StoreFailed."""
    from gpudiff.cli.summary import report, summary

    if arguments.json:
        from gpudiff.edges.atomic import atomically

        with atomically(arguments.json) as temporary:
            temporary.write_text(
                json.dumps(report(difference, sources, device, seconds, written), indent=1) + "\n"
            )
    if not arguments.quiet:
        print(summary(difference, sources, device, seconds, written))


def _meta(difference: Any) -> dict[str, Any]:
    """What the table of sources says of where it came from; "fluxnjy" times a flux of it is in nJy."""
    from gpudiff.model.photometry import nanojansky

    frame = difference.science.frame
    photometry = {"magzero": frame.zero_point, "fluxnjy": nanojansky(frame.unit, frame.zero_point)}
    return {
        "unit": frame.unit,
        "science": Path(frame.name).name,
        "template": Path(difference.template.name).name,
        "band": frame.observation.band,
        "fprint": difference.fingerprint,
        **{one["step"]: one["version"] for one in difference.steps if one["step"] == "reliability"},
        **{name: value for name, value in photometry.items() if value is not None},
    }


def _stages(seconds: dict[str, float], total: float) -> dict[str, float]:
    """The engine's stages; what they leave out of the total is calibration and detection."""
    rest = total - sum(seconds.values())
    return dict(seconds) if rest < 0.005 else {**seconds, "calibrate and detect": rest}


def _configure_output(group: Any) -> None:
    group.add_argument("-o", "--output", type=Path, metavar="FITS", help="difference: .fits, .fits.gz, .fits.fz")
    group.add_argument("--sources", type=Path, metavar="TABLE", help="detections: .ecsv .fits .parquet .csv")
    group.add_argument("--plot", type=Path, metavar="PNG", help="report picture")
    group.add_argument("--json", type=Path, metavar="JSON", help="the quality numbers, for scripts")
    group.add_argument("--quiet", "-q", action="store_true", help="no summary")


def _configure_input(group: Any) -> None:
    for role in ("science", "template"):
        for plane in PLANES:
            of = f"{plane} of the {role} image, a FITS file of its own"
            group.add_argument(f"--{role}-{plane}", type=Path, metavar="FITS", help=of)
    group.add_argument("--calibrations", type=Path, metavar="DIR", help="the science image is raw; calibrate it")
    group.add_argument("--gain", type=float, metavar="E", help="electrons per image unit, of both images")
    group.add_argument("--read-noise", type=float, metavar="E", help="electrons, of both images")
    group.add_argument("--saturation", type=float, metavar="LEVEL", help="image units, of both images")
    group.add_argument("--visit", type=int, metavar="N", help="visit number of the science image, for the ids")
    group.add_argument("--detector", type=int, metavar="N", help="its detector number")
    group.add_argument("--config", type=Path, metavar="TOML", help="settings; the options here win over it")


def _configure_method(group: Any) -> None:
    group.add_argument(
        "--align",
        choices=CHOICES["match", "align"],
        help="how the template comes onto the science grid; default: auto, by WCS when the stars agree",
    )
    group.add_argument("--convolve", choices=CHOICES["match", "convolve"], help="default: auto, the sharper one")
    group.add_argument(
        "--algorithm",
        choices=CHOICES["match", "algorithm"],
        help="default: auto, alard-lupton, a kernel of Gaussians, where those will do, else delta; "
        "delta: a kernel pixel by pixel, for odd PSFs (defocused, trailed); "
        "whole-image: all light in place of stamps round stars, for few stars or very many; "
        "zogy: both images through each other's PSF (Zackay et al. 2016)",
    )
    group.add_argument("--threshold", type=float, metavar="SIGMA", help="of the detections, default 5")
    group.add_argument(
        "--no-decorrelate",
        dest="decorrelate",
        action="store_false",
        default=None,
        help="leave the noise as the convolution makes it",
    )
    group.add_argument(
        "--reliability", dest="model", metavar="MODEL", help="real/bogus model: default, none, or a JSON file"
    )
    group.add_argument("--threads", type=int, metavar="N", help="0, the default: one a core")
    group.add_argument(
        "--device",
        metavar="auto|cpu|cuda[:N]",
        help="default: auto, a GPU where one can be used (`gpudiff devices` lists them)",
    )
