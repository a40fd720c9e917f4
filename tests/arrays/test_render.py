import numpy as np
import pytest

from gpudiff.arrays import render


def round_psf(count, fwhm):
    return np.tile([fwhm**2, fwhm**2, 0.0], (count, 1))


@pytest.mark.parametrize("beta", [2.5, 3.5, 4.7])
def test_the_mixture_is_the_moffat_profile(beta):
    radius = np.linspace(0, 8, 400)
    core = 0.5 / np.sqrt(2 ** (1 / beta) - 1)
    moffat = (beta - 1) / (np.pi * core**2) * (1 + (radius / core) ** 2) ** -beta
    made = render.mixture_profile(render.moffat_mixture(beta), radius)
    # The trapezoidal rule in steps of 0.6 errs by less than 2e-3 where there is light to speak of.
    np.testing.assert_allclose(made, moffat, rtol=2e-3)


@pytest.mark.parametrize("index", [1, 4])
def test_half_of_a_sersic_galaxy_lies_within_its_half_light_radius(index):
    radius = np.linspace(0, 60, 60001)
    light = render.mixture_profile(render.sersic_mixture(index), radius) * 2 * np.pi * radius * radius[1]
    # The profile is cut at 8 radii, which holds 97 % of the light at index 4: half moves by 0.02 or so.
    assert light[radius <= 1].sum() == pytest.approx(0.5, abs=0.03)


def test_a_star_keeps_its_flux_wherever_it_falls_between_pixels():
    image = np.zeros((301, 301), np.float32)
    mixture = render.moffat_mixture(3.5)
    at = np.array([150.37]), np.array([149.81])
    render.add_stars(image, *at, np.array([1e6]), round_psf(1, 4.0), mixture, faintest=1e-3)
    # What lies beyond the faintest level drawn is 1e-4 of the flux.
    assert image.sum() == pytest.approx(1e6, rel=5e-4)


def test_a_star_has_the_width_and_the_place_asked_for():
    image = np.zeros((101, 101), np.float32)
    mixture = render.moffat_mixture(3.5)
    at = np.array([50.25]), np.array([49.5])
    render.add_stars(image, *at, np.array([1.0]), round_psf(1, 8.0), mixture, faintest=1e-9)
    y, x = np.mgrid[:101, :101]
    above_half = (image > 0.5 * render.mixture_profile(mixture, np.zeros(1))[0] / 64).sum()
    # The area above half the peak is that of a circle of the FWHM, to the pixels on its rim.
    assert np.sqrt(above_half * 4 / np.pi) == pytest.approx(8.0, abs=0.2)
    assert (image * x).sum() / image.sum() == pytest.approx(50.25, abs=1e-3)
    assert (image * y).sum() / image.sum() == pytest.approx(49.5, abs=1e-3)


def test_a_stamp_is_what_add_stars_draws():
    image = np.zeros((61, 61), np.float32)
    mixture, shape = render.moffat_mixture(3.5), np.array([17.0, 14.0, 2.0])
    at = np.array([30.3]), np.array([29.6])
    render.add_stars(image, *at, np.array([1.0]), shape[None], mixture, faintest=1e-9)
    # float32 against float64
    np.testing.assert_allclose(image[20:41, 20:41], render.stamp(0.3, -0.4, shape, mixture, 10), atol=2e-7)


def test_a_tiny_galaxy_is_a_star():
    star, galaxy = np.zeros((2, 81, 81), np.float32)
    mixture, at = render.moffat_mixture(3.5), (np.array([40.2]), np.array([40.7]))
    render.add_stars(star, *at, np.array([1e4]), round_psf(1, 4.0), mixture, faintest=1e-4)
    dot = np.array([[1e-6, 1e-6, 0.0]])
    one = render.sersic_mixture(1)
    render.add_galaxies(galaxy, *at, np.array([1e4]), dot, one, round_psf(1, 4.0), mixture, 1e-4)
    # Pairs of components with less than 3e-5 of the light are left out.
    np.testing.assert_allclose(galaxy[30:51, 30:51], star[30:51, 30:51], rtol=2e-3, atol=1e-5 * star.max())


def test_a_galaxy_keeps_its_flux_when_the_psf_blurs_it():
    image = np.zeros((401, 401), np.float32)
    shape = np.array([[36.0, 16.0, 6.0]])
    at = np.array([200.2]), np.array([199.9])
    psf, disc = render.moffat_mixture(3.5), render.sersic_mixture(1)
    render.add_galaxies(image, *at, np.array([1e5]), shape, disc, round_psf(1, 4.0), psf, 1e-4)
    # Pairs of components with less than 3e-5 of the light are left out.
    assert image.sum() == pytest.approx(1e5, rel=3e-3)


def test_a_bright_star_has_no_visible_box():
    image = np.zeros((401, 401), np.float32)
    faintest = 0.5
    render.add_stars(
        image,
        np.array([200.0]),
        np.array([200.0]),
        np.array([1e7]),
        round_psf(1, 4.0),
        render.moffat_mixture(3.5),
        faintest,
    )
    drawn = np.flatnonzero(image[200])
    assert image[200, drawn[0]] <= faintest
    assert image[drawn[0], 200] <= faintest


def test_a_star_beyond_the_edge_shines_in_and_one_far_off_does_nothing():
    image = np.zeros((50, 50), np.float32)
    x, y = np.array([-5.0, 500.0]), np.array([25.0, 25.0])
    mixture = render.moffat_mixture(3.5)
    render.add_stars(image, x, y, np.array([1e6, 1e6]), round_psf(2, 4.0), mixture, 0.1)
    assert image[25, 0] > 1
    assert image[25, 49] == 0


def test_the_noise_area_is_that_of_the_pixels():
    mixture = render.moffat_mixture(3.5)
    pixels = render.stamp(0.0, 0.0, np.array([25.0, 25.0, 0.0]), mixture, 40)
    # Sampled at 5 px per FWHM, a sum is the integral to 1e-3.
    assert render.noise_area(mixture, 5.0) == pytest.approx(1 / (pixels**2).sum(), rel=2e-3)
