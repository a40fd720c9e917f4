"""The panel of chi against brightness in the report picture."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure

from gpudiff.edges.picture_quality import draw_chi
from gpudiff.model.qa import KERNEL_STAR
from gpudiff.model.tables import Table


@pytest.mark.parametrize("brightest", [60.0, 400.0, 1e5])
def test_labels_of_brightness_do_not_overlap(brightest: float) -> None:
    peak = np.geomspace(13, brightest, 12)
    columns = {column.name: np.ones(12) for column in KERNEL_STAR}
    stars = Table(KERNEL_STAR, columns | {"peak": peak})
    figure = Figure(figsize=(16, 17), dpi=100)
    axis = figure.add_axes((0.7, 0.4, 0.22, 0.18))  # as wide as in the report
    draw_chi(axis, stars, 1.0)
    figure.canvas.draw()
    labels = [tick for tick in axis.get_xticklabels(which="both") if tick.get_text()]
    boxes = sorted((tick.get_window_extent() for tick in labels), key=lambda box: box.x0)
    shown = [box for box in boxes if axis.bbox.x0 - 1 <= (box.x0 + box.x1) / 2 <= axis.bbox.x1 + 1]
    assert len(shown) >= 2
    assert all(left.x1 < right.x0 for left, right in pairwise(shown))
