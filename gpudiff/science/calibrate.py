"""From a frame to an exposure: pixels judged, sky removed, noise known."""

import numpy as np

from gpudiff.arrays.blank import blank
from gpudiff.arrays.byte_order import swapped
from gpudiff.arrays.mesh import counted_mesh, neighbours_mesh, robust_sigma, robust_surface, step_of
from gpudiff.arrays.parallel import over
from gpudiff.arrays.passes import CPU, Device
from gpudiff.model.config import Calibrate, Configuration
from gpudiff.model.errors import BadGain, BadVariance, ConstantImage, NoUsablePixels, WrongShape
from gpudiff.model.frame import Exposure, Frame
from gpudiff.model.mask import UNUSABLE, bit, marked
from gpudiff.model.plane import Plane, SmoothPlane
from gpudiff.science.error_plane import (
    CONTRARY,
    SMALLEST,
    agree,
    even_plane,
    from_plane,
    noise_of_neighbours,
    some_of,
)
from gpudiff.science.flaws import DEEP, dead_pixels, mend
from gpudiff.science.gain import SHOT, believed_gain, likely_gain

CUTOUT = 24
"""The same for a frame that comes with its PSF: it needs no stars."""
FILL = 1e30
"""Pixels as large as this are no light: NaN, infinity, or what some programs write where they have no value."""
NEAR_SATURATION = 0.98
"""Pixels above this share of the saturation level are not linear."""
NOISE = 1e-12, 1e12
"""Image units between which the noise of a sky pixel must lie: its square and a star's must be float32."""
UNEVEN, ENOUGH = 1.3, 12
"""Factor by which the sky's variance varies over the field before that is followed, its noise by 7 % either way;
cells that tell of it."""
FEW = 2.0
"""Steps between two values below which noise is that of counts: no quantile tells it."""
PHOTONS = 5.0
"""Electrons of noise from which on a sky is not lopsided: its mode is below its mean by 2 % of its variance."""
BAND = 64
"""Rows that one thread works on at a time, so that they stay in cache: a megabyte of 4096 px each."""


def calibrate(frame: Frame, configuration: Configuration, device: Device = CPU, used_up: bool = False) -> Exposure:
    """The exposure of a frame.

    The sky is a robust second-order surface: a finer mesh would follow galaxies and add its own noise.  The
    variance comes from the frame's variance plane, else from gain and read noise where they agree with the
    scatter of the sky or, where it has structure, of neighbouring pixels, else from that scatter; `notes` says
    which.  A gain too small for the scatter of stars too, or far too small, is not taken: such an image is a mean
    of many, or per second; nor one far too large, where the sky has not been removed: a camera's setting.
    Where no other is, and the sky scatters as few photons do, their size says gain and variance.

    device : where level and noise of the sky are looked for
    used_up : the frame's pixels become the exposure's, where they are float32 that may be written
    Raises WrongShape, NoUsablePixels, ConstantImage, BadGain, BadVariance, DeviceFailed.
    """
    threads = configuration.match.threads
    _check_shape(frame)
    _check_numbers(frame)
    _check_bytes(frame)
    image, mask, unusable, notes = _pixels(frame, threads, used_up)
    _check_pixels(frame, image, mask, unusable, configuration.calibrate, notes)
    level, scatter, sky = _sky(frame, image, unusable, configuration.calibrate, device)
    sigma = float(np.nanmedian(scatter))
    variance, gain, known, said = _noise(frame, image, unusable, sky, level, sigma, device)
    if frame.variance is None:
        cell = mesh_cell(frame.image.shape, configuration.calibrate)
        variance, uneven = _as_it_scatters(variance, image, unusable, scatter, cell)
        said.extend(uneven)

    raw = image
    own = image is not frame.image or (used_up and image.flags.carray)
    image = raw if own else np.empty(raw.shape, np.float32)

    def subtract_sky(band: slice) -> tuple[np.ndarray, int]:
        np.subtract(raw[band], sky.cut(band.start, band.stop, 0, raw.shape[1]), out=image[band])
        flaws, pixels = np.flatnonzero(unusable[band]), image[band].reshape(-1)
        pixels[flaws] = 0
        low = np.flatnonzero(pixels < -DEEP * sigma) if pixels.min() < -DEEP * sigma else flaws[:0]
        return np.concatenate([flaws, low]) + band.start * image.shape[1], len(low)

    sky.cut(0, 1, 0, 1)  # its matrices are made once, before threads read them
    parts = over(subtract_sky, bands(image.shape[0]), threads)
    flaws = np.concatenate([found[: len(found) - low] for found, low in parts])
    dead = dead_pixels(image, variance, sigma, np.concatenate([found[len(found) - low :] for found, low in parts]))
    if len(dead):
        said.append(f"{len(dead)} pixels masked: far below those round them, where no light is missing")
    made = frame.without_planes()
    notes = [*frame.notes, *notes, *said]
    exposure = Exposure(
        made, image, mask, sky, variance, gain, known, tuple(notes), held=held_name(frame, configuration)
    ).knowing(unusable, flaws)
    image.reshape(-1)[dead] = 0
    exposure.mark(*np.divmod(dead, image.shape[1]), "BAD")
    mend(exposure, sigma, frame.saturation)
    return exposure


def held_name(frame: Frame, configuration: Configuration) -> str:
    """A name that says all that the pixels of the exposure depend on, '' where nothing does."""
    return f"{frame.digest}-{configuration.digest('calibrate')}" if frame.digest else ""


def bands(height: int) -> list[slice]:
    """Slices of rows that cover the image."""
    return [slice(row, min(row + BAND, height)) for row in range(0, height, BAND)]


def _check_shape(frame: Frame) -> None:
    shape = frame.image.shape
    least = SMALLEST if frame.psf is None else CUTOUT
    if len(shape) != 2 or min(shape) < least:
        raise WrongShape(f"{frame.name}: expected an image of at least {least} x {least}, got {shape}")
    for plane in ("mask", "variance"):
        other = getattr(frame, plane)
        if other is not None and other.shape != shape:
            raise WrongShape(f'{frame.name}: plane "{plane}" is {other.shape}, expected {shape}')


def _check_numbers(frame: Frame) -> None:
    for name, value, low, high in (
        ("gain", frame.gain, 1e-6, 1e6),
        ("read noise", frame.read_noise, 0.0, 1e5),
        ("saturation", frame.saturation, 1e-30, np.inf),
    ):
        if value is not None and not low <= value <= high:
            raise BadGain(f"{frame.name}: expected a {name} between {low:g} and {high:g}, got {value!r}")


def _check_bytes(frame: Frame) -> None:
    if swapped(frame.image):
        raise NoUsablePixels(
            f"{frame.name}: expected pixels in the byte order of FITS, big-endian, got some that are noise unless "
            "their bytes are swapped: write the file anew with a FITS library"
        )


def _pixels(frame: Frame, threads: int, used_up: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """(float32 image, non-finite pixels 0, mask with those and saturated ones marked, unusable pixels, notes), all
    its own but the image, which may be the frame's: that of one that is not used up stays as it is."""
    shape = frame.image.shape
    given = frame.image.dtype == np.float32
    image = frame.image if given else np.empty(shape, np.float32)
    mask, unusable = np.empty(shape, np.uint16), np.empty(shape, bool)
    saturation, notes = frame.saturation, []
    if saturation is None:
        saturation = _plateau(frame.image)
        if saturation is not None:
            notes.append(f"saturation not given: taken as {saturation:g}, where the brightest pixels pile up")
    limit = np.float32(saturation * NEAR_SATURATION) if saturation is not None else np.float32(np.inf)
    empty = blank(frame.image)

    def mark(band: slice) -> tuple[np.ndarray, int]:
        """The few pixels that are marked by their numbers: to go by a plane of flags takes four times as long."""
        pixels, bits = image[band].reshape(-1), mask[band].reshape(-1)
        if not given:
            image[band] = frame.image[band]
        mask[band] = 0 if frame.mask is None else frame.mask[band]
        low, high = pixels.min(), pixels.max()  # NaN where one pixel is
        if not high < limit:
            bits[np.flatnonzero(pixels >= limit)] |= bit("SAT")
        whole = low > -FILL and high < FILL
        bad = np.empty(0, int) if whole else np.flatnonzero(~(np.abs(pixels) < FILL))
        bits[bad] |= bit("NO_DATA")
        if empty is not None:
            empty[band] &= ~marked(mask[band], *UNUSABLE)
            mask[band][empty[band]] |= bit("NO_DATA")
        wrong = 0
        if frame.variance is not None:
            unmasked = ~marked(mask[band], *UNUSABLE)
            with np.errstate(invalid="ignore"):
                positive = frame.variance[band] > 0
            wrong = int(np.count_nonzero(unmasked & ~positive))
            mask[band][unmasked & ~(positive & np.isfinite(frame.variance[band]))] |= bit("NO_DATA")
        np.not_equal(mask[band] & bit(*UNUSABLE), 0, out=unusable[band])
        return bad + band.start * shape[1], wrong

    parts = over(mark, bands(shape[0]), threads)
    lost, wrong = np.concatenate([bad for bad, _ in parts]), sum(number for _, number in parts)
    if wrong > 0.01 * image.size:
        raise BadVariance(
            f"{frame.name}: expected a positive variance, got zero, negative or NaN for {wrong / image.size:.1%} "
            "of the unmasked pixels"
        )
    if len(lost):
        notes.append(f"{len(lost)} non-finite pixels masked")
        image = image if not given or (used_up and image.flags.carray) else image.copy()
        image.reshape(-1)[lost] = 0
    if empty is not None and empty.any():
        values = ", ".join(f"{value:g}" for value in np.unique(frame.image[empty])[:3])
        notes.append(f"{np.count_nonzero(empty)} pixels masked: areas of one value ({values}), without noise")
    return image, mask, unusable, notes


def _plateau(image: np.ndarray) -> float | None:
    """The top value when at least 5 pixels share it, far above the sky: a clipped star; else None."""
    with np.errstate(invalid="ignore"):
        top = float(np.max(image, where=image < FILL, initial=0.0))
    sample = image[::7, ::7]
    sample = sample[np.isfinite(sample)]
    if sample.size == 0 or top <= np.median(sample) + 50 * max(robust_sigma(sample), 1e-30):
        return None
    return top if int((image == top).sum()) >= 5 else None


def _check_pixels(
    frame: Frame, image: np.ndarray, mask: np.ndarray, unusable: np.ndarray, limits: Calibrate, notes: list[str]
) -> None:
    usable = 1 - np.count_nonzero(unusable) / unusable.size
    if usable < limits.min_usable_fraction:
        saturated = float(marked(mask, "SAT").mean())
        if saturated > 0 and frame.saturation is not None:
            notes = [*notes, f"{saturated:.1%} saturated, at {frame.saturation:g} (--saturation says another)"]
        raise NoUsablePixels(
            f"{frame.name}: expected at least {limits.min_usable_fraction:.0%} finite, unmasked pixels, "
            f"got {'; '.join([f'{usable:.1%}', *notes])}"
        )
    first = image.flat[np.argmin(unusable)]
    if not any((image[band][~unusable[band]] != first).any() for band in bands(len(image))):
        raise ConstantImage(f"{frame.name}: expected an image, got the value {first:g} in every pixel")


def mesh_cell(shape: tuple[int, ...], settings: Calibrate) -> int:
    """Pixels along a cell of the meshes of an image's sky and noise."""
    return int(np.clip(min(shape) // 8, 32, settings.sky_cell))


def _sky(
    frame: Frame, image: np.ndarray, unusable: np.ndarray, settings: Calibrate, device: Device
) -> tuple[np.ndarray, np.ndarray, SmoothPlane]:
    """(mesh of levels, mesh of the noise of a sky pixel, sky).  Raises BadVariance."""
    cell = mesh_cell(frame.image.shape, settings)
    level, sigma = device.mesh(image, unusable, cell, 4 if cell >= 128 else 1)
    if np.isnan(level).all():  # the rows that are looked at are the bad ones
        level, sigma = device.mesh(image, unusable, cell)
    stepped = np.nanmedian(sigma) < FEW * step_of(some_of(image, unusable))
    if stepped or _lopsided(frame, float(np.nanmedian(level)), float(np.nanmedian(sigma))):
        level, sigma = counted_mesh(image, unusable, cell)
    surface, noise = robust_surface(level), float(np.nanmedian(sigma))
    if noise > 0 and not NOISE[0] <= noise <= NOISE[1]:
        raise BadVariance(
            f"{frame.name}: expected a sky noise between {NOISE[0]:g} and {NOISE[1]:g} image units, "
            f"got {noise:.3g}: multiply the image by a power of ten"
        )
    return surface, sigma, SmoothPlane(surface, image.shape)


def _as_it_scatters(
    variance: Plane, image: np.ndarray, unusable: np.ndarray, scatter: np.ndarray, cell: int
) -> tuple[Plane, list[str]]:
    """(sky variance that varies over the field as the noise does, note), or the variance as it is and no note.

    A flat field that was divided out leaves a level sky whose noise rises where the lens gave less light.  Noise
    between neighbours has to say so too, for a crowd widens a cell's histogram, and both along a smooth surface.

    variance : on the mesh of `scatter`, (GY, GX) noise of a sky pixel in cells of `cell` px, or constant
    """
    assert isinstance(variance, SmoothPlane)
    found = _surface(scatter**2 / variance.grid)
    if found is None:
        return variance, []
    among = _surface(neighbours_mesh(image, unusable, cell) ** 2 / variance.grid)
    if among is None:
        return variance, []
    grid = variance.grid * among * np.median(found / among)
    low, high = np.sqrt((grid.min(), grid.max()))
    said = f"noise of the sky measured, {low:.4g} to {high:.4g} over the field: a flat field was divided out?"
    return SmoothPlane(grid, image.shape), [said]


def _surface(ratio: np.ndarray) -> np.ndarray | None:
    """(GY, GX) smooth surface through a mesh, above 0, that varies by UNEVEN and more along it, or None.

    Its inverse, the share of light that came through, is what a lens makes a quadratic of.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(ratio > 0, 1 / ratio, np.nan)
    known = np.isfinite(value)
    if known.sum() < ENOUGH:
        return None
    share = robust_surface(value)
    smooth = robust_sigma((value - share)[known]) < 0.5 * robust_sigma(value[known])
    return 1 / share if smooth and share.max() > UNEVEN * share.min() > 0 else None


def _lopsided(frame: Frame, level: float, sigma: float) -> bool:
    """Whether a sky of that level and noise is of few photons: their median is a third of one below their mean."""
    if frame.gain is None or sigma * frame.gain > PHOTONS:
        return False
    return agree(level / frame.gain + ((frame.read_noise or 0.0) / frame.gain) ** 2, sigma)


def _noise(
    frame: Frame,
    image: np.ndarray,
    unusable: np.ndarray,
    sky: SmoothPlane,
    level: np.ndarray,
    sigma: float,
    device: Device,
) -> tuple[Plane, float, bool, list[str]]:
    """(sky variance, gain for the sources' photons, known, notes)."""
    if frame.variance is not None:
        return from_plane(frame, image, unusable, sky, sigma, device)
    step, typical = step_of(some_of(image, unusable)), float(np.median(level))
    if frame.gain is not None:
        read = (frame.read_noise or 0.0) / frame.gain
        grid = np.maximum(level, 0) / frame.gain + read**2
        expected = float(np.median(grid))
        said = f"variance from gain {frame.gain:g} and read noise {frame.read_noise or 0:g} e-"
        if agree(expected, sigma) or (
            sigma**2 > expected and agree(expected, noise_of_neighbours(image, unusable))
        ):
            return SmoothPlane(grid, image.shape), frame.gain, True, [said]
        measured = f"variance of the sky measured ({sigma:.4g} a pixel), not the {expected**0.5:.4g} that gain"
        quiet = typical > SHOT * sigma and expected < sigma**2 / CONTRARY
        if expected < CONTRARY * sigma**2 and not quiet:
            gain, belied = believed_gain(frame, image, unusable, sky, typical, sigma)
            why = belied or "sky removed before, or pixels resampled"
            return even_plane(sigma, frame), gain, False, [f"{measured} and read noise give: {why}"]
        notes = [f"{measured} {frame.gain:g} and read noise {frame.read_noise or 0:g} e- give: they are not taken"]
    else:
        notes = []
    if typical <= SHOT * sigma and agree(typical * step, sigma):
        said = f"variance of photons, one every {step:.4g} units, as the sky's level and scatter say"
        return SmoothPlane(np.maximum(level, 0) * step, image.shape), 1 / step, True, [*notes, said]
    if frame.gain is None:
        notes = [f"variance measured from the sky ({sigma:.4g} a pixel)"]
    gain, said = likely_gain(frame, image, unusable, sky, typical, sigma)
    return even_plane(sigma, frame), gain, False, [*notes, said]
