"""gpudiff.science.brightness: moments of an object's fluxes, one detection at a time."""

import numpy as np
import pytest
from batches import a_sources

from gpudiff.model.photometry import Light
from gpudiff.model.tables import concatenate
from gpudiff.science.objects import new_objects, rebuild, update

FLUX = np.array([1000.0, 1300.0, 900.0, 1100.0])
ERROR = np.array([50.0, 20.0, 80.0, 40.0])


def seen(n: int):
    return a_sources(1, n + 1, psfFlux=FLUX[n], psfFluxErr=ERROR[n])


def light(band: str = "r", scale: float = 1.0) -> Light:
    return Light(np.array([band]), np.array([scale]))


def four(band: str = "r", scale: float = 1.0):
    made = new_objects(seen(0), 0.0, light(band, scale))
    for n in (1, 2, 3):
        made = update(made, seen(n), 0.0, light(band, scale))
    return made


def test_moments_are_those_of_all_the_fluxes():
    weight = ERROR**-2
    mean = np.sum(FLUX * weight) / weight.sum()
    expected = {
        "Mean": mean,
        "MeanErr": weight.sum() ** -0.5,
        "Sigma": FLUX.std(ddof=1),
        "Chi2": np.sum(weight * (FLUX - mean) ** 2),
        "Ndata": 4,
        "Min": 900.0,
        "Max": 1300.0,
        "ErrMean": ERROR.mean(),
        "PlainMean": FLUX.mean(),
    }
    made = four()
    for name, value in expected.items():
        assert made[f"r_psfFlux{name}"][0] == pytest.approx(value, rel=1e-5), name  # float32


def test_other_bands_stay_empty():
    made = four("r DECam")
    assert made["r_psfFluxNdata"].tolist() == [4]
    assert made["g_psfFluxNdata"].tolist() == [0]
    assert np.isnan(made["g_psfFluxMean"][0])
    assert np.isnan(made["g_psfFluxChi2"][0])


def test_a_second_band_leaves_the_first_alone():
    made = update(four("r"), seen(0), 0.0, light("g"))
    assert (made["r_psfFluxNdata"][0], made["g_psfFluxNdata"][0]) == (4, 1)
    assert made["g_psfFluxMean"][0] == 1000
    assert np.isnan(made["g_psfFluxSigma"][0])


def test_fluxes_are_in_nanojansky():
    assert four(scale=3.0)["r_psfFluxMax"][0] == 3900


def test_a_flux_without_an_error_counts_for_nothing():
    useless = a_sources(1, 9, psfFlux=1e9, psfFluxErr=np.nan)
    made = update(four(), useless, 0.0, light())
    assert (made["r_psfFluxNdata"][0], made["nDiaSources"][0]) == (4, 5)


def test_without_knowledge_of_the_light_there_are_no_moments():
    made = update(new_objects(seen(0), 0.0), seen(1), 0.0)
    assert sum(made[f"{band}_psfFluxNdata"][0] for band in "ugrizy") == 0


def test_a_withdrawn_detection_no_longer_counts():
    left = [seen(n) for n in (0, 1, 3)]
    made = rebuild(concatenate(left), np.ones(3, int), 0.0, Light(np.full(3, "r"), np.ones(3)))
    assert made["r_psfFluxMin"][0] == 1000
    assert made["r_psfFluxPlainMean"][0] == pytest.approx(FLUX[[0, 1, 3]].mean(), rel=1e-6)
