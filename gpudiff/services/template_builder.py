"""Templates built from files of earlier exposures: who shows which sky, one file after another, within memory."""

import dataclasses
import mmap
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.fits import frame_planes, read_frame, write_hdus
from gpudiff.edges.header import card, frame_cards
from gpudiff.edges.sources import binary_table
from gpudiff.edges.template_index import Entry, read_entry
from gpudiff.edges.templates import covered
from gpudiff.model.config import Configuration
from gpudiff.model.errors import BadConfiguration, GpudiffError, InputRejected, StoreFailed, UnreadableFile
from gpudiff.model.footprint import Footprint, sample_pixels
from gpudiff.model.frame import Exposure, Frame
from gpudiff.model.sky import Sky, angles
from gpudiff.model.tables import Table
from gpudiff.science.calibrate import calibrate
from gpudiff.science.coadd import Layer, coadd, empty_grid, on_grid

SAME, SOME = 0.5, 0.1
"""Share of a grid that an exposure covers, from which on it needs no template of its own; and is added to it."""
AROUND = 0.82
"""Half the side of a square that holds a HEALPix cell however it is turned, in roots of its area."""
SIDES = range(128, 1 << 15)
"""Pixels a side that a tile may have: fewer have no stars, more no memory."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Plan:
    """One template to be: the exposures that show its sky, its name, its grid ({}, None: the first one's)."""

    members: list[Entry]
    name: str
    wcs: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, int] | None = None


@dataclass(frozen=True)
class Built:
    """What came of it: the files, and the exposures that could not be used, with the reason."""

    templates: list[Path]
    refused: dict[str, str]


def build(
    paths: Sequence[Path],
    output: Path,
    configuration: Configuration,
    tiles: int = 0,
    progress: Progress = lambda done, total: None,
) -> Built:
    """A template for each footprint that the exposures show, or each HEALPix cell of nside `tiles`.

    Exposures of one band are added up whatever their detector.  Raises UnreadableFile when none of the files is an
    image, StoreFailed when `output` cannot be written.
    """
    entries, refused = _read_entries(paths, configuration)
    if not entries:
        why = "; ".join(refused.values()) or "none given"
        raise UnreadableFile(f"expected exposures to build templates of: {why}")
    plans = list(by_tile(entries, tiles) if tiles else by_footprint(entries))
    total, done = sum(len(plan.members) + 1 for plan in plans), 0
    made = []

    def moved() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    try:
        output.mkdir(parents=True, exist_ok=True)
        for plan in plans:
            path = _build(plan, output, configuration, refused, moved)
            made += [path] if path else []
    except OSError as error:
        raise StoreFailed(f"{output}: cannot be written: {error.strerror}") from None
    return Built(made, refused)


def _read_entries(paths: Sequence[Path], configuration: Configuration) -> tuple[list[Entry], dict[str, str]]:
    entries, refused = [], {}
    for path in paths:
        try:
            entries.append(read_entry(path, configuration.instrument))
        except GpudiffError as error:
            refused[str(path)] = f"{type(error).__name__}: {error}"
    return entries, refused


# ---------------------------------------------------------------- which exposures show which sky
def by_footprint(entries: list[Entry]) -> Iterator[Plan]:
    """One plan a footprint: that of the first exposure that no earlier one has in hand."""
    waiting = list(entries)
    while waiting:
        seed = waiting[0]
        wanted = Footprint.of(seed.sky, seed.shape, seed.band, seed.frame.detector)
        share = {entry.path: covered(wanted, entry) for entry in entries if entry.band == seed.band}
        share[seed.path] = 1.0
        waiting = [entry for entry in waiting if share.get(entry.path, 0.0) < SAME]
        others = [e for e in entries if e.path != seed.path and share.get(e.path, 0.0) >= SOME]
        yield Plan([seed, *others], f"{seed.band or 'any'}_{seed.frame.detector:03d}_{_place(seed)}")


def by_tile(entries: list[Entry], nside: int) -> Iterator[Plan]:
    """One plan a band and HEALPix cell (nested) that any exposure covers: north up, the first one's scale.

    Raises InputRejected where no exposure has a WCS, BadConfiguration for an nside that is no power of two or
    whose tiles are none of SIDES.
    """
    from astropy_healpix.healpy import ang2pix, pix2ang

    if nside < 1 or nside & (nside - 1):
        raise BadConfiguration(f"tiles: expected an nside that is a power of two, got {nside}")
    placed = [entry for entry in entries if entry.sky]
    if not placed:
        raise InputRejected("expected exposures with a WCS: without one they lie on no tile")
    scale = float(np.sqrt(abs(np.linalg.det(placed[0].sky.jacobian(np.zeros(1), np.zeros(1))[0]))))
    side = int(np.ceil(2 * AROUND * np.degrees(np.sqrt(np.pi / 3) / nside) / scale))
    if side not in SIDES:
        expected = f"expected {SIDES.start} to {SIDES.stop - 1} px a side at the first exposure's scale"
        raise BadConfiguration(f"tiles: {expected}, got {side} of nside {nside}")
    for band in sorted({entry.band for entry in placed}):
        own = [entry for entry in placed if entry.band == band]
        points = [entry.sky.to_sky(*sample_pixels(entry.shape)) for entry in own]
        cells = [ang2pix(nside, *one, nest=True, lonlat=True) for one in points]
        for cell in map(int, np.unique(cells)):
            ra, dec = (float(a) for a in pix2ang(nside, cell, nest=True, lonlat=True))
            wcs = tangent(ra, dec, side, scale)
            wanted = Footprint.of(Sky(wcs), (side, side), band, 0)
            near = zip(own, cells, strict=True)
            members = [entry for entry, seen in near if cell in seen or covered(wanted, entry) > 0]
            yield Plan(members, f"{band or 'any'}_nside{nside}_{cell}", wcs, (side, side))


def tangent(ra: float, dec: float, side: int, scale: float) -> dict[str, Any]:
    """FITS keywords of a square with north up; scale : degrees a pixel"""
    return {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": ra,
        "CRVAL2": dec,
        "CRPIX1": (side + 1) / 2,
        "CRPIX2": (side + 1) / 2,
        "CD1_1": -scale,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": scale,
    }


def _place(entry: Entry) -> str:
    """Where its middle lies, for a file's name."""
    if not entry.sky:
        return f"visit{entry.frame.visit}"
    ra, dec = angles(entry.centre)
    return f"{ra:08.4f}{dec:+08.4f}"


# ---------------------------------------------------------------- one template
def _build(
    plan: Plan, output: Path, configuration: Configuration, refused: dict[str, str], moved: Callable[[], None]
) -> Path | None:
    """The file of one template; None when none of its exposures can be used."""
    layers: list[Layer] = []
    grid: Exposure | None = None
    with tempfile.TemporaryDirectory(dir=output, prefix=".building-") as folder:
        scratch = Scratch(Path(folder))
        for entry in plan.members:
            try:
                frame = read_frame(entry.path, configuration.instrument)
                grid = grid or _grid(plan, frame, configuration)
                first = layers[0].exposure if layers else None
                layers.append(scratch.lay_down(on_grid(grid, frame, configuration, first)))
            except InputRejected as error:
                refused[entry.path] = f"{error.name}: {error}"
            moved()
        path = None
        if layers and grid is not None:
            path = output / f"{plan.name}.fits"
            made = coadd(layers, grid, configuration, lambda done, total: scratch.let_go())
            layers.clear()
            write_template(path, *made)
        moved()
        return path


def _grid(plan: Plan, frame: Frame, configuration: Configuration) -> Exposure:
    return empty_grid(frame, plan.shape, plan.wcs) if plan.shape else calibrate(frame, configuration)


class Scratch:
    """Planes that wait in files until they are added, so that any number of them fits into memory."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._maps: list[mmap.mmap] = []

    def lay_down(self, layer: Layer) -> Layer:
        """The layer with its planes in files."""
        exposure = layer.exposure
        image, mask = self._put(exposure.image), self._put(exposure.mask)
        self.let_go()
        return dataclasses.replace(layer, exposure=dataclasses.replace(exposure, image=image, mask=mask))

    def let_go(self) -> None:
        """Give back the memory of what was read or written; it is read again where it is asked for."""
        for one in self._maps:
            one.madvise(mmap.MADV_DONTNEED)

    def _put(self, array: np.ndarray) -> np.ndarray:
        path = self._folder / f"{len(self._maps)}"
        array.tofile(path)
        with open(path, "r+b") as file:
            self._maps.append(mmap.mmap(file.fileno(), 0))
        return np.frombuffer(self._maps[-1], array.dtype).reshape(array.shape)


def write_template(path: Path, frame: Frame, count: np.ndarray, inputs: Table) -> None:
    """IMAGE, MASK, VARIANCE, PSF as any frame's, COVERAGE (exposures that count in a pixel), and the table INPUTS.

    Raises StoreFailed.
    """
    cards = [
        *frame_cards(frame),
        card("NINPUTS", len(inputs), "exposures that were added up"),
        card("FINGERPR", frame.digest, "provenance: what went in, and how"),
    ]
    planes = {**frame_planes(frame), "COVERAGE": (count, [])}
    write_hdus(path, cards, planes, [binary_table("INPUTS", inputs, {})])
