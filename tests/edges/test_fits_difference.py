"""gpudiff.edges.fits_difference: the file that design and users' scripts rely on."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from gpudiff.edges.fits import read_frame
from gpudiff.edges.fits_difference import difference_file, primary_cards, write_difference
from gpudiff.model.errors import StoreFailed
from gpudiff.model.mask import DESCRIPTIONS, bit


@pytest.fixture(params=[".fits", ".fits.gz", ".fits.fz"])
def written(request, tmp_path, made_difference, made_sources):
    path = tmp_path / f"difference{request.param}"
    write_difference(path, made_difference, made_sources)
    with fits.open(path) as hdus:
        yield hdus


def test_every_plane_is_there_as_it_was(written, made_difference):
    for name in ("IMAGE", "VARIANCE", "MASK", "SCORE", "KERNEL", "PSF"):
        assert np.array_equal(written[name].data, getattr(made_difference, name.lower()), equal_nan=True)


def test_pixels_without_a_value_are_nan_and_have_no_data_set(written):
    empty = np.isnan(written["IMAGE"].data)
    assert written["MASK"].data.dtype.newbyteorder("=") == np.int32
    bits = written["MASK"].data >> written["MASK"].header["MP_NO_DATA"] & 1
    assert empty.any()
    assert np.array_equal(empty, bits == 1)


def test_the_primary_header_says_what_was_done_and_how_well(written):
    header = written[0].header
    assert (header["CONVOLVE"], header["DECORR"], header["ALGORITH"]) == ("TEMPLATE", True, "alard-lupton")
    assert (header["KSUM"], header["NOISERAT"], header["NUSED"]) == (1.02, 0.995, 33)
    assert (header["NSOURCES"], header["NFLAGGED"]) == (3, 1)
    assert header["FPRINT"] == "0123456789abcdef0123456789abcdef"
    assert "kernel order lowered to 1: 40 stars" in str(header["HISTORY"])


def test_no_comment_is_cut(made_difference, made_sources):
    room = 80 - len("KSUMVAR = 1.5926807083534363E-05 / ")  # beside the longest of usual numbers
    assert [c.keyword for c in primary_cards(made_difference, made_sources) if len(c.comment) > room] == []
    assert [name for name, said in DESCRIPTIONS.items() if len(f"HIERARCH MP_{name} = 11 / {said}") > 80] == []
    assert len(DESCRIPTIONS["EDGE"]) <= 80 - len("MP_EDGE =                    4 / ")


def test_the_quality_of_each_cell_and_star_is_a_table_with_units_and_meanings(written, made_difference):
    for name, table in (("QA", made_difference.cells), ("KERNEL_STARS", made_difference.stars)):
        for column in table.schema:
            np.testing.assert_array_equal(written[name].data[column.name], table[column.name])
    assert written["QA"].columns["scienceFwhm"].unit == "pixel"
    assert written["QA"].columns["background"].unit == made_difference.science.frame.unit
    assert written["QA"].header["TCOMM7"].startswith("std of difference over sigma")


def test_the_header_says_what_one_unit_of_flux_is(tmp_path, made_difference, made_sources):
    science = made_difference.science
    known = dataclasses.replace(science, frame=dataclasses.replace(science.frame, zero_point=31.4))
    write_difference(tmp_path / "d.fits", dataclasses.replace(made_difference, science=known), made_sources)
    assert fits.getheader(tmp_path / "d.fits")["FLUXNJY"] == pytest.approx(1, rel=2e-3)


def test_an_unknown_number_is_an_undefined_card(written):
    assert "CHI2HELD" in written[0].header
    assert written[0].header["CHI2HELD"] is None


def test_the_wcs_is_the_science_frame_s_to_the_last_digit(written, made_difference):
    for name in ("IMAGE", "VARIANCE", "MASK", "SCORE"):
        header = written[name].header
        assert {key: header[key] for key in made_difference.science.frame.wcs} == made_difference.science.frame.wcs
    assert WCS(written["IMAGE"].header).pixel_to_world_values(79.5, 59.5) == pytest.approx((150.0, 2.2))


def test_the_header_obeys_the_standard(written):
    for hdu in written:
        hdu.verify("exception")


def test_a_difference_reads_back_as_a_frame(tmp_path, made_difference, made_sources):
    write_difference(tmp_path / "d.fits", made_difference, made_sources)
    frame = read_frame(tmp_path / "d.fits")
    assert np.array_equal(frame.image, made_difference.image, equal_nan=True)
    assert (frame.mask & bit("SAT_TEMPLATE")).any()
    assert frame.observation.frame == made_difference.science.frame.observation.frame


def test_an_interrupted_write_leaves_neither_the_file_nor_a_part(
    tmp_path, made_difference, made_sources, monkeypatch
):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gpudiff.edges.fits.fits.HDUList.writeto", full)
    with pytest.raises(StoreFailed, match=r"d\.fits: cannot be written: No space left on device"):
        write_difference(tmp_path / "d.fits", made_difference, made_sources)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("notes", [(), ("a long note: " + "word " * 500,)])
def test_planes_that_went_ahead_make_the_same_file(tmp_path, made_difference, made_sources, notes):
    whole, ahead = tmp_path / "whole.fits", tmp_path / "ahead.fits"
    difference = dataclasses.replace(made_difference, notes=(*made_difference.notes, *notes))
    before = dataclasses.replace(made_difference, mask=np.zeros_like(difference.mask))
    write_difference(whole, difference, made_sources)
    with ThreadPoolExecutor(1) as beside, difference_file(ahead, before, beside) as write:
        write(difference, made_sources)
    assert ahead.read_bytes() == whole.read_bytes()


def test_nothing_is_left_of_a_file_whose_search_fails(tmp_path, made_difference):
    with (
        pytest.raises(ZeroDivisionError),
        ThreadPoolExecutor(1) as beside,
        difference_file(tmp_path / "d.fits", made_difference, beside),
    ):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_while_planes_go_ahead_is_told_by_the_file_s_name(
    made_difference, made_sources, monkeypatch, tmp_path
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gpudiff.edges.fits_ahead.Ahead.begin", full)
    with (
        pytest.raises(StoreFailed, match=r"d\.fits: cannot be written: No space left on device"),
        ThreadPoolExecutor(1) as beside,
        difference_file(tmp_path / "d.fits", made_difference, beside) as write,
    ):
        write(made_difference, made_sources)
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_not_ascii_are_written_with_question_marks(tmp_path, made_difference, made_sources):
    frame = dataclasses.replace(made_difference.science.frame, name="nuit/Étoile\n1.fits", unit="µJy")
    science = dataclasses.replace(made_difference.science, frame=frame)
    write_difference(tmp_path / "d.fits", dataclasses.replace(made_difference, science=science), made_sources)
    assert fits.getheader(tmp_path / "d.fits")["SCIENCE"] == "?toile?1.fits"
