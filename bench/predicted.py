"""What each CUDA kernel would take on an H100, counted and not measured: bytes and operations at published rates.

A kernel cannot be faster than its fewest bytes at the memory's rate, nor than its operations at the arithmetic's;
the larger of the two is its floor.  `bench/gpu.py` measures what a card reaches.  `--write` puts the table into
kernels/README.md.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gpudiff.arrays import basis, residual_sky
from gpudiff.arrays.tiles import tiles

README = Path(__file__).resolve().parents[1] / "kernels" / "README.md"
BEGIN, END = "<!-- predicted: made by bench/predicted.py --write -->", "<!-- end of predicted -->"
SHAPE = 4096, 4004
HALF, REACH, PSF_HALF, HALO = 12, 13, 15, 8
"""px: of the matching kernel, the whitening filter and the PSF; what the tiles of the score have round the PSF."""
STARS, ROUNDS, STAMP = 600, 5, 31
"""Of the fit: stars, sums of the normal equations, side of a stamp."""
SOURCES, SQUARE, KNOWN, FIELD = 60, 15, 5300, 180.0
"""Of a detector: detections, the side in px of the stamps they are measured on; known objects, joined within 30
arcsec, on its square minutes of sky."""
DRAWN = 50
"""Detections that may be trails: on stamps of 61 px, 5 angles, 7 lengths and 6 places of each are tried."""
PSF_STARS, PSF_SIDE = 250, 45
"""Of a PSF: stars that it is measured from at most, and the side of their stamps of FWHM up to 4 px, px."""
CELLS = 17
"""Lattice points along a row that the positions of `resample` are made of."""
STEP, COUNTS = 4, 77
"""Of the sky's mesh: every 4th row and column; times that its values are counted below 6 pivots: 16 to find the
first median among all floats, 11 each for five more within a few sigma, 6 for what is there and is clipped."""
SPREAD = 12
"""px round what changed that are no sky."""
DOWN = 6.0
"""Bytes a pixel that come down of a made frame of 4096 px with 500 changes, cutouts too: what the host looks at of
the planes that stay, a bit of what is lost, the sums of the fit of the kernel."""
LINES = 512 * 1024
"""Sums along lines of 512 x 512 cells, of either slope and direction; of what is known as many."""
LIT, ROUND, WEIGHED = 400, 7, 17
"""Static stars that a difference's errors are learned from; sides in px of the squares round them and of the PSF
that they are weighed with.  Once more, in larger squares, where errors are found."""
INTEGER = 4
"""Float32 operations that one of integers takes as long as: half as many a cycle as multiply-adds."""
MEMORY, SINGLE, DOUBLE, LINK = 3.35e12, 67e12, 34e12, 64e9
"""H100 SXM by its data sheet: bytes a second of memory, operations a second in float32 and float64 without tensor
cores; bytes a second of PCIe 5 x16 in one direction."""


class Work(NamedTuple):
    """Of one CCD: fewest bytes through the card's memory; float32 and float64 operations, two a multiply-add."""

    bytes: float
    single: float = 0.0
    double: float = 0.0

    def seconds(self) -> tuple[float, str]:
        """(floor, what sets it)."""
        floors = {"memory": self.bytes / MEMORY, "float32": self.single / SINGLE, "float64": self.double / DOUBLE}
        bound = max(floors, key=lambda name: floors[name])
        return floors[bound], bound


def work(
    shape: tuple[int, int] = SHAPE,
    half: int = HALF,
    reach: int = REACH,
    psf_half: int = PSF_HALF,
    halo: int = HALO,
    stars: int = STARS,
    rounds: int = ROUNDS,
) -> dict[str, Work]:
    """The work of each kernel on one detector of `shape`."""
    pixels, side = shape[0] * shape[1], 2 * half + 1
    squares = grown(shape, psf_half, halo)
    functions = basis.count(basis.FULL)
    filters = sum(degree + 1 for _, degree in basis.FULL)
    inner, outer = STAMP**2, STAMP + 2 * half
    entries = (functions + 2) * (functions + 3) / 2
    values = 4.0 * stars * inner
    return {
        "decode": Work((2 + 4 + 4 + 1 + 4 + 4 + 4) * pixels, 0, 20 * pixels),
        "clipped_mesh": Work((5 / STEP + 2 * 4 / STEP**2) * pixels, INTEGER * 2 * 6 * COUNTS * pixels / STEP**2),
        "peaks": Work(4 * pixels, 2 * pixels),
        "suspects": Work(2 * 4 * pixels, 2 * pixels),
        "resample": Work(18 * pixels, 6 * 64 * pixels, 2 * 3 * CELLS * pixels),
        "separate": Work(
            4 * stars * outer**2 + values * functions,
            2 * side * stars * (filters * outer * STAMP + functions * inner),
        ),
        "mix": Work(values * (2 * functions + 1), 0, 2 * stars * inner * functions**2),
        "grams": Work(rounds * values * (functions + 3), 0, rounds * 2 * stars * inner * entries),
        "models": Work(rounds * values * (functions + 2), rounds * 2 * stars * inner * functions),
        "put, mark": Work(2 * (8 + 1) * pixels),
        "subtract_tiles": Work(23 * pixels, 2 * 4 * side**2 * pixels),
        "blank": Work(18 * pixels, 2 * 12 * pixels),
        "bright": Work(5 * pixels, 2 * 20 * pixels),
        "spread": Work(2 * pixels, INTEGER * (2 * SPREAD + 1) * 0.1 * pixels),
        "changed": Work(10 * pixels, 2 * 20 * pixels),
        "sigmas": Work(13 * pixels),
        "cell_sums": Work(10 * pixels, INTEGER * (2 * SPREAD + 1) * pixels),
        "fitted": Work(16 * 4 / 3 * pixels / 256, 0, _fitted(shape)),
        "take_sky": Work(8 * pixels, 2 * 16 * pixels),
        "lift": Work(8 * pixels, 2 * 16 * pixels),
        "rescale": Work(2 * 8 * pixels),
        "pixels": Work(3 * 4 * pixels / 997),
        "stamps": Work(2 * DOWN * pixels),
        "lattice": Work(2 * 3 * 4 * pixels / 25),
        "packed": Work(pixels + pixels / 8),
        "whiten": Work((5 + 4 * squares) * pixels, 2 * (2 * reach + 1) ** 2 * squares * pixels),
        "score": Work((4 * squares + 18) * pixels, 2 * 2 * (2 * psf_half + 1) ** 2 * pixels),
        "tops": Work(4 * pixels, 2 * 25 * 0.01 * pixels),
        "beyond": Work(2 * 4 * pixels),
        "cell_means": Work(4 * pixels, 4 * pixels),
        "columns": Work(8 * (4 * 512**2 + 4 * LINES)),
        "joined": Work(8 * 9 * 2 * 4 * LINES, 8 * 9 * LINES),
        "for_length": Work(6 * 4 * LINES, 6 * LINES),
        "farthest": Work(2 * 4 * LINES, 2 * 2 * LINES),
        "light_round": Work(
            LIT * (9 * (ROUND + WEIGHED - 1) ** 2 + 4 * WEIGHED**2 + 16 * ROUND**2),
            2 * 6 * LIT * (ROUND * WEIGHED) ** 2,
        ),
        "cutouts": Work(60 * 3 * 8 * 51**2),
        **joined(),
        **measured(),
        **star_psf(),
    }


def _fitted(shape: tuple[int, int]) -> float:
    """Operations of the surfaces that are tried for a residual sky: eight sums of a cell near each."""
    done = 0.0
    for together, width in residual_sky.SCALES:
        sides = [max(1, length * residual_sky.CELLS // 256 // together) for length in shape]
        predicted = math.prod(-(-side // -(-side // residual_sky.JUDGED)) for side in sides)
        done += (
            2 * 8 * predicted * math.prod(min(side, 2 * math.ceil(residual_sky.FAR * width) + 1) for side in sides)
        )
    return done


def measured(sources: int = SOURCES, side: int = SQUARE, rounds: int = 5) -> dict[str, Work]:
    """Of what sources are measured with: a shift is two products with a matrix; nine sums a round of the fit."""
    pixels = sources * side**2
    shift = 2 * 2 * side * pixels
    return {
        "weighed": Work(16 * pixels),
        "shifted": Work(8 * pixels, 0, shift),
        "fit_points": Work(16 * pixels, 0, (rounds + 1) * shift + rounds * 2 * 9 * pixels),
        "forced": Work(12 * pixels, 0, 6 * pixels),
        "aperture": Work(8 * pixels, 0, 6 * pixels),
        "line_powers": Work(4 * (2 * DRAWN + 126) * 61**2, 2 * 2 * DRAWN * 5 * 7 * 6 * 61**2),
    }


def star_psf(
    stars: int = PSF_STARS, side: int = PSF_SIDE, images: int = 2, rounds: int = 4, terms: int = 6
) -> dict[str, Work]:
    """Of the stars of each image of a pair, ten rounds of moments, and its PSF: sums over stars are double, the
    median star is found by ranks."""
    pixels, core = images * stars * side**2, images * stars * 113
    sums = terms * (terms + 1) // 2 + terms + 1
    small = images * STARS * SQUARE**2
    return {
        "moments": Work(4 * small, 0, 10 * 14 * small),
        "light": Work(4 * core),
        "middle": Work(4 * pixels, 2 * stars * pixels),
        "judge": Work(rounds * 5 * pixels, rounds * (2 * terms + 30) * pixels, rounds * 20 * core),
        "keep": Work(rounds * images * 40 * stars, 0, rounds * images * 4 * stars**2),
        "solve": Work(rounds * 5 * pixels, rounds * 2 * terms * pixels, rounds * 2 * sums * pixels),
    }


def joined(sources: int = SOURCES, known: int = KNOWN, field: float = FIELD) -> dict[str, Work]:
    """Of the zone join: two searches a source, by bisection, of a square minute each; 24 bytes a candidate."""
    candidates = 2 * sources * known / field
    bisected = 2 * sources * 2 * 8 * math.log2(known)
    return {
        "count_pairs": Work(bisected + 24 * candidates, 0, 8 * candidates),
        "write_pairs": Work(24 * candidates + 8 * candidates, 0, 8 * candidates),
    }


def grown(shape: tuple[int, int], psf_half: int, halo: int) -> float:
    """Pixels that `whiten` fills over those of the image: tiles with the PSF's half width round them."""
    pieces = tiles(shape, 256, psf_half + halo)
    area = sum((tile.y1 - tile.y0 + 2 * psf_half) * (tile.x1 - tile.x0 + 2 * psf_half) for tile in pieces)
    return area / (shape[0] * shape[1])


def table() -> str:
    """The rows in Markdown."""
    pixels = SHAPE[0] * SHAPE[1]
    head = ["| kernel | bytes a pixel | operations a pixel | floor, us | set by |", "|---|---|---|---|---|"]
    rows, total = [], 0.0
    for name, one in work().items():
        seconds, bound = one.seconds()
        total += seconds
        operations = (one.single + one.double) / pixels
        rows.append(f"| {name} | {one.bytes / pixels:.2f} | {operations:.3g} | {1e6 * seconds:.0f} | {bound} |")
    up, down = (1e6 * share * pixels / LINK for share in (4, DOWN))
    rows.append(f"| all of them | | | {1e6 * total:.0f} | |")
    rows.append(
        f"| frame up, what is looked at down, at the same time | 4, {DOWN:g} | | {up:.0f}, {down:.0f} | PCIe |"
    )
    return "\n".join([*head, *rows])


def text() -> str:
    """What stands in the README between its marks."""
    said = (
        f"**Predicted, not measured**: one CCD of {SHAPE[0]} x {SHAPE[1]} px on an H100 SXM by its data sheet "
        f"({MEMORY / 1e12:g} TB/s,\n{SINGLE / 1e12:g} and {DOUBLE / 1e12:g} Tflop/s in float32 and float64, PCIe "
        f"{LINK / 1e9:g} GB/s each way), kernel {2 * HALF + 1} px, whitening filter {2 * REACH + 1} px, PSF\n"
        f"{2 * PSF_HALF + 1} px, {STARS} stars, {ROUNDS} rounds. A floor is the larger of bytes over the memory's "
        "rate and operations over the\narithmetic's; a pixel read again by a neighbour comes from a cache.\n"
        f"An operation on integers (clipped_mesh) is counted as {INTEGER} of float32."
    )
    return f"{BEGIN}\n{said}\n\n{table()}\n{END}"


def replaced(document: str, new: Callable[[], str] = text) -> str:
    """The document with what stands between the marks made anew."""
    before, _, rest = document.partition(BEGIN)
    return before + new() + rest.partition(END)[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into kernels/README.md")
    if parser.parse_args().write:
        README.write_text(replaced(README.read_text()))
    print(table())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
