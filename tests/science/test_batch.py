"""gpudiff.science.batch: what a difference hands on."""

import dataclasses

import numpy as np
from batches import a_sources
from serving import SHAPE, a_difference, a_frame

from gpudiff.model.mask import bit
from gpudiff.science.batch import batch


def test_science_and_template_have_planes_of_their_own_where_they_are_asked_for():
    difference = a_difference(a_frame(), a_frame(2))
    sources = a_sources(2, x=9.0, y=9.0)
    assert batch(difference, sources, 5, 61000.0).own is None
    own = batch(difference, sources, 5, 61000.0, all_planes=True).own
    assert own.variance.shape == own.mask.shape == (2, 2, 5, 5)
    assert own.psf.shape == (2, *difference.science_psf.shape[1:])
    assert np.all(own.variance[:, 0] >= 1)  # the sky's, and photons


def test_beyond_the_image_there_is_no_data():
    difference = a_difference(a_frame(), a_frame(2))
    marked = dataclasses.replace(difference, mask=np.full(SHAPE, bit("STREAK"), np.int32))
    made = batch(marked, a_sources(1, x=0.0, y=9.0), 5, 61000.0)
    assert np.all(made.mask[0, :, :2] == bit("NO_DATA"))
    assert np.all(made.mask[0, :, 2:] == bit("STREAK"))
    assert np.isnan(made.variance[0, :, :2]).all()
    assert np.all(made.variance[0, :, 2:] == 2)
