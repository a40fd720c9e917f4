"""gpudiff.services.template_builder: files of exposures to files of templates."""

import numpy as np
import pytest
from astropy.io import fits
from small_pair import HEADER as CARDS
from small_pair import NEW, SIZE, WCS, field, render, save

from gpudiff.edges.fits import read_frame
from gpudiff.edges.template_index import read_entry
from gpudiff.edges.templates import TemplateStore
from gpudiff.model.config import Configuration, Instrument, override
from gpudiff.model.errors import BadConfiguration, StoreFailed, UnreadableFile
from gpudiff.science.subtract import subtract
from gpudiff.services import template_builder
from gpudiff.services.template_builder import build, by_footprint, by_tile

HEADER = CARDS | {"FILTER": "r"}
SETTINGS = override(Configuration(), "match", threads=1)


def exposure(folder, number: int, shift: float = 0.0, **header):
    """An exposure whose middle lies `shift` pixels east."""
    cards = {**HEADER, **WCS, "CRVAL1": 150.0 + shift * 0.2 / 3600, "VISIT": number, **header}
    moved = [(x + shift, y, flux) for x, y, flux in field()]
    return save(folder / f"{number}.fits", render(moved, 4.0 / 2.355, number), cards)


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    folder = tmp_path_factory.mktemp("earlier")
    return [exposure(folder, number) for number in range(1, 5)]


@pytest.fixture(scope="module")
def built(four, tmp_path_factory):
    return build(four, tmp_path_factory.mktemp("built"), SETTINGS)


def entries(*paths):
    return [read_entry(path, Instrument()) for path in paths]


def members(plans) -> list[list[str]]:
    return [[entry.path.rsplit("/", 1)[-1] for entry in plan.members] for plan in plans]


def test_exposures_of_one_footprint_make_one_template(built):
    assert [path.name for path in built.templates] == ["r_003_150.0000+02.2000.fits"]
    assert built.refused == {}


def test_nothing_but_the_template_is_left(built):
    assert [path.name for path in built.templates[0].parent.iterdir()] == [built.templates[0].name]


def test_the_file_says_what_went_in(built, four):
    with fits.open(built.templates[0]) as hdus:
        assert hdus[0].header["NINPUTS"] == 4
        assert list(hdus["INPUTS"].data["name"]) == [path.name for path in four]
        assert list(hdus["INPUTS"].data["digest"]) == [read_frame(path).digest for path in four]
        assert hdus["COVERAGE"].data.max() == 4
        assert len(hdus[0].header["FINGERPR"]) == 32


def test_the_template_is_subtracted_as_any_other_is(built, tmp_path):
    science = read_frame(save(tmp_path / "new.fits", render([*field(), NEW], 4.5 / 2.355, 9), {**HEADER, **WCS}))
    template = TemplateStore(built.templates[0].parent).find(science)
    difference, sources = subtract(science, template, SETTINGS)
    (only,) = sources.take(~sources["flagged"]).rows()
    assert (only["x"], only["y"]) == (pytest.approx(NEW[0], abs=0.2), pytest.approx(NEW[1], abs=0.2))
    # 50,000 pixels, fewer of sky: 1.5 %
    assert difference.quality.score_std == pytest.approx(1, abs=0.05)


def test_exposures_that_overlap_a_little_are_added_and_get_their_own_template(tmp_path):
    found = entries(exposure(tmp_path, 1), exposure(tmp_path, 2, 150.0), exposure(tmp_path, 3, 5.0))
    assert members(by_footprint(found)) == [["1.fits", "2.fits", "3.fits"], ["2.fits", "1.fits", "3.fits"]]


def test_bands_are_kept_apart(tmp_path):
    found = entries(exposure(tmp_path, 1), exposure(tmp_path, 2, FILTER="g"))
    assert members(by_footprint(found)) == [["1.fits"], ["2.fits"]]


def test_exposures_without_a_wcs_go_by_detector(tmp_path):
    paths = [
        save(tmp_path / f"{n}.fits", render(field(), 1.7, n), {**HEADER, "VISIT": n, "DETECTOR": d})
        for n, d in ((1, 3), (2, 4), (3, 3))
    ]
    plans = list(by_footprint(entries(*paths)))
    assert members(plans) == [["1.fits", "3.fits"], ["2.fits"]]
    assert plans[0].name == "r_003_visit1"


def test_a_tile_holds_its_healpix_cell(four):
    from astropy_healpix.healpy import boundaries

    (plan, *_) = by_tile(entries(*four), 4096)
    corners = boundaries(4096, int(plan.name.rsplit("_", 1)[1]), nest=True)
    ra, dec = np.degrees(np.arctan2(corners[1], corners[0])), np.degrees(np.arcsin(corners[2]))
    wanted = template_builder.Sky(plan.wcs).to_pixels(ra, dec)
    assert np.min(wanted) > -0.5
    assert np.max(wanted) < plan.shape[0] - 0.5


def test_an_exposure_between_the_points_of_a_large_tile_is_on_it(four):
    plans = list(by_tile(entries(*four), 256))
    assert {number for names in members(plans) for number in names} == {f"{n}.fits" for n in range(1, 5)}


@pytest.mark.parametrize("nside", [-1, 3, 1, 1 << 29])
def test_a_tile_that_cannot_be_is_refused(four, nside):
    with pytest.raises(BadConfiguration, match="tiles: expected"):
        list(by_tile(entries(*four), nside))


def test_tiles_of_healpix_cells_are_built(four, tmp_path):
    made = build(four, tmp_path, SETTINGS, tiles=4096)
    assert made.templates
    for path in made.templates:
        assert path.name.startswith("r_nside4096_")
        assert read_frame(path).wcs["CD1_2"] == 0


def test_what_cannot_be_used_is_named_and_the_others_are(four, tmp_path):
    (tmp_path / "no.fits").write_text("not FITS")
    flat = save(tmp_path / "flat.fits", np.ones((SIZE, SIZE), np.float32), {**HEADER, **WCS, "VISIT": 8})
    broken = [tmp_path / "no.fits", tmp_path / "absent.fits", tmp_path]
    made = build([*four[:2], *broken, flat], tmp_path / "out", SETTINGS)
    assert len(made.templates) == 1
    assert list(made.refused) == [*map(str, broken), str(flat)]
    assert all(made.refused[str(path)].startswith("UnreadableFile") for path in broken)
    assert made.refused[str(flat)].startswith("ConstantImage")


def test_no_image_at_all_is_refused(tmp_path):
    with pytest.raises(UnreadableFile, match="expected exposures"):
        build([tmp_path / "absent.fits"], tmp_path, SETTINGS)


def test_progress_ends_at_its_total(four, tmp_path):
    moves = []
    build(four[:2], tmp_path, SETTINGS, progress=lambda done, total: moves.append((done, total)))
    assert moves == [(1, 3), (2, 3), (3, 3)]


def test_planes_wait_in_files_until_they_are_added(four, tmp_path, monkeypatch):
    seen = []

    def watched(layers, *rest):
        seen.extend(path.stat().st_size for path in sorted(tmp_path.glob(".building-*/*")))
        seen.extend(layer.exposure.image.flags.owndata for layer in layers)
        return coadd(layers, *rest)

    coadd = template_builder.coadd
    monkeypatch.setattr(template_builder, "coadd", watched)
    build(four[:2], tmp_path, SETTINGS)
    assert seen == [4 * SIZE**2, 2 * SIZE**2] * 2 + [False, False]


def test_a_folder_that_cannot_be_written_is_named_alone(four, tmp_path, monkeypatch):
    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", f"{path}/.building-x")

    monkeypatch.setattr(template_builder.tempfile, "TemporaryDirectory", lambda dir, prefix: refuse(dir))
    with pytest.raises(StoreFailed) as caught:
        build(four, tmp_path, SETTINGS)
    assert str(caught.value) == f"{tmp_path}: cannot be written: Permission denied"
