"""gpudiff.edges.fits: what a file says becomes a Frame, and what it does not say stays unsaid."""

import bz2
import dataclasses
import gzip
import lzma
import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from headers import tangent

from gpudiff.edges.fits import read_frame, write_frame
from gpudiff.edges.template_index import read_entry
from gpudiff.model.config import Instrument
from gpudiff.model.errors import (
    BadConfiguration,
    BadGain,
    GpudiffError,
    NotAnImage,
    StoreFailed,
    UnreadableFile,
    WrongShape,
)
from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.model.mask import bit
from gpudiff.model.provenance import frame_digest
from gpudiff.model.sky import Sky

SKY = tangent(316.83664572740003, -65.9, 32, 24.5)


def pixels(dtype="f4"):
    return np.random.default_rng(3).normal(1000, 30, (48, 64)).astype(dtype)


def whole_frame(**changes) -> Frame:
    observation = Observation(FrameId(7, 1, 3), "r", 60000.123456789, 60000.2, 60000.3, 30.0, 10.1, -20.0, 5.0)
    frame = Frame(
        name="made",
        observation=observation,
        image=pixels(),
        mask=np.where(pixels() > 1060, bit("SAT", "STREAK"), np.int32(0)),
        variance=np.full((48, 64), 900, np.float32),
        gain=1.5000000000000002e-05,
        read_noise=5.0,
        saturation=60000.0,
        wcs=SKY,
        psf=np.ones((4, 9, 9), np.float32) / 81,
        unit="nJy",
        zero_point=31.4,
    )
    return dataclasses.replace(frame, **changes)


def overwrite(path, start: bytes, card: str, after: int = 0) -> None:
    """Put a card in the place of the first that starts so."""
    data = path.read_bytes()
    at = data.index(start, after)
    path.write_bytes(data[:at] + card.ljust(80).encode() + data[at + 80 :])


def save(path, array, **cards):
    fits.writeto(path, array, fits.Header(cards))
    return path


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz", ".fits.fz"])
def test_a_written_frame_is_read_back_equal(tmp_path, suffix):
    frame = whole_frame()
    write_frame(tmp_path / f"frame{suffix}", frame)
    back = read_frame(tmp_path / f"frame{suffix}")
    for plane in ("image", "mask", "variance", "psf"):
        assert np.array_equal(getattr(back, plane), getattr(frame, plane))
        assert getattr(back, plane).dtype == getattr(frame, plane).dtype
    said = ("observation", "gain", "read_noise", "saturation", "wcs", "unit", "zero_point")
    assert [getattr(back, key) for key in said] == [getattr(frame, key) for key in said]
    assert back.digest == frame_digest(frame)


def test_a_frame_of_which_nothing_is_known_is_read_back_equal(tmp_path):
    frame = Frame("made", Observation(FrameId(0, 0, 0)), pixels("u2"))
    write_frame(tmp_path / "bare.fits", frame)
    back = read_frame(tmp_path / "bare.fits")
    assert back.image.dtype == np.uint16
    assert (back.mask, back.variance, back.psf, back.gain, back.wcs) == (None, None, None, None, {})
    assert np.isnan(back.observation.mjd_start_tai)
    assert back.digest == frame_digest(frame)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", ">f4", "f8"])
def test_other_pixel_types_become_native_float32(tmp_path, dtype):
    array = np.arange(48 * 64).reshape(48, 64).astype(dtype)
    image = read_frame(save(tmp_path / "a.fits", array)).image
    assert image.dtype == np.dtype("=f4")
    assert np.array_equal(image, array.astype("f4"))


@pytest.mark.parametrize("kind", [fits.ImageHDU, fits.CompImageHDU])
def test_blank_pixels_of_unsigned_integers_have_no_value(tmp_path, kind):
    hdu = kind(np.arange(64 * 48, dtype="u2").reshape(48, 64))
    hdu.header["BLANK"] = 7 - 32768
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits")
    assert np.flatnonzero(np.isnan(read_frame(tmp_path / "a.fits").image)).tolist() == [7]


def test_a_tile_compressed_file_is_read(tmp_path):
    array = pixels("i4")
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(array)]).writeto(tmp_path / "a.fits.fz")
    assert np.array_equal(read_frame(tmp_path / "a.fits.fz").image, array)


@pytest.mark.parametrize("names", [("IMAGE", "MASK", "VARIANCE"), ("sci", "dq", "var")])
def test_planes_are_found_by_name_in_any_order(tmp_path, names):
    image, mask, variance = (
        fits.ImageHDU(array, name=name)
        for array, name in zip((pixels(), pixels("i4"), pixels() ** 2), names, strict=True)
    )
    fits.HDUList([fits.PrimaryHDU(), variance, mask, image]).writeto(tmp_path / "a.fits")
    frame = read_frame(tmp_path / "a.fits")
    assert np.array_equal(frame.image, pixels())
    assert np.array_equal(frame.variance, pixels() ** 2)
    assert (frame.mask == bit("BAD")).all()  # no MP_* cards: any non-zero pixel is bad


def test_a_file_of_another_kind_is_refused_by_how_it_begins(tmp_path):
    (tmp_path / "a.fits").write_text("hello, world")
    with pytest.raises(UnreadableFile, match="expected a whole FITS file, got one that begins with b'hello, w'"):
        read_frame(tmp_path / "a.fits")


@pytest.mark.parametrize("packer", [bz2, lzma])
def test_a_file_packed_by_bzip2_or_xz_is_read(tmp_path, packer):
    fits.writeto(tmp_path / "a.fits", pixels())
    (tmp_path / "a.fits.packed").write_bytes(packer.compress((tmp_path / "a.fits").read_bytes()))
    assert np.array_equal(read_frame(tmp_path / "a.fits.packed").image, pixels())


def test_standard_errors_are_squared(tmp_path):
    image, error = fits.ImageHDU(pixels(), name="SCI"), fits.ImageHDU(pixels() + 2, name="ERR")
    fits.HDUList([fits.PrimaryHDU(), error, image]).writeto(tmp_path / "a.fits")
    frame = read_frame(tmp_path / "a.fits")
    assert np.array_equal(frame.image, pixels())
    assert np.array_equal(frame.variance, (pixels() + 2) ** 2)


def test_mask_bits_are_translated_by_the_names_in_the_header(tmp_path):
    mask = fits.ImageHDU(np.array([[0, 1, 2, 4]], np.uint8), name="MASK")
    mask.header["MP_CR"], mask.header["MP_SAT"], mask.header["MP_OTHER"] = 0, 1, 2
    image = fits.ImageHDU(np.zeros((1, 4), "f4"), name="IMAGE")
    fits.HDUList([fits.PrimaryHDU(), image, mask]).writeto(tmp_path / "a.fits")
    assert read_frame(tmp_path / "a.fits").mask.tolist() == [[0, bit("CR"), bit("SAT"), 0]]


def test_planes_may_lie_in_files_of_their_own(tmp_path):
    path = save(tmp_path / "a.fits", pixels())
    mask = save(tmp_path / "m.fits", np.eye(48, 64, dtype="i2"))
    variance = save(tmp_path / "v.fits", np.ones((48, 64)))
    psf = save(tmp_path / "p.fits", np.ones((9, 5, 5)))
    frame = read_frame(path, mask=mask, variance=variance, psf=psf)
    assert (frame.mask != 0).sum() == 48
    assert frame.variance.dtype == np.float32
    assert frame.psf.shape == (9, 5, 5)


def test_a_mask_of_another_shape_is_refused(tmp_path):
    path, mask = save(tmp_path / "a.fits", pixels()), save(tmp_path / "m.fits", np.ones((48, 63), "i2"))
    with pytest.raises(WrongShape, match=r"a\.fits: mask is \(48, 63\), expected the image's \(48, 64\)"):
        read_frame(path, mask=mask)


def test_keywords_are_looked_up_in_the_image_and_then_in_the_primary_header(tmp_path):
    primary, image = fits.PrimaryHDU(), fits.ImageHDU(pixels(), name="IMAGE")
    primary.header.update(GAIN=2.0, VISIT=12, FILTER="i DECam SDSS c0003")
    image.header.update(GAIN=3.0, DETECTOR="S3-177", CCDNUM=37)
    fits.HDUList([primary, image]).writeto(tmp_path / "a.fits")
    frame = read_frame(tmp_path / "a.fits")
    assert frame.gain == 3.0
    assert frame.observation.frame == FrameId(12, 0, 37)
    assert frame.observation.band == "i"


def test_numbers_of_the_instrument_win_over_the_header(tmp_path):
    path = save(tmp_path / "a.fits", pixels(), GAIN=2.0, RDNOISE=5.0, SATURATE=6e4)
    frame = read_frame(path, Instrument(gain=4.0, read_noise=0.0, saturation=1e5), visit=9, detector=8)
    assert (frame.gain, frame.read_noise, frame.saturation) == (4.0, 0.0, 1e5)
    assert frame.observation.frame == FrameId(9, 0, 8)


def test_keywords_of_the_instrument_replace_the_usual_ones(tmp_path):
    path = save(tmp_path / "a.fits", pixels(), GAIN=2.0, GAINA=3.0)
    assert read_frame(path, Instrument(gain_key="GAINA")).gain == 3.0


def test_an_absurd_gain_is_refused_with_its_key_and_the_way_out(tmp_path):
    with pytest.raises(BadGain, match=r"a\.fits: gain: expected .*, got GAIN 10000000\.0; --gain, or gain under"):
        read_frame(save(tmp_path / "a.fits", pixels(), GAIN=1e7))


def test_a_gain_that_cannot_be_is_refused_in_the_configuration(tmp_path):
    with pytest.raises(BadGain, match=r"gain: expected .*, got \[instrument\] -1"):
        read_frame(save(tmp_path / "a.fits", pixels(), GAIN=2.0), Instrument(gain=-1.0))


UNKNOWN = [("GAIN", 0), ("GAIN", -1.5), ("GAIN", "n/a"), ("RDNOISE", -1), ("SATURATE", "NaN")]


@pytest.mark.parametrize("card", UNKNOWN)
def test_header_values_that_stand_for_unknown_are_taken_as_not_given_and_said(tmp_path, card):
    frame = read_frame(save(tmp_path / "a.fits", pixels(), **dict([card])))
    assert (frame.gain, frame.read_noise, frame.saturation) == (None, None, None)
    assert frame.notes[0].startswith(f"{card[0]} = {card[1]!r} is no ")
    assert "under [instrument], says it" in frame.notes[0]


@pytest.mark.parametrize("value", ["NaN", "1,6", "-Infinity"])
def test_a_value_that_fits_has_not_is_taken_as_not_given_and_said(tmp_path, value):
    path = save(tmp_path / "a.fits", pixels(), GAIN=2.0)
    overwrite(path, b"GAIN    =", f"GAIN    = {value:>20}")
    frame = read_frame(path)
    assert frame.gain is None
    assert frame.notes[0].startswith(f"GAIN = '{value}' is no gain")


def test_the_electronic_gain_outdoes_a_setting_that_is_called_gain(tmp_path):
    assert read_frame(save(tmp_path / "a.fits", pixels(), GAIN=120, EGAIN=0.25)).gain == 0.25


@pytest.mark.parametrize(("other", "said"), [(4.0, ["no GAIN but GAIN1 1, GAIN2 4"]), (1.05, [])])
def test_amplifiers_of_unlike_gain_are_named(tmp_path, other, said):
    notes = read_frame(save(tmp_path / "a.fits", pixels(), GAIN1=1.0, GAIN2=other)).notes
    assert [note.split(":")[0] for note in notes] == said


@pytest.mark.parametrize("date", [1e300, 2451142.5])
def test_a_date_that_is_no_mjd_is_unknown(tmp_path, date):
    path = save(tmp_path / "a.fits", pixels(), **{"MJD-OBS": date, "EXPTIME": 60.0})
    assert np.isnan(read_frame(path).observation.mjd_start_tai)


@pytest.mark.filterwarnings("error")
def test_the_date_of_a_photographic_plate_is_taken_without_a_warning(tmp_path):
    path = save(tmp_path / "a.fits", pixels(), **{"DATE-OBS": "1951-03-02T05:00:00"})
    # no leap seconds were counted then
    assert read_frame(path).observation.mjd_start_tai == pytest.approx(33707 + 5 / 24, abs=1e-3)


@pytest.mark.parametrize("date", ["25/11/98", "1998-11-25", "1998/11/25"])
def test_a_date_alone_has_the_time_beside_it(tmp_path, date):
    path = save(tmp_path / "a.fits", pixels(), **{"DATE-OBS": date, "UT": "05:12:33.5", "TIMESYS": "TAI"})
    # MJD 51142 is 1998-11-25; a double holds an MJD to a microsecond
    assert read_frame(path).observation.mjd_start_tai == pytest.approx(51142 + 18753.5 / 86400, abs=1e-10)


@pytest.mark.parametrize(
    ("scale", "seconds"), [("TAI", 0), ("TT", -32.184), ("TDB", -32.184), ("GPS", 19), ("UTC", 37), (None, 37)]
)
def test_times_of_every_scale_become_tai(tmp_path, scale, seconds):
    cards = {"TIMESYS": scale} if scale else {}
    path = save(
        tmp_path / "a.fits", pixels(), **{"DATE-OBS": "2020-01-01", "DATE-END": "2020-01-02T00:00:00", **cards}
    )
    o = read_frame(path).observation
    # MJD 58849; a double holds an MJD to a microsecond
    assert (o.mjd_start_tai, o.mjd_end_tai) == pytest.approx(
        (58849 + seconds / 86400, 58850 + seconds / 86400), abs=1e-10
    )


def test_a_date_with_a_z_is_utc_whatever_the_scale(tmp_path):
    """As TESS has it."""
    path = save(tmp_path / "a.fits", pixels(), **{"DATE-OBS": "2020-01-01T00:00:00Z", "TIMESYS": "TDB"})
    assert read_frame(path).observation.mjd_start_tai == pytest.approx(58849 + 37 / 86400, abs=1e-10)


def test_an_exposure_time_as_text_is_a_number(tmp_path):
    """As SDSS has it."""
    path = save(tmp_path / "a.fits", pixels(), **{"MJD-OBS": 52000.0, "EXPTIME": "53.9", "TIMESYS": "TAI"})
    assert read_frame(path).observation.mjd_end_tai == pytest.approx(52000 + 53.9 / 86400, abs=1e-10)


@pytest.mark.parametrize(
    ("cards", "zero_point"),
    [
        ({"BUNIT": "MJy/sr", "PIXAR_SR": 9.31e-14}, 26.4777),  # 93.1 nJy
        ({"BUNIT": "ELECTRONS/S", "PHOTFLAM": 1.5e-19, "PHOTPLAM": 8030.0}, 25.1285),  # ACS F814W: 25.13
        ({"BUNIT": "ELECTRONS", "PHOTFLAM": 1.5e-19, "PHOTPLAM": 8030.0}, None),
        ({"BUNIT": "MJy/sr"}, None),
    ],
)
def test_space_telescopes_give_a_zero_point_in_their_own_way(tmp_path, cards, zero_point):
    got = read_frame(save(tmp_path / "a.fits", pixels(), **cards)).zero_point
    assert got == (zero_point and pytest.approx(zero_point, abs=1e-3))


@pytest.mark.parametrize("date", ["1998-11-25", "1998-11-25T05:30:00", "1998-11-25 05:30:00"])
def test_hours_beside_a_date_are_the_time_where_it_has_none(tmp_path, date):
    path = save(tmp_path / "a.fits", pixels(), **{"DATE-OBS": date, "UT": 5.5, "TIMESYS": "TAI"})
    assert read_frame(path).observation.mjd_start_tai == pytest.approx(51142 + 5.5 / 24, abs=1e-10)


@pytest.mark.parametrize("time", [50000, 50000.0, 24.0, -1.0, "051233"])
def test_a_number_beside_a_date_that_is_no_hour_is_no_time(tmp_path, time):
    path = save(tmp_path / "a.fits", pixels(), **{"DATE-OBS": "1998-11-25", "UT": time, "TIMESYS": "TAI"})
    assert read_frame(path).observation.mjd_start_tai == 51142


def test_a_time_zone_behind_a_date_is_counted(tmp_path):
    here = save(tmp_path / "a.fits", pixels(), **{"DATE-OBS": "2024-01-01T01:00:00+02:00"})
    there = save(tmp_path / "b.fits", pixels(), **{"DATE-OBS": "2023-12-31T23:00:00"})
    assert read_frame(here).observation.mjd_start_tai == read_frame(there).observation.mjd_start_tai


def test_an_end_before_the_start_is_none(tmp_path):
    cards = {"DATE-OBS": "2024-01-01T12:00:00", "DATE-END": "2024-01-01", "EXPTIME": 86.4}
    seen = read_frame(save(tmp_path / "a.fits", pixels(), **cards)).observation
    # doubles of an MJD are a microsecond apart
    assert seen.mjd_end_tai - seen.mjd_start_tai == pytest.approx(0.001, abs=1e-10)


@pytest.mark.filterwarnings("error")
def test_pixels_beyond_float32_are_infinite(tmp_path):
    image = read_frame(save(tmp_path / "a.fits", pixels("f8") * 1e40)).image
    assert np.isposinf(image).all()


def test_utc_dates_become_tai(tmp_path):
    path = save(tmp_path / "a.fits", pixels(), **{"DATE-OBS": "2015-12-27T06:26:24", "EXPTIME": 60.0})
    observation = read_frame(path).observation
    # 36 leap seconds in 2015: 06:27:00 TAI; a double holds an MJD to a microsecond
    assert observation.mjd_start_tai == pytest.approx(57383.26875, abs=1e-10)
    assert (observation.mjd_end_tai - observation.mjd_start_tai) * 86400 == pytest.approx(60, abs=1e-5)


def test_tai_times_are_taken_as_they_are(tmp_path):
    path = save(tmp_path / "a.fits", pixels(), **{"TIMESYS": "TAI", "MJD-BEG": 60000.25, "MJD-END": 60000.5})
    observation = read_frame(path).observation
    assert (observation.mjd_start_tai, observation.mjd_end_tai) == (60000.25, 60000.5)


def test_only_celestial_wcs_keywords_are_kept(tmp_path):
    path = save(tmp_path / "a.fits", pixels(), **SKY, PV1_10=-2.5e-4, A_2_0=1e-6, OBJECT="x", CTYPE1A="LINEAR")
    assert set(read_frame(path).wcs) == {*SKY, "PV1_10", "A_2_0"}


@pytest.mark.parametrize("card", [{"CTYPE1": 5}, {"CTYPE2": "DEC--SIN"}, {"CUNIT1": "parsec"}])
def test_a_wcs_that_is_none_is_left_out_with_a_note(tmp_path, card):
    frame = read_frame(save(tmp_path / "a.fits", pixels(), **(SKY | card)))
    assert frame.wcs == {}
    assert "no sky positions: expected a FITS WCS, got" in "; ".join(frame.notes)


@pytest.mark.parametrize("card", [("NAXIS", 9999999999999), ("GCOUNT", -1), ("PCOUNT", -2880), ("NAXIS1", -64)])
def test_counts_that_would_keep_a_reader_busy_for_ever_are_refused(tmp_path, card):
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels())]).writeto(tmp_path / "a.fits")
    overwrite(tmp_path / "a.fits", card[0].encode().ljust(8), f"{card[0]:8}= {card[1]:>20}", 2880)
    with pytest.raises(UnreadableFile, match=f"{card[0]}: expected .* got {card[1]}"):
        read_frame(tmp_path / "a.fits")


@pytest.mark.parametrize("seed", range(40))
def test_a_file_with_damaged_bytes_is_read_or_refused_in_one_line(tmp_path, seed):
    rng = np.random.default_rng(seed)
    hdu = fits.CompImageHDU(pixels(), header=fits.Header(SKY | {"GAIN": 1.5}))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "a.fits")
    data = bytearray((tmp_path / "a.fits").read_bytes())
    for place in rng.integers(0, 8640, 10):
        data[place] = rng.choice(list(b"0123456789-.'TFE /=\x00\xff"))
    (tmp_path / "a.fits").write_bytes(data)
    assert said_of(tmp_path / "a.fits").count("\n") == 0


def said_of(path) -> str:
    """The error's line, or "read"; any other kind of error is a failure."""
    try:
        read_frame(path)
    except GpudiffError as error:
        return str(error)
    return "read"


def test_a_visit_that_no_source_id_can_hold_is_refused(tmp_path):
    path = save(tmp_path / "a.fits", pixels())
    with pytest.raises(BadConfiguration, match=r"2\*\*39"):
        read_frame(path, visit=1 << 39)


@pytest.mark.parametrize("card", [{"DETECTOR": 300}, {"OBSID": 20261130035112}, {"EXPID": 10**30}])
def test_a_template_may_have_numbers_that_no_source_id_can_hold(tmp_path, card):
    assert read_frame(save(tmp_path / "a.fits", pixels(), **card)).image.shape == (48, 64)


def test_pixels_stored_as_the_asinh_of_light_become_light(tmp_path):
    """As in Pan-STARRS's stacks: LINEAR = 2 * BSOFTEN * sinh(TRUE/a), UNCOMP = BOFFSET + LINEAR."""
    light = np.array([[-30.0, 7.0, 5e4]])
    stored = 2.5 / np.log(10) * np.arcsinh((light - 7) / (2 * 222))
    path = save(tmp_path / "a.fits", stored.astype("f4"), BSOFTEN=222.0, BOFFSET=7.0)
    np.testing.assert_allclose(read_frame(path).image, light, rtol=1e-5)  # float32 of numbers up to 6


def test_a_matrix_in_the_keywords_of_old_is_read(tmp_path):
    old = {"CDELT1": 5e-5, "CDELT2": 5e-5, "PC001001": -1.0, "PC001002": 0.0, "PC002001": 0.0, "PC002002": 1.0}
    plain = {key: value for key, value in SKY.items() if not key.startswith(("CD", "PC"))}
    wcs = read_frame(save(tmp_path / "a.fits", pixels(), **(plain | old))).wcs
    assert (wcs["PC1_1"], wcs["PC2_2"]) == (-1.0, 1.0)
    assert Sky(wcs).jacobian(np.zeros(1), np.zeros(1))[0, 0, 0] < 0


def test_a_degenerate_third_axis_is_dropped(tmp_path):
    assert read_frame(save(tmp_path / "a.fits", pixels()[None])).image.shape == (48, 64)


def a_table(path):
    events = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=np.ones(3))], name="EVENTS")
    fits.HDUList([fits.PrimaryHDU(), events]).writeto(path)


@pytest.mark.parametrize(
    ("write", "error", "said"),
    [
        (lambda path: save(path, np.stack([pixels()] * 3)), NotAnImage, r"2-D image, found a cube of .*3, 48, 64"),
        (a_table, NotAnImage, r"only tables \(EVENTS\)"),
        (lambda path: fits.PrimaryHDU().writeto(path), NotAnImage, "no HDU with pixels"),
        (os.mkfifo, UnreadableFile, "got a directory, a pipe or a device"),
        (os.mkdir, UnreadableFile, "got a directory, a pipe or a device"),
        (lambda path: None, UnreadableFile, "found no file"),
        (lambda path: path.write_text("not FITS\n" * 500), UnreadableFile, "expected a whole FITS file"),
    ],
    ids=["cube", "table", "no pixels", "pipe, which is not waited for", "folder", "absent", "text"],
)
def test_what_is_no_image_is_refused_by_name(tmp_path, write, error, said):
    write(tmp_path / "a.fits")
    with pytest.raises(error, match=rf"a\.fits.*{said}"):
        read_frame(tmp_path / "a.fits")


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.5, 0.9, 0.94])
@pytest.mark.parametrize("suffix", [".fits", ".fits.gz", ".fits.fz"])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, keep, suffix):
    path = tmp_path / f"a{suffix}"
    write_frame(path, whole_frame(psf=None))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(UnreadableFile) as caught:
        read_frame(path)
    assert "\n" not in str(caught.value)


def test_a_missing_padding_of_the_last_block_is_forgiven(tmp_path):
    path = save(tmp_path / "a.fits", pixels())
    path.write_bytes(path.read_bytes()[: 2880 + 48 * 64 * 4])
    assert np.array_equal(read_frame(path).image, pixels())


@pytest.mark.parametrize("card", ["NAXIS1  = 64.0", "NAXIS1  = 'abc'", "NAXIS1  ="])
def test_a_damaged_line_of_a_header_is_said_in_the_user_s_words(tmp_path, card):
    path = save(tmp_path / "a.fits", pixels())
    overwrite(path, b"NAXIS1  =", card)
    with pytest.raises(UnreadableFile, match="a damaged line in a header"):
        read_frame(path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_what_follows_the_last_hdu_is_passed_over(tmp_path, pack):
    path = save(tmp_path / "a.fits", pixels())
    path.write_bytes(pack(path.read_bytes() + b"END\0".ljust(2880)))
    assert np.array_equal(read_frame(path).image, pixels())
    assert read_entry(path, Instrument()).shape == (48, 64)


def test_gzip_is_recognised_by_content(tmp_path):
    path = save(tmp_path / "a.fits", pixels())
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert np.array_equal(read_frame(path).image, pixels())


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(StoreFailed, match=r"nowhere/a\.fits: cannot be written: No such file"):
        write_frame(tmp_path / "nowhere" / "a.fits", whole_frame())


def test_real_frames_are_read_with_what_their_headers_say(real_data):
    frame = read_frame(real_data / "decam_pair" / "input_data__DEC-OBS04a.mini.fits")
    assert frame.observation.frame.detector == 37
    assert frame.observation.band == "i"
    assert frame.gain == pytest.approx(3.984, abs=1e-3)  # header: 3.98404...
    assert frame.wcs["CTYPE1"] == "RA---TPV"


@pytest.mark.filterwarnings("ignore")  # astropy's own words on such cards
@pytest.mark.parametrize(
    "card", ["MP_BAD* =                    0", "MP_BAD  = 'x'", "MP_BAD  =                  -1"]
)
def test_a_mask_whose_bits_have_no_numbers_is_refused(tmp_path, card):
    write_frame(tmp_path / "x.fits", whole_frame())
    overwrite(tmp_path / "x.fits", b"MP_BAD  =", card)
    with pytest.raises(UnreadableFile, match="mask bit"):
        read_frame(tmp_path / "x.fits")


def test_a_name_whose_bytes_are_no_text_can_be_printed(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.fits"))
    fits.writeto(path, np.ones((4, 4), "f4"))
    assert read_frame(path).name == f"{tmp_path}/caf?.fits"
