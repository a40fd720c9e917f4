"""A science frame and its template, small: Gaussian stars on a flat sky with photon and read noise."""

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from headers import tangent

GAIN, READ_NOISE, SATURATION, SKY = 1.6, 5.0, 60000.0, 400.0
SIZE = 224
NEW = (130.0, 101.0, 4000.0)
"""x, y and flux of a source that only the science frame shows: about 50 sigma."""
GONE = (70.0, 150.0, 4000.0)
"""x, y and flux of a source that only the template shows."""
WCS = tangent(150.0, 2.2, SIZE / 2 + 0.5, SIZE / 2 + 0.5)
HEADER: dict[str, Any] = {"GAIN": GAIN, "RDNOISE": READ_NOISE, "SATURATE": SATURATION, "VISIT": 7, "DETECTOR": 3}


def render(stars: list[tuple[float, float, float]], sigma: float, seed: int, size: int = SIZE) -> np.ndarray:
    """(size, size) float32 ADU: Gaussians of (x, y, flux) over the sky, with photon and read noise."""
    y, x = np.mgrid[:size, :size]
    sky = np.full((size, size), SKY)
    for at_x, at_y, flux in stars:
        sky += flux / (2 * np.pi * sigma**2) * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * sigma**2))
    rng = np.random.default_rng(seed)
    electrons = rng.poisson(sky * GAIN) + rng.normal(0, READ_NOISE, sky.shape)
    return (electrons / GAIN).astype(np.float32)


def field(count: int = 40, size: int = SIZE) -> list[tuple[float, float, float]]:
    """Stars on a jittered grid, so that none lies on another, of 5,000 to 150,000 ADU."""
    rng = np.random.default_rng(11)
    side = int(np.ceil(np.sqrt(count)))
    places = [(i, j) for i in range(side) for j in range(side)][:count]
    step = size / side
    return [
        (float((i + 0.5 + jx) * step), float((j + 0.5 + jy) * step), float(flux))
        for (i, j), (jx, jy), flux in zip(
            places, rng.uniform(-0.25, 0.25, (count, 2)), 5000 * 30 ** rng.uniform(0, 1, count), strict=True
        )
    ]


def images(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Science (FWHM 4.5 px) and template (FWHM 3.5 px) of one field; NEW and GONE are the only changes."""
    stars = field(count)
    return render([*stars, NEW], 4.5 / 2.355, 1), render([*stars, GONE], 3.5 / 2.355, 2)


def save(path: Path, image: np.ndarray, header: dict[str, Any] | None = None, **planes: np.ndarray) -> Path:
    """A FITS file of the image with HEADER and WCS, or with the cards given; planes as further HDUs."""
    hdu = fits.PrimaryHDU(image)
    hdu.header.update(HEADER | WCS if header is None else header)
    more = [fits.ImageHDU(plane, name=name) for name, plane in planes.items()]
    fits.HDUList([hdu, *more]).writeto(path, overwrite=True)
    return path


def save_pair(folder: Path) -> tuple[Path, Path]:
    """The pair as two plain files."""
    science, template = images()
    return save(folder / "science.fits", science), save(folder / "template.fits", template)
