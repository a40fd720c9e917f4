"""gpudiff.edges.template_index: what is known of templates without opening them."""

import os
import sqlite3

import pytest
from small_templates import frame

from gpudiff.edges import template_index
from gpudiff.edges.fits import write_frame
from gpudiff.edges.template_index import TemplateIndex
from gpudiff.edges.templates import footprint_of
from gpudiff.model.config import Instrument
from gpudiff.model.errors import StoreFailed, TryAgain


@pytest.fixture
def index(tmp_path):
    (tmp_path / "templates").mkdir()
    made = TemplateIndex(tmp_path / "templates", Instrument(), tmp_path / "index.sqlite")
    yield made
    made.close()


@pytest.fixture
def opened(monkeypatch):
    """Names of the files whose headers were read."""
    names: list[str] = []
    read = template_index.read_entry
    monkeypatch.setattr(template_index, "read_entry", lambda path, i: (names.append(path.name), read(path, i))[1])
    return names


def names(entries) -> list[str]:
    return [entry.path for entry in entries]


def test_an_index_that_is_kept_opens_no_file_again(index, tmp_path, opened):
    write_frame(index.folder / "a.fits", frame())
    assert index.refresh()
    again = TemplateIndex(index.folder, Instrument(), tmp_path / "index.sqlite")
    assert not again.refresh()
    assert names(again.near(footprint_of(frame()))) == ["a.fits"]
    assert opened == ["a.fits"]


def test_only_what_changed_is_read_again(index, opened):
    for name in ("a", "b"):
        write_frame(index.folder / f"{name}.fits", frame())
    index.refresh()
    os.utime(index.folder / "b.fits", ns=(1, 1))
    index.refresh()
    assert opened == ["a.fits", "b.fits", "b.fits"]


def test_a_file_that_is_gone_is_forgotten(index):
    write_frame(index.folder / "a.fits", frame())
    index.refresh()
    (index.folder / "a.fits").unlink()
    assert index.refresh()
    assert (len(index), index.near(footprint_of(frame()))) == (0, [])


def test_an_index_under_other_keywords_is_made_anew(index, tmp_path, opened):
    write_frame(index.folder / "a.fits", frame())
    index.refresh()
    TemplateIndex(index.folder, Instrument(band_key="COLOUR"), tmp_path / "index.sqlite").refresh()
    assert opened == ["a.fits", "a.fits"]


def test_templates_within_a_circle_come_nearest_first_and_in_its_band(index):
    for name, shift, band in (("far", 30, "r"), ("near", 5, "r"), ("other", 0, "g"), ("away", 30000, "r")):
        write_frame(index.folder / f"{name}.fits", frame(shift=shift, band=band))
    index.refresh()
    assert names(index.within(150.03, -30.0257, 0.01, "r")) == ["near.fits", "far.fits"]


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.999, 45.0), (120.0, 89.99), (0.0, -89.99)])
def test_templates_are_found_across_ra_0_and_at_the_poles(index, ra, dec):
    moved = frame()
    moved.wcs.update(CRVAL1=ra, CRVAL2=dec, CRPIX1=25.0, CRPIX2=20.0)
    write_frame(index.folder / "a.fits", moved)
    index.refresh()
    assert names(index.near(footprint_of(moved))) == ["a.fits"]
    assert names(index.within(ra, dec, 0.1, "r")) == ["a.fits"]


def test_a_digest_is_remembered_for_the_file_that_was_read(index):
    write_frame(index.folder / "a.fits", frame())
    index.refresh()
    index.learn(index.entry("a.fits"), "ab")
    assert index.entry("a.fits").content == "ab"
    os.utime(index.folder / "a.fits", ns=(1, 1))
    index.refresh()
    assert index.entry("a.fits").content == ""


def test_a_damaged_index_is_made_anew(index, tmp_path):
    write_frame(index.folder / "a.fits", frame())
    (tmp_path / "damaged.sqlite").write_text("something else altogether, and long enough" * 100)
    again = TemplateIndex(index.folder, Instrument(), tmp_path / "damaged.sqlite")
    assert again.refresh()
    assert len(again) == 1


def test_an_index_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(StoreFailed, match="index of templates"):
        TemplateIndex(tmp_path, Instrument(), tmp_path / "absent" / "index.sqlite")


def test_links_round_and_round_and_to_nothing_are_passed_over(index):
    write_frame(index.folder / "a.fits", frame())
    (index.folder / "here").symlink_to(".")
    (index.folder / "itself.fits").symlink_to("itself.fits")
    index.refresh()
    assert (len(index), index.unreadable()) == (1, {})


def test_a_name_that_is_no_text_is_told(index):
    (index.folder / os.fsdecode(b"\xe9.fits")).touch()
    index.refresh()
    assert [path.name for path in index.unreadable()] == ["\\udce9.fits"]


def test_an_index_that_another_program_holds_is_for_later(tmp_path, monkeypatch):
    monkeypatch.setattr(template_index, "WAIT_S", 0.0)
    index = TemplateIndex(tmp_path, Instrument(), tmp_path / "index.sqlite")
    write_frame(tmp_path / "a.fits", frame())
    other = sqlite3.connect(tmp_path / "index.sqlite", isolation_level=None)
    other.execute("begin exclusive")
    with pytest.raises(TryAgain, match="can be written: database is locked"):
        index.refresh()
    other.close()
    assert index.refresh()


def test_an_index_that_could_not_be_written_to_its_end_is_read_again(index):
    write_frame(index.folder / "a.fits", frame())
    index._lines.execute(
        "create temp trigger full before insert on template begin select raise(abort, 'full'); end"
    )
    with pytest.raises(sqlite3.DatabaseError, match="full"):
        index.refresh()
    index._lines.execute("drop trigger full")
    assert index.refresh()
