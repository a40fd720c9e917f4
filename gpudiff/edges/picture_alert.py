"""An alert's cutouts as a picture."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.atomic import atomically
from gpudiff.edges.picture_light_curve import draw_light_curve, light_curve
from gpudiff.model.errors import BadConfiguration, UnreadableFile

CUTOUTS = {"science": "cutoutScience", "template": "cutoutTemplate", "difference": "cutoutDifference"}

SUFFIXES = (".png", ".pdf", ".svg")


def check_suffix(path: Path) -> None:
    """Raises BadConfiguration for a picture of a kind that is none of SUFFIXES."""
    if path.suffix.lower() not in SUFFIXES:
        raise BadConfiguration(f"{path}: expected a picture's name that ends in {', '.join(SUFFIXES)}")


def read_cutout(data: bytes | None, name: str) -> tuple[np.ndarray, str]:
    """The (H, W) float32 pixels of the first image in a FITS cutout, and their unit; (0, 0) when there is none.

    Raises UnreadableFile for what is no FITS image.
    """
    from astropy.io import fits

    if not data:
        return np.zeros((0, 0), np.float32), ""
    try:
        with fits.open(io.BytesIO(data)) as hdus:
            image = next(hdu for hdu in hdus if hdu.data is not None and hdu.data.ndim == 2)
            return np.asarray(image.data, np.float32), str(image.header.get("BUNIT", ""))
    except (OSError, ValueError, TypeError, StopIteration, AttributeError) as error:
        raise UnreadableFile(f"{name}: expected a FITS image: {error}") from None


def draw(alert: dict[str, Any], title: str, path: Path) -> None:
    """Write science, template and difference side by side, and the light curve below them where there is one.

    The format follows the suffix, one of SUFFIXES.
    Science and template share one stretch, from low to high percentile of both; the difference is stretched
    symmetrically about zero.  Pixels without a value are grey.  Raises StoreFailed when it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    images = {name: read_cutout(alert.get(field), field) for name, field in CUTOUTS.items()}
    points = light_curve(alert)
    figure = Figure(figsize=(10, 7.2 if points else 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    grid = figure.add_gridspec(2 if points else 1, 3)
    if points:
        draw_light_curve(
            figure.add_subplot(grid[1, :]), points, (alert.get("diaSource") or {}).get("fluxUnit") or "nJy"
        )
    for column, (name, (pixels, unit)) in enumerate(images.items()):
        axes = figure.add_subplot(grid[0, column])
        axes.set_title(name if pixels.size else f"{name}: none", fontsize=10)
        axes.set_facecolor("0.6")
        axes.set_xticks([])
        axes.set_yticks([])
        if pixels.size:
            figure.colorbar(draw_cutout(axes, name, images), ax=axes, label=unit, fraction=0.046, pad=0.03)
    with atomically(path) as temporary:
        figure.savefig(temporary, dpi=110)


def draw_cutout(axes: Any, name: str, images: dict[str, tuple[np.ndarray, str]]) -> Any:
    """Draw the one of that name, in the stretch that `draw` has; what matplotlib makes of it.

    images : of `read_cutout`, by the names of CUTOUTS
    """
    low, high = _stretch(name, images)
    colours = "RdBu_r" if name == "difference" else "gray"
    return axes.imshow(images[name][0], origin="lower", cmap=colours, vmin=low, vmax=high, interpolation="nearest")


def _stretch(name: str, images: dict[str, tuple[np.ndarray, str]]) -> tuple[float, float]:
    chosen = ("difference",) if name == "difference" else ("science", "template")
    pixels = np.concatenate([images[one][0].ravel() for one in chosen])
    pixels = pixels[np.isfinite(pixels)]
    if not pixels.size:
        return -1.0, 1.0
    if name == "difference":
        high = float(np.percentile(np.abs(pixels), 99.5)) or 1.0
        return -high, high
    low, high = (float(value) for value in np.percentile(pixels, [1, 99.5]))
    return low, high if high > low else low + 1.0
