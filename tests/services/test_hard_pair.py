import numpy as np
import pytest

from gpudiff.edges.fits import read_frame
from gpudiff.edges.sources import read_table
from gpudiff.model.errors import StoreFailed
from gpudiff.model.hard_scene import SCENES, night_of_scene
from gpudiff.model.scene import TRUTH, Night
from gpudiff.services.hard_pair import simulate_pair


def simulated(name, folder):
    scene = SCENES[name]
    return simulate_pair(scene, night_of_scene(scene, Night(), 128), 128, folder)


def test_the_pair_on_disk_is_the_pair_returned(tmp_path):
    pair = simulated("own-grid", tmp_path / "new")
    for name in ("science", "template", "perfect"):
        back, meant = read_frame(tmp_path / "new" / f"{name}.fits"), getattr(pair, name)
        assert np.array_equal(back.image, meant.image)
        assert np.array_equal(back.mask, meant.mask)
        assert back.wcs == pytest.approx(meant.wcs)
    assert (read_table(tmp_path / "new" / "truth.ecsv", TRUTH)["flux"] == pair.truth["flux"]).all()


def test_without_a_mask_none_is_written(tmp_path):
    simulated("no-mask", tmp_path)
    assert read_frame(tmp_path / "science.fits").mask is None


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed, match="cannot be written"):
        simulated("standard", tmp_path / "file" / "pair")
