"""One sfft subtraction (NumPy backend) of a simulated pair: the peer of subtract_speed.py.

Runs under a Python that has sfft, not under ours: `_sfft.py PAIR OUT.fits`.  Unusable pixels of both images
are set to the sky before the fit, as sfft's customized packet asks; the kernel is 17 x 17 deltas of order 2,
the background of order 2, the kernel sum varies.
"""

import os
import sys

import numpy as np
from astropy.io import fits
from scipy import ndimage


def masked(pair: str, name: str, unusable: np.ndarray) -> str:
    """Write PAIR/masked_NAME.fits: the image with its unusable pixels at the sky; returns the path."""
    image = fits.getdata(f"{pair}/{name}.fits").astype(np.float64)
    image[unusable] = np.median(image[~unusable])
    path = f"{pair}/masked_{name}.fits"
    fits.writeto(path, image.astype(np.float32), overwrite=True)
    return path


def main() -> None:
    from sfft.CustomizedPacket import Customized_Packet

    pair, out = sys.argv[1:3]
    planes = [fits.getdata(f"{pair}/mask_{name}.fits") for name in ("sci", "ref")]
    saturated = ndimage.binary_dilation((planes[0] | planes[1]) & 2 > 0, iterations=15)
    unusable = saturated | (planes[0] > 0) | (planes[1] > 0)
    Customized_Packet.CP(
        FITS_REF=f"{pair}/ref.fits",
        FITS_SCI=f"{pair}/sci.fits",
        FITS_mREF=masked(pair, "ref", unusable),
        FITS_mSCI=masked(pair, "sci", unusable),
        ForceConv="REF",
        GKerHW=8,
        FITS_DIFF=out,
        KerPolyOrder=2,
        BGPolyOrder=2,
        ConstPhotRatio=False,
        BACKEND_4SUBTRACT="Numpy",
        NUM_CPU_THREADS_4SUBTRACT=len(os.sched_getaffinity(0)),
        VERBOSE_LEVEL=0,
    )


if __name__ == "__main__":
    main()
