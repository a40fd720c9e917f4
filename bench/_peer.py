"""One subtraction of a simulated pair by a peer: `_peer.py NAME PAIR OUT.fits`, NAME one of PEERS.

Runs under a Python that has the peers, not under ours (bench/_peers.py says which).  Each gets what it asks
for: unusable pixels at the sky, or masked; ZOGY the true PSFs, noise and flux ratio.  The difference is written
in the science image's flux unit, NaN where the peer has no value.
"""

import json
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from scipy import ndimage


def read(pair: Path, name: str) -> np.ndarray:
    """A plane of the pair in native byte order."""
    plane = fits.getdata(pair / f"{name}.fits")
    return plane.astype(plane.dtype.newbyteorder("="))


def unusable(pair: Path, grown: int = 15) -> np.ndarray:
    """(H, W) bool: masked in either image, saturated stars grown by 15 px."""
    planes = [read(pair, f"mask_{name}") for name in ("sci", "ref")]
    saturated = ndimage.binary_dilation((planes[0] | planes[1]) & 2 > 0, iterations=grown)
    return saturated | (planes[0] > 0) | (planes[1] > 0)


def at_the_sky(pair: Path, name: str, bad: np.ndarray) -> str:
    """Write PAIR/masked_NAME.fits: the image with its unusable pixels at the sky; returns the path."""
    image = read(pair, name).astype(np.float64)
    image[bad] = np.median(image[~bad])
    path = pair / f"masked_{name}.fits"
    fits.writeto(path, image.astype(np.float32), overwrite=True)
    return str(path)


def sfft(pair: Path) -> np.ndarray:
    """SFFT, NumPy or the backend that SFFT_BACKEND names: 17 x 17 deltas of order 2, background too, sum free."""
    from sfft.CustomizedPacket import Customized_Packet

    bad, out = unusable(pair), pair / "sfft_raw.fits"
    Customized_Packet.CP(
        FITS_REF=str(pair / "ref.fits"),
        FITS_SCI=str(pair / "sci.fits"),
        FITS_mREF=at_the_sky(pair, "ref", bad),
        FITS_mSCI=at_the_sky(pair, "sci", bad),
        ForceConv="REF",
        GKerHW=8,
        FITS_DIFF=str(out),
        KerPolyOrder=2,
        BGPolyOrder=2,
        ConstPhotRatio=False,
        BACKEND_4SUBTRACT=os.environ.get("SFFT_BACKEND", "Numpy"),
        NUM_CPU_THREADS_4SUBTRACT=len(os.sched_getaffinity(0)),
        VERBOSE_LEVEL=0,
    )
    return fits.getdata(out)


def ois(pair: Path) -> np.ndarray:
    """Bramich's delta kernel of 11 x 11 px, constant in each cell of a 2 x 2 grid."""
    import ois as peer

    bad = unusable(pair)
    science, template = (np.ma.array(read(pair, name).astype(float), mask=bad) for name in ("sci", "ref"))
    given = {"kernelshape": (11, 11), "bkgdegree": 2, "method": "Bramich", "gridshape": (2, 2)}
    difference = peer.optimal_system(science, template, **given)[0]
    return np.where(bad | np.ma.getmaskarray(difference), np.nan, np.ma.getdata(difference))


def properimage(pair: Path) -> np.ndarray:
    """ProperImage with its defaults; its module tinynpydb, which no registry has, is a stand-in here.

    Its difference has a unit of its own: brought to the science image's flux by the transients of the truth
    table, a help that no user has.
    """
    sys.modules["tinynpydb"] = _store()
    from properimage.operations import subtract
    from properimage.single_image import SingleImage

    bad = unusable(pair)
    images = [SingleImage(np.ma.array(read(pair, name).astype(float), mask=bad)) for name in ("ref", "sci")]
    raw = np.real(np.ma.getdata(subtract(*images, align=False, beta=True, shift=False, fitted_psf=False)[0]))
    return np.where(bad, np.nan, raw * _scale(pair, raw))


def zogy(pair: Path) -> np.ndarray:
    """ZOGY as stdpipe has it, with the true PSFs and noise, scale and shift fitted, 2 x 2 sub-images."""
    from stdpipe.subtraction import run_zogy

    bad, meta = unusable(pair), json.loads((pair / "meta.json").read_text())
    science, template = (read(pair, name).astype(float) for name in ("sci", "ref"))
    noise = [np.sqrt(read(pair, f"var_{name}").astype(float)) for name in ("sci", "ref")]
    psfs = [_psfex(read(pair, f"psf_{name}"), meta[f"fwhm_{name}"]) for name in ("sci", "ref")]
    for image in (science, template):
        image[bad] = np.median(image[~bad])
    settings: dict[str, Any] = {"scale": meta["scale"], "nx": 2, "fit_scale": True, "fit_shift": True}
    planes = {"mask": bad, "template_mask": bad, "err": noise[0], "template_err": noise[1]}
    made = run_zogy(science, template, image_psf=psfs[0], template_psf=psfs[1], **planes, **settings)
    difference = made[0] if isinstance(made, tuple | list) else made
    return np.where(bad, np.nan, difference)


def _psfex(stack: np.ndarray, fwhm: float) -> dict[str, Any]:
    """A PSF of the form that stdpipe reads, constant: the one at the centre of the field."""
    shape = {"degree": 0, "x0": 0.0, "y0": 0.0, "sx": 1.0, "sy": 1.0, "sampling": 1.0, "fwhm": fwhm}
    return {**shape, "data": stack[4:5], "width": stack.shape[2], "height": stack.shape[1], "ncoeffs": 1}


def _store() -> types.ModuleType:
    """A module with the one class of tinynpydb that ProperImage uses: arrays by key."""
    module = types.ModuleType("tinynpydb")

    class NumPyDB:
        def __init__(self, *_: Any, **__: Any) -> None:
            self.arrays: dict[Any, np.ndarray] = {}

        def dump(self, array: np.ndarray, key: Any) -> None:
            self.arrays[key] = np.array(array)

        def load(self, key: Any) -> list[np.ndarray]:
            return [self.arrays[key]]

    module.NumPyDB = NumPyDB  # type: ignore[attr-defined]
    return module


def _scale(pair: Path, difference: np.ndarray) -> float:
    """True flux over the difference's, of the brighter transients in circles of 5 px."""
    from astropy.table import Table

    rows = Table.read(pair / "truth.csv")
    rows = rows[(rows["snr_ideal"] > 10) & np.isin(rows["kind"], ("field", "host", "nearstar"))]
    yy, xx = np.mgrid[-5:6, -5:6]
    disc = np.hypot(yy, xx) <= 5
    cut = [difference[round(r["y"]) - 5 : round(r["y"]) + 6, round(r["x"]) - 5 : round(r["x"]) + 6] for r in rows]
    seen = np.array([one[disc].sum() for one in cut])
    return float(np.median(rows["flux_adu"] / seen))


PEERS: dict[str, Callable[[Path], np.ndarray]] = {
    "sfft": sfft,
    "zogy": zogy,
    "ois": ois,
    "properimage": properimage,
}


def main() -> None:
    name, pair, out = sys.argv[1:4]
    fits.writeto(out, np.asarray(PEERS[name](Path(pair)), np.float32), overwrite=True)


if __name__ == "__main__":
    main()
