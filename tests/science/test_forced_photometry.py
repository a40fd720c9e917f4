"""gpudiff.science.forced_photometry: fluxes at known positions, against what was put there."""

import dataclasses

import numpy as np
import pytest
from emulated import Emulated
from headers import SCALE, tangent

from gpudiff.arrays.gpu import Gpu
from gpudiff.arrays.passes import CPU
from gpudiff.model.mask import bit
from gpudiff.model.tables import DIASOURCE, FORCED_SOURCE, Column, Table
from gpudiff.science.forced_photometry import forced_squares, measured

POSITION = tuple(Column(name, "f8", "", "") for name in ("diaObjectId", "ra", "dec"))
WCS = tangent(150.0, 2.0, 1.0, 1.0) | {"CD1_1": SCALE}


def placed(difference):
    """The difference with a WCS in which pixel (x, y) lies x, y steps east and north of the first."""
    frame = dataclasses.replace(difference.science.frame, wcs=WCS)
    return dataclasses.replace(difference, science=dataclasses.replace(difference.science, frame=frame))


def at(difference, y, x, sources=None, gate=1.0, device=CPU) -> Table:
    """Forced photometry at pixels, in their order."""
    from gpudiff.model.sky import Sky

    ra, dec = Sky(WCS).to_sky(x, y)
    objects = Table(POSITION, {"diaObjectId": np.arange(len(ra)), "ra": ra, "dec": dec})
    sources = Table.empty(DIASOURCE) if sources is None else sources
    squares = forced_squares(placed(difference), sources, lambda *circle: objects, gate)
    return measured(squares, device) if squares else Table.empty(FORCED_SOURCE)


@pytest.fixture(scope="module")
def faint(maker):
    """Four pairs of 150 changes of 0.5 to 6 sigma."""
    recipe = {"size": 704, "stars": 120, "transients": 150, "snr": (0.5, 6)}
    return [maker.run(maker.pair(seed=seed, **recipe)) for seed in (1, 2, 3, 4)]


def pulls(faint, column: str, which) -> np.ndarray:
    """(flux - truth) / error at the changes for which `which(flux put in)` is so."""
    out = []
    for done in faint:
        y, x, flux = done.pair.changes[which(done.pair.changes[:, 2])].T
        table = at(done.difference, y, x)
        out.append((table[column] - flux) / table[f"{column}Err"])
    return np.concatenate(out)


def test_fluxes_on_the_difference_are_unbiased_and_have_the_errors_they_say(faint):
    pull = pulls(faint, "psfFlux", lambda flux: flux != 0)
    assert len(pull) == 600
    assert abs(pull.mean()) < 3 / np.sqrt(len(pull))
    assert pull.std() == pytest.approx(1, abs=0.05)


def test_fluxes_on_the_science_image_are_unbiased_and_have_the_errors_they_say(faint):
    pull = pulls(faint, "scienceFlux", lambda flux: flux > 0)
    assert len(pull) == 300
    assert abs(pull.mean()) < 3 / np.sqrt(len(pull))
    assert pull.std() == pytest.approx(1, abs=0.12)  # 300 pulls: 4 %; light of stars 22 px away adds some


def test_blank_sky_has_no_flux(faint):
    pull = []
    for done in faint:
        y, x = (a.ravel() for a in np.mgrid[24:680:14, 24:680:14])
        clear = done.away()[y, x]
        table = at(done.difference, y[clear] + 0.3, x[clear] - 0.4)
        pull.append(table["psfFlux"] / table["psfFluxErr"])
    pull = np.concatenate(pull)
    assert len(pull) > 3000
    # the sky's own error: 0.01 sigma a pixel, seen by 70 pixels
    assert abs(pull.mean()) < 0.1
    assert pull.std() == pytest.approx(1, abs=0.05)


def test_an_object_that_was_detected_is_left_out(done):
    difference, sources = placed(done.difference), done.sources
    from gpudiff.model.sky import Sky

    ra, dec = Sky(WCS).to_sky(sources["x"], sources["y"])
    detected = sources.replace(ra=ra, dec=dec)
    y, x = np.append(sources["y"] + 2.0, 60.0), np.append(sources["x"], 200.0)
    assert at(difference, y, x, detected, gate=1.0)["diaObjectId"].tolist() == [len(sources)]
    assert len(at(difference, y, x, detected, gate=0.3)) == len(sources) + 1


def test_objects_beyond_the_image_are_left_out(done):
    height, width = done.difference.image.shape
    table = at(done.difference, np.array([-1.0, 50, 50, height]), np.array([50.0, width, 50, 50]))
    assert table["diaObjectId"].tolist() == [2]


def test_pixels_in_the_core_are_flagged(done):
    mask = done.difference.mask.copy()
    mask[101, 120] |= bit("SAT")
    table = at(dataclasses.replace(done.difference, mask=mask), np.array([100.2, 100.2]), np.array([120.4, 124.0]))
    assert (table["pixelFlags"] & int(bit("SAT")) > 0).tolist() == [True, False]


def test_where_no_pixel_is_usable_there_is_no_flux(done):
    image, variance = done.difference.image.copy(), done.difference.variance.copy()
    image[60:140, 60:140] = variance[60:140, 60:140] = np.nan
    table = at(
        dataclasses.replace(done.difference, image=image, variance=variance), np.array([100.0]), np.array([100.0])
    )
    assert np.isnan(table["psfFlux"][0])
    assert np.isnan(table["psfFluxErr"][0])


def test_a_frame_without_a_wcs_has_none(done):
    assert forced_squares(done.difference, done.sources, lambda *circle: 1 / 0, 1.0) is None


def test_the_circle_that_is_asked_for_holds_the_image(done):
    from gpudiff.model.sky import Sky

    asked = []
    forced_squares(
        placed(done.difference), done.sources, lambda *circle: asked.append(circle) or Table.empty(POSITION), 1.0
    )
    ((ra, dec, radius),) = asked
    corner = Sky(WCS).to_sky(0.0, 0.0)
    assert np.hypot((corner[0] - ra) * np.cos(np.radians(dec)), corner[1] - dec) <= radius * (1 + 1e-6)
    assert radius < 384 * SCALE


def test_fluxes_are_the_same_by_cuda_kernels(done):
    y, x = np.random.default_rng(6).uniform(0, 383, (2, 40))  # some where no pixel is usable
    expected, found = (at(done.difference, y, x, device=device) for device in (CPU, Gpu(Emulated())))
    np.testing.assert_array_equal(found["diaObjectId"], expected["diaObjectId"])
    for name in ("psfFlux", "scienceFlux"):
        # The CPU moves profiles by transforms in float32.
        atol = 1e-4 * np.nanmax(expected[f"{name}Err"])
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=atol)
        np.testing.assert_allclose(found[f"{name}Err"], expected[f"{name}Err"], rtol=1e-5)


@pytest.mark.parametrize("fwhm", [(4.6, 3.6), (3.2, 4.6)])
def test_bright_fluxes_have_the_errors_they_say_whatever_was_convolved(maker, fwhm):
    done = [
        maker.run(maker.pair(seed=seed, size=704, fwhm=fwhm, stars=150, transients=60, snr=(60, 90)))
        for seed in (1, 2, 3)
    ]
    for new, what in ((True, "in the science image"), (False, "in the template")):
        pull = pulls(done, "psfFlux", lambda flux, new=new: (flux > 0) == new)
        assert pull.std() == pytest.approx(1, abs=0.22), what  # 90 pulls: three times 7.5 %
