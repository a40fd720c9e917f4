"""FITS files to Frames and back: plain, multi-extension, tile-compressed, gzipped."""

import dataclasses
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from gpudiff.edges.atomic import atomically
from gpudiff.edges.fits_planes import (
    IMAGE,
    MASK,
    OWN,
    PSF,
    VARIANCE,
    WEIGHT,
    Plane,
    floats,
    linear,
    mask_of,
    variance_of,
    with_lost,
)
from gpudiff.edges.fits_structure import content, reading
from gpudiff.edges.header import Cards, card, electronics, frame_cards, observation, zero_point
from gpudiff.edges.wcs import wcs_of
from gpudiff.model.config import Instrument
from gpudiff.model.errors import NotAnImage, UnreadableFile, WrongShape
from gpudiff.model.frame import Frame
from gpudiff.model.mask import cards as mask_cards
from gpudiff.model.provenance import with_digest

WANTED = {"image": IMAGE, "mask": MASK, "variance": VARIANCE, "psf": PSF, "weight": WEIGHT}
NAMED = 5
"""Extensions that are named where they are not used."""


def read_frame(
    path: str | Path,
    instrument: Instrument = Instrument(),  # noqa: B008  (frozen)
    *,
    mask: str | Path | None = None,
    variance: str | Path | None = None,
    psf: str | Path | None = None,
    visit: int | None = None,
    detector: int | None = None,
    mapped: bool = False,
    digest: str = "",
) -> Frame:
    """The frame in a FITS file, with its digest.

    path : the image is the HDU named IMAGE or SCI, else the first with pixels, or the one named behind the file as
        CFITSIO does: "a.fits[N4]", "a.fits[SCI,2]", "a.fits[3]".  uint16 pixels stay so, all others become
        float32.  MASK, VARIANCE and PSF, or what else they are called (edges.fits_planes), are taken where the
        file has them with the image's EXTVER.  Of weights only the 0 are: pixels without a value.  `notes` says
        what was not used.
    mask, variance, psf : files that hold these planes instead, named likewise.  Mask bits are translated by the
        MP_* keywords; without any, a pixel with one of the instrument's `bad_bits` is BAD, or any that is not 0.
        A PSF is (K, K) or (n*n, K, K).
    visit, detector : win over the header.
    mapped : leave pixels in the file where they can be used as they lie: not compressed, not scaled, a mask in
        gpudiff's bits.  They are read-only, big-endian, and gone when the file is cut short:
        replace it by renaming.
    digest : the frame's, where it is known, so that its pixels need not be read for it

    Keywords are looked up in the image's header, then in the primary one.

    Raises UnreadableFile for a file that is absent, not FITS or truncated; NotAnImage for a cube, a table or
    no pixels at all; WrongShape for a mask or variance unlike the image; BadGain, BadConfiguration for
    metadata that cannot be (edges.header).
    """
    name = str(path).encode(errors="replace").decode()  # bytes that are no UTF-8 can be printed nowhere
    planes, rest = _read_planes(path, WANTED, mapped=mapped)
    for kind, names, other in (("mask", MASK, mask), ("variance", VARIANCE, variance), ("psf", PSF, psf)):
        if other is not None:
            planes[kind] = _read_planes(other, {kind: names}, first=kind)[0][kind]
    image = planes["image"]
    for kind in planes.keys() & {"mask", "variance", "weight"}:
        _agree(name, kind, planes[kind].array.shape, image.array.shape)
    try:
        frame = _frame(name, planes, instrument, visit, detector, rest)
        return dataclasses.replace(frame, digest=digest) if digest else with_digest(frame)
    except fits.VerifyError as error:
        raise UnreadableFile(f"{name}: expected FITS header cards, got: {' '.join(str(error).split())}") from None


def write_frame(path: str | Path, frame: Frame) -> None:
    """A multi-extension file IMAGE, MASK, VARIANCE, PSF (those present) that `read_frame` gives back equal.

    The suffix decides: .fits, .fits.gz, or .fits.fz (lossless tile compression).  Raises StoreFailed.
    """
    write_hdus(path, frame_cards(frame), frame_planes(frame))


def frame_planes(frame: Frame) -> dict[str, tuple[np.ndarray, list[fits.Card]]]:
    """HDU name -> pixels and cards."""
    sky = [card(key, value) for key, value in frame.wcs.items()]
    planes = {"IMAGE": (frame.image, [*sky, card("BUNIT", frame.unit)])}
    if frame.mask is not None:
        planes["MASK"] = (frame.mask, [card(key, bit) for key, bit in mask_cards().items()])
    if frame.variance is not None:
        planes["VARIANCE"] = (frame.variance, [card("BUNIT", f"{frame.unit}**2")])
    if frame.psf is not None:
        planes["PSF"] = (frame.psf, [])
    return planes


def write_hdus(
    path: str | Path,
    primary: list[fits.Card],
    planes: dict[str, tuple[np.ndarray, list[fits.Card]]],
    tables: Iterable[bytes] = (),
) -> None:
    """An empty primary HDU with cards, one image HDU a plane, then tables, whole or not; raises StoreFailed.

    tables : HDUs of `edges.sources.binary_table`
    """
    compressed = str(path).endswith(".fz")
    hdus: list[Any] = [fits.PrimaryHDU(header=fits.Header(primary))]
    for name, (array, cards) in planes.items():
        if compressed and array.ndim == 2:
            hdu = fits.CompImageHDU(array, compression_type="GZIP_2", quantize_level=0.0, name=name)
        else:
            hdu = fits.ImageHDU(array, name=name)
        hdu.header.extend(cards)
        hdus.append(hdu)
    with atomically(path) as temporary:
        fits.HDUList([*hdus, *map(fits.BinTableHDU.fromstring, tables)]).writeto(temporary, overwrite=True)


def _frame(
    name: str,
    planes: dict[str, Plane],
    instrument: Instrument,
    visit: int | None,
    detector: int | None,
    rest: list[str],
) -> Frame:
    """The frame, without its digest, of planes that agree in shape; rest : extensions that are none of them."""
    image = planes["image"]
    cards = Cards(image.header, image.primary)
    gain, read_noise, saturation, notes = electronics(cards, instrument, name)
    variance, lost = variance_of(planes["variance"]) if "variance" in planes else (None, None)
    mask, masked = mask_of(planes["mask"], instrument.bad_bits) if "mask" in planes else (None, ())
    wcs, placed = wcs_of(cards.headers)
    empty = planes["weight"].array == 0 if "weight" in planes else None
    return Frame(
        name=name,
        observation=observation(cards, instrument, name, visit=visit, detector=detector),
        image=_pixels(image.array),
        mask=with_lost(mask, lost, empty),
        variance=variance,
        psf=planes["psf"].array.astype(np.float32, copy=False) if "psf" in planes else None,
        gain=gain,
        read_noise=read_noise,
        saturation=saturation,
        wcs=wcs,
        unit=str(cards.find("BUNIT") or "adu").strip(),
        zero_point=zero_point(cards, instrument),
        notes=(*notes, *placed, *masked, *_colours(cards), *_unused(name, planes, rest)),
    )


def _colours(cards: Cards) -> tuple[str, ...]:
    """A note on pixels that lie behind filters of several colours."""
    key, pattern = cards.first("BAYERPAT", "COLORTYP")
    if not pattern:
        return ()
    said = f"{key} = {pattern!r:.40}: unless the colours were parted, neighbouring pixels see different ones"
    return (f"{said}; subtract one colour's pixels (every second row and column) from a template of theirs",)


def _unused(name: str, planes: dict[str, Plane], rest: list[str]) -> tuple[str, ...]:
    """A note on extensions with pixels that were not read, or hardly."""
    zeros = f"{planes['weight'].name} (but its 0: pixels without a value)" if "weight" in planes else ""
    names = [*([zeros] if zeros else []), *rest]
    if not names:
        return ()
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    way = f"{Path(_split(name)[0]).name}[{planes['weight'].name if zeros else rest[0]}]"
    return (
        f"extensions not used: {', '.join(names[:NAMED])}{more}; an image, --science-variance, --template-mask "
        f"and so on may be given as {way}",
    )


def _read_planes(
    path: str | Path, wanted: dict[str, tuple[str, ...]], first: str = "image", mapped: bool = False
) -> tuple[dict[str, Plane], list[str]]:
    """The planes of one file, and the names of other HDUs with pixels.

    `first` always, the others where an HDU bears one of their names and the version of the first.
    """
    file, extension = _split(path)
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # doubts about the file are errors here
        opened = content(file)
        with fits.open(opened, memmap=False, lazy_load_hdus=False) as hdus:
            one = _asked(path, hdus, extension) if extension else _named(hdus, wanted[first])
            one = one or _first_image(path, hdus, wanted)
            others = {kind: _named(hdus, names, one) for kind, names in wanted.items() if kind != first}
            chosen = {kind: hdu for kind, hdu in ((first, one), *others.items()) if hdu}
            primary = hdus[0].header
            mapped = mapped and opened is file
            planes = {kind: _plane(file, hdu, primary, kind, mapped) for kind, hdu in chosen.items()}
            return planes, [
                hdu.name or str(number)
                for number, hdu in enumerate(hdus)
                if _has_pixels(hdu) and hdu not in chosen.values() and hdu.name.upper() not in OWN
            ]


def _split(path: str | Path) -> tuple[str | Path, str]:
    """The file, and the extension that is named in brackets behind it; "" for none."""
    match = re.fullmatch(r"(.+)\[([^\[\]]+)\]", str(path))
    return (match[1], match[2]) if match and not os.path.exists(path) else (path, "")


def _asked(path: str | Path, hdus: fits.HDUList, extension: str) -> Any:
    """The HDU of a number, a name, or a name and a version.  Raises NotAnImage where there is none with pixels."""
    name, _, version = extension.partition(",")
    for number, hdu in enumerate(hdus):
        named = hdu.name.upper() == name.strip().upper() and version.strip() in ("", str(hdu.ver))
        if _has_pixels(hdu) and (named or extension == str(number)):
            return hdu
    images = ", ".join(hdu.name or str(number) for number, hdu in enumerate(hdus) if _has_pixels(hdu))
    raise NotAnImage(f"{path}: expected one of the images {images or '(there is none)'}")


def _named(hdus: fits.HDUList, names: tuple[str, ...], beside: Any = None) -> Any:
    """The first image HDU with pixels under one of the names, of the version of another, or None."""
    for hdu in hdus:
        fits_in = beside is None or (hdu is not beside and hdu.ver == beside.ver)
        if hdu.name.upper() in names and _has_pixels(hdu) and fits_in:
            return hdu
    return None


def _first_image(path: str | Path, hdus: fits.HDUList, wanted: dict[str, tuple[str, ...]]) -> Any:
    """The first image HDU with pixels that is none of the other planes; raises NotAnImage without one."""
    others = {name for names in wanted.values() for name in names}
    for hdu in hdus:
        if _has_pixels(hdu) and hdu.name.upper() not in others:
            return hdu
    tables = [hdu.name or "unnamed" for hdu in hdus if not hdu.is_image]
    found = f"only tables ({', '.join(tables)})" if tables else "no HDU with pixels"
    raise NotAnImage(f"{path}: expected a 2-D image, found {found}")


def _has_pixels(hdu: Any) -> bool:
    return hdu.is_image and len(hdu.shape) > 0 and 0 not in hdu.shape


def _plane(path: str | Path, hdu: Any, primary: fits.Header, kind: str, mapped: bool) -> Plane:
    """The HDU's pixels without degenerate leading axes; raises NotAnImage when it is no plane."""
    shape = hdu.shape
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    if not (len(shape) == 2 or (kind == "psf" and len(shape) == 3)):
        found = "a cube" if len(shape) > 2 else "one axis"
        raise NotAnImage(f"{path}: {hdu.name}: expected a 2-D image, found {found} of shape {tuple(hdu.shape)}")
    blank = hdu.header.get("BLANK"), hdu.header.get("BZERO")
    array = _map(path, hdu) if mapped and _as_it_lies(hdu) else _without(*blank, _native(np.asarray(hdu.data)))
    return linear(Plane(array.reshape(shape), hdu.header.copy(), primary.copy()))


def _as_it_lies(hdu: Any) -> bool:
    """Whether the bytes in the file are the pixels."""
    scaled = any(key in hdu.header for key in ("BZERO", "BSCALE", "BLANK"))
    return not scaled and not isinstance(hdu, fits.CompImageHDU)


def _map(path: str | Path, hdu: Any) -> np.ndarray:
    dtype = np.dtype(fits.BITPIX2DTYPE[hdu.header["BITPIX"]]).newbyteorder(">")
    return np.memmap(path, dtype, "r", hdu.fileinfo()["datLoc"], hdu.shape)


def _native(array: np.ndarray) -> np.ndarray:
    """The pixels in native byte order, swapped where they lie if they may be: no second plane is made."""
    if array.dtype.isnative or not array.flags.writeable:
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    return array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))


def _without(blank: Any, zero: Any, array: np.ndarray) -> np.ndarray:
    """The pixels, NaN where they are BLANK: astropy looks for it in signed integers only."""
    if blank is None or zero is None or array.dtype.kind != "u":
        return array
    lost = array == int(blank + zero)
    return np.where(lost, np.float32(np.nan), array.astype(np.float32)) if lost.any() else array


def _pixels(array: np.ndarray) -> np.ndarray:
    """uint16 as it is, anything else as float32."""
    return array if array.dtype == np.uint16 else floats(array)


def _agree(name: str, kind: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if got != expected:
        raise WrongShape(f"{name}: {kind} is {got}, expected the image's {expected}")
