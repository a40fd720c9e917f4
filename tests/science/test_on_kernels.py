"""The whole engine with its passes over the pixels on CUDA kernels, run on the CPU (and on a GPU where there is
one), against the NumPy path."""

from dataclasses import replace

import numpy as np
import pytest
from emulated import Emulated
from launchers import gpu_launchers
from watched import Watched, as_there

from gpudiff.arrays.gpu import Gpu
from gpudiff.arrays.passes import CPU
from gpudiff.edges.fits import read_frame
from gpudiff.model.calibration import Amplifier, Calibration
from gpudiff.model.config import Configuration
from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.science.align import align
from gpudiff.science.calibrate import calibrate
from gpudiff.science.instrument_signature import remove_signature
from gpudiff.science.subtract import subtract

LAUNCHERS = [Emulated(), *gpu_launchers()]


def wavy(image):
    """A sky that is no low-order surface: the kernel is fitted once more without it."""
    image += 6 * np.sin(np.arange(image.shape[1]) / 20)


def struck(image):
    """Cosmic rays beside the brightest pixels: stars and PSFs are looked for again without them."""
    y, x = np.divmod(np.argsort(image[9:-9, 9:-9], None)[-200::40], image.shape[1] - 18)
    image[y + 11, x + 10] += 3e4


def warm(image):
    """Columns that are levelled, and a noisy one that is masked."""
    image[40:, 50:200:40] += 90
    image[:, 30] += np.random.default_rng(2).normal(300, 60, len(image))


PAIRS = {
    "template convolved": {},
    "science convolved": {"fwhm": (3.4, 4.6)},
    "saturated stars": {"saturation": 6000.0},
    "stars up to saturation": {"star_flux": (4e3, 8e5), "scale": 1.3},
    "noise left as it is": {"decorrelate": False},
    "an uneven sky, matched twice": {"change": wavy},
    "cosmic rays on stars": {"change": struck},
    "warm columns": {"change": warm},
}


@pytest.fixture(
    scope="module", params=LAUNCHERS, ids=lambda launcher: f"{type(launcher).__name__}-{launcher.name}"
)
def launcher(request):
    return request.param


@pytest.fixture(scope="module", params=PAIRS)
def both(request, maker, launcher):
    """The same pair on the CPU and on the kernels: two of (difference, sources)."""
    recipe = dict(PAIRS[request.param])
    settings = maker.settings(decorrelate=recipe.pop("decorrelate", True))
    change = recipe.pop("change", lambda image: None)
    pair = maker.pair(size=256, stars=60, transients=12, **recipe).with_science(change)
    return [subtract(pair.science, pair.template, settings, device) for device in (CPU, Watched(launcher))]


def test_the_difference_is_the_same_to_a_ten_thousandth_of_sigma(both):
    (numpy, _), (kernels, _) = both
    np.testing.assert_array_equal(np.isnan(kernels.image), np.isnan(numpy.image))
    # float32 sums in another order, and 1e-13 of the whitening filter's energy left out.
    assert np.nanmax(np.abs(kernels.image - numpy.image) / np.sqrt(numpy.variance)) < 1e-4
    # Near stars the noise learned from their scores is in it, which multiplies rounding by some.
    np.testing.assert_allclose(kernels.variance, numpy.variance, rtol=5e-5)
    np.testing.assert_allclose(kernels.score, numpy.score, atol=3e-4)  # summed under the PSF


def test_the_sources_are_the_same(both):
    (numpy, expected), (kernels, sources) = both
    assert len(sources) >= 8
    np.testing.assert_array_equal(kernels.mask, numpy.mask)
    for name in ("diaSourceId", "flags", "isNegative"):
        np.testing.assert_array_equal(sources[name], expected[name])
    np.testing.assert_allclose(sources["x"], expected["x"], atol=1e-4)  # of an error of 0.05 px
    for name in ("psfFlux", "apFlux", "scienceFlux", "templateFlux"):
        np.testing.assert_allclose(sources[name], expected[name], atol=1e-4 * np.nanmax(sources[f"{name}Err"]))
    for name in ("psfFluxErr", "apFluxErr", "xErr", "yErr", "ixx", "iyy", "psfChi2"):
        # A bright source's rest is the difference of large numbers that agree to 1e-4 sigma.
        np.testing.assert_allclose(sources[name], expected[name], rtol=1e-4, err_msg=name)


def test_what_is_held_is_what_the_host_has(both):
    _, (kernels, _) = both
    assert as_there(kernels)


def test_the_fingerprint_is_the_same_on_every_device_and_the_device_stands_beside_it(both, launcher):
    (numpy, _), (kernels, _) = both
    assert kernels.fingerprint == numpy.fingerprint
    assert {step["device"] for step in numpy.steps} == {"cpu"}
    assert {step["device"] for step in kernels.steps} == {launcher.name}


def test_a_template_on_its_own_grid_is_resampled_the_same(maker, launcher):
    pair = maker.pair(size=256, stars=60)
    height = pair.science.image.shape[0]
    turned = replace(pair.template, image=np.ascontiguousarray(np.roll(pair.template.image, (3, -2), (0, 1))))
    settings = maker.settings(align="stars")
    science, template = (calibrate(frame, settings) for frame in (pair.science, turned))
    made = [align(science, template, settings, device) for device in (CPU, Gpu(launcher))]
    assert made[0].resampled
    # A position within rounding of half a phase may take the next one, 5e-4 px away, beside a bright star.
    off = np.abs(made[1].image - made[0].image) / np.abs(made[0].image).max()
    assert off.max() < 1e-3
    assert (off > 1e-6).mean() < 1e-3
    np.testing.assert_array_equal(made[1].mask, made[0].mask)
    assert made[1].image.shape == (height, height)


def test_a_raw_frame_is_decoded_to_the_bit(launcher):
    rng = np.random.default_rng(4)
    amplifier = Amplifier((0, 90, 0, 80), (0, 0), 1.5, 6.0, 60_000.0, (90, 100, 0, 80), linearity=(1.0, 4e-7))
    flat = rng.normal(1, 0.02, (80, 90)).astype(np.float32)
    calibration = Calibration("calibration", (amplifier,), flat=flat)
    pixels = rng.poisson(1500, (80, 100)).astype(np.uint16)
    raw = Frame("raw", Observation(FrameId(1, 0, 3)), pixels, calibrated=False)
    numpy, kernels = (remove_signature(raw, calibration, device) for device in (CPU, Gpu(launcher)))
    np.testing.assert_array_equal(kernels.image, numpy.image)
    assert kernels.digest == numpy.digest


def test_a_frame_is_calibrated_the_same(launcher):
    pixels = np.random.default_rng(5).normal(400, 12, (1024, 1024)).astype(np.float32)
    pixels[100:300, 20:160] = np.nan
    frame = Frame("frame", Observation(FrameId(1, 0, 3)), pixels, gain=2.8)
    numpy, kernels = (calibrate(frame, Configuration(), device) for device in (CPU, Gpu(launcher)))
    np.testing.assert_allclose(kernels.sky.grid, numpy.sky.grid, rtol=1e-12)  # means summed in another order
    np.testing.assert_array_equal(kernels.image, numpy.image)
    assert kernels.notes == numpy.notes


@pytest.mark.real_data
def test_a_stack_of_real_frames_is_the_same_to_a_ten_thousandth_of_sigma(real_data, launcher):
    paths = [real_data / "decam_pair" / f"4check__Stack-DEC-OBS{epoch}.fits" for epoch in ("18", "04")]
    made = [
        subtract(*(read_frame(path, Configuration().instrument) for path in paths), Configuration(), device)
        for device in (CPU, Gpu(launcher))
    ]
    (numpy, expected), (kernels, sources) = made
    assert np.nanmax(np.abs(kernels.image - numpy.image) / np.sqrt(numpy.variance)) < 1e-4
    np.testing.assert_array_equal(sources["diaSourceId"], expected["diaSourceId"])
