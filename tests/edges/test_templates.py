"""gpudiff.edges.templates: the template that covers a frame."""

import dataclasses

import numpy as np
import pytest
from batches import WCS
from small_templates import frame

from gpudiff.edges.fits import write_frame
from gpudiff.edges.templates import TemplateStore, footprint_of
from gpudiff.model.errors import BadWcs, NoTemplate
from gpudiff.model.frame import Frame


def store(folder, **templates: Frame) -> TemplateStore:
    """A store of the named templates."""
    for name, template in templates.items():
        write_frame(folder / f"{name}.fits", template)
    return TemplateStore(folder)


def found(store: TemplateStore, frame: Frame) -> str:
    """The name of the template that the store picks."""
    return store.find(frame).name.split("/")[-1]


def test_the_template_that_covers_most_is_found(tmp_path):
    templates = store(tmp_path, a=frame(shift=30), b=frame(shift=5), c=frame(shift=5000))
    assert found(templates, frame()) == "b.fits"


def test_a_template_of_another_band_is_not_used(tmp_path):
    templates = store(tmp_path, a=frame(band="g"), b=frame(shift=20))
    assert found(templates, frame()) == "b.fits"


def test_the_same_band_wins_over_an_unknown_one(tmp_path):
    templates = store(tmp_path, a=frame(band=""), b=frame(shift=10))
    assert found(templates, frame()) == "b.fits"


def test_a_frame_of_unknown_band_takes_any(tmp_path):
    assert found(store(tmp_path, a=frame(band="g")), frame(band="")) == "a.fits"


def test_a_tie_goes_to_the_same_detector(tmp_path):
    templates = store(tmp_path, a=frame(detector=7), b=frame(detector=1))
    assert found(templates, frame(detector=1)) == "b.fits"


def test_a_tie_of_all_goes_to_the_first_name(tmp_path):
    assert found(store(tmp_path, b=frame(), a=frame()), frame()) == "a.fits"


def test_without_a_wcs_detector_and_shape_decide(tmp_path):
    templates = store(tmp_path, a=frame(detector=2), b=frame(shape=(41, 50)), c=frame())
    assert found(templates, frame(wcs=False)) == "c.fits"


def test_a_template_without_a_wcs_matches_by_detector(tmp_path):
    assert found(store(tmp_path, a=frame(wcs=False)), frame()) == "a.fits"


def test_what_was_looked_for_is_named_when_there_is_none(tmp_path):
    with pytest.raises(NoTemplate, match=r"ra 150\.03\d+, dec -30\.02\d+ in band r"):
        store(tmp_path, a=frame(band="g")).find(frame())


def test_the_opposite_sky_is_not_covered(tmp_path):
    far = dataclasses.replace(frame(), wcs={**WCS, "CRVAL1": 330.0, "CRVAL2": 30.0})
    with pytest.raises(NoTemplate):
        store(tmp_path, a=frame()).find(far)


def test_a_template_that_comes_later_is_found(tmp_path):
    templates = store(tmp_path)
    write_frame(tmp_path / "late.fits", frame())
    assert found(templates, frame()) == "late.fits"


def test_a_template_that_was_taken_away_leaves_its_frames_to_the_next_one(tmp_path):
    templates = store(tmp_path, a=frame(), b=frame(shift=5))
    (tmp_path / "a.fits").unlink()
    assert found(templates, frame()) == "b.fits"


def test_templates_in_subfolders_and_compressed_are_found(tmp_path):
    (tmp_path / "r").mkdir()
    write_frame(tmp_path / "r" / "a.fits.fz", frame())
    assert found(TemplateStore(tmp_path), frame()) == "a.fits.fz"


def test_a_file_that_is_no_image_is_left_out_by_name(tmp_path):
    (tmp_path / "notes.fits").write_text("not FITS")
    templates = store(tmp_path, a=frame())
    assert found(templates, frame()) == "a.fits"
    assert list(templates.unreadable) == [tmp_path / "notes.fits"]


def test_a_template_whose_wcs_is_none_is_left_out(tmp_path):
    bad = dataclasses.replace(frame(), wcs={**WCS, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--SIN"})
    templates = store(tmp_path, a=bad, b=frame())
    assert found(templates, frame()) == "b.fits"
    assert "BadWcs" in templates.unreadable[tmp_path / "a.fits"]


def test_loaded_templates_are_kept_within_the_bytes_given(tmp_path):
    store(tmp_path, a=frame(), b=frame(shift=1000))
    templates = TemplateStore(tmp_path, cache_bytes=40 * 50 * 4)
    first = templates.find(frame())
    assert templates.find(frame()) is first
    templates.find(frame(shift=1000))
    assert templates.find(frame()) is not first


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(NoTemplate, match="expected a folder"):
        TemplateStore(tmp_path / "absent")


@pytest.mark.real_data
def test_real_frames_find_the_stack_of_their_field(tmp_path, real_data):
    from gpudiff.edges.fits import read_frame

    stack = real_data / "decam_pair" / "4check__Stack-DEC-OBS18.fits"
    (tmp_path / "stack.fits").symlink_to(stack)
    science = read_frame(real_data / "decam_pair" / "input_data__DEC-OBS04a.mini.fits")
    assert found(TemplateStore(tmp_path), science) == "stack.fits"


def test_pixels_are_mapped_and_shared_with_the_file(tmp_path):
    made = dataclasses.replace(
        frame(), mask=np.ones((40, 50), np.int32), variance=np.full((40, 50), 2, np.float32)
    )
    found = store(tmp_path, a=made).find(frame())
    for plane in (found.image, found.mask, found.variance):
        assert isinstance(plane, np.memmap)
        assert not plane.flags.writeable
    np.testing.assert_array_equal(found.mask, made.mask)


def test_a_mapped_template_has_the_digest_of_one_that_was_read(tmp_path):
    from gpudiff.edges.fits import read_frame

    made = dataclasses.replace(frame(), mask=np.ones((40, 50), np.int32))
    templates = store(tmp_path, a=made)
    assert templates.find(frame()).digest == read_frame(tmp_path / "a.fits").digest


def test_a_template_in_the_index_is_found_with_its_digest_without_reading_its_pixels(tmp_path, monkeypatch):
    folder = tmp_path / "templates"
    folder.mkdir()
    write_frame(folder / "a.fits", frame())
    first = TemplateStore(folder, index=tmp_path / "index.sqlite").find(frame())
    monkeypatch.setattr("gpudiff.edges.fits.with_digest", None)
    assert TemplateStore(folder, index=tmp_path / "index.sqlite").find(frame()).digest == first.digest


def test_a_template_that_was_replaced_is_loaded_anew(tmp_path):
    templates = store(tmp_path, a=frame())
    old = templates.find(frame())
    write_frame(tmp_path / "a.fits", dataclasses.replace(frame(), image=np.full((40, 50), 7, np.float32)))
    new = templates.find(frame())
    assert (new.image[0, 0], old.image[0, 0]) == (7, 1)
    assert new.digest != old.digest


@pytest.mark.parametrize("suffix", ["fits.fz", "fits.gz"])
def test_compressed_templates_are_read_into_memory(tmp_path, suffix):
    write_frame(tmp_path / f"a.{suffix}", frame())
    assert not isinstance(TemplateStore(tmp_path).find(frame()).image, np.memmap)


def test_a_wcs_that_is_none_is_refused_by_the_frames_name():
    odd = dataclasses.replace(frame(), name="frame 7/0/4", wcs={"CRVAL1": "x"})
    with pytest.raises(BadWcs, match="frame 7/0/4: expected a FITS WCS, got CRVAL1"):
        footprint_of(odd)
