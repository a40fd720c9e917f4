"""A GPU that compares what it holds with what the host has."""

import numpy as np

from gpudiff.arrays.afar import Afar
from gpudiff.arrays.gpu import Gpu
from gpudiff.arrays.peaks import peaks


class Watched(Gpu):
    """A Gpu that compares what is held with the host's own, whenever it is used."""

    def _image(self, name, image, bad, flaws=None):
        made, marks = super()._image(name, image, bad, flaws)
        np.testing.assert_array_equal(self.launcher.download(made)[0], image)
        np.testing.assert_array_equal(self.launcher.download(marks)[0].view(bool), bad)
        return made, marks

    def refresh(self, name, image, flaws):
        super().refresh(name, image, flaws)
        if name in self._held:
            np.testing.assert_array_equal(self.launcher.download(self._held[name])[0], image)

    def peaks(self, image, threshold, name=""):
        found = super().peaks(image, threshold, name)
        np.testing.assert_array_equal(found, peaks(image, threshold))
        return found


def as_there(difference):
    """Whether what the host has of the planes, and wrote, is what lies on the device."""
    for plane in (difference.image, difference.variance, difference.score, difference.matched):
        if isinstance(plane, Afar) and plane._here is not None:
            np.testing.assert_array_equal(plane._here, plane.device.launcher.download(plane.there)[0])
    return True
