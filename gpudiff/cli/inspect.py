"""gpudiff inspect: what an alert says, field by field, and its cutouts as a picture."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gpudiff.model.errors import UnreadableFile

DESCRIPTION = """\
Lists the alerts of a file, or prints one of them field by field; null and NaN are left out. FILE is an archive
file (alerts/VISIT.avro), the folder of an archive with --id, or a single alert in Confluent framing, which needs
its schema: an .avsc file with the files it names beside it, as the survey publishes them. --png draws the three
cutouts and the light curve.
"""
EPILOG = """\
examples:
  gpudiff inspect night/alerts/7.avro
  gpudiff inspect night/alerts/7.avro --index 0 --png alert.png
  gpudiff inspect night --id 117702656 --png alert.png
  gpudiff inspect packet.avro --schema lsst.v9_0.alert.avsc
"""
COLUMNS = ("index", "diaSourceId", "object", "kind", "ra", "dec", "flux", "snr", "flags")
ROW = "{:>6} {:>19} {:>19} {:<7} {:>11} {:>11} {:>12} {:>7}  {}"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("file", type=Path, metavar="FILE")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--id", type=int, metavar="DIASOURCEID", help="the alert of this detection")
    which.add_argument("--index", type=int, metavar="N", help="the Nth alert of the file, from 0")
    parser.add_argument("--png", type=Path, metavar="OUT", help="draw cutouts and light curve (.png, .pdf, .svg)")
    parser.add_argument("--schema", type=Path, metavar="AVSC", help="of a Confluent-framed alert")


def run(arguments: argparse.Namespace) -> int:
    from gpudiff.edges.alert_file import read_alerts

    if arguments.png:
        from gpudiff.edges.picture_alert import check_suffix, draw

        check_suffix(arguments.png)
    folder = arguments.file.is_dir()
    if folder and arguments.id is None:
        raise UnreadableFile(f"{arguments.file}: a folder: expected --id too; gpudiff query lists its alerts")
    alerts = archived(arguments) if folder else read_alerts(arguments.file, arguments.schema)
    if arguments.id is None and arguments.index is None and arguments.png is None and not arguments.schema:
        sys.stdout.writelines(f"{line}\n" for line in listing(alerts))
        return 0
    alert = pick(alerts, arguments)
    sys.stdout.writelines(f"{line}\n" for line in fields(alert))
    sys.stdout.writelines(f"{line}\n" for line in steps(arguments.file, alert))
    if arguments.png:
        draw(alert, headline(alert), arguments.png)
        print(f"drawn to {arguments.png}")
    return 0


def archived(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The alert of an id in an archive, its last revision first."""
    from gpudiff.edges.alert_archive import AlertArchive, archive_folder
    from gpudiff.edges.alert_table import decode
    from gpudiff.model.alert_index import AlertQuery

    opened = AlertArchive(archive_folder(arguments.file))
    rows = opened.find(AlertQuery(dia_source_id=arguments.id))
    return (decode(stored) for stored in opened.alerts(rows.take(slice(None, None, -1))))


def steps(file: Path, alert: dict[str, Any]) -> Iterator[str]:
    """A line for each step behind the alert's fingerprint, where they stand beside the archive."""
    from gpudiff.edges.alert_archive import archive_folder
    from gpudiff.edges.provenance_file import stored_steps

    origin = alert.get("provenance") or {}
    if "fingerprint" in origin:
        folder = archive_folder(file) if file.is_dir() else file.parent
        for one in stored_steps(folder, bytes(origin["fingerprint"]).hex()):
            told = " ".join([one["version"], one.get("device", "")]).strip()
            yield f"step {one['step']:<12} {told:<14} {one['fingerprint']}"


def pick(alerts: Iterable[dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    """The alert asked for, the first one when none was; raises UnreadableFile when it is not there."""
    count = 0
    for count, alert in enumerate(alerts, 1):
        if arguments.id is None:
            found = count - 1 == (arguments.index or 0)
        else:
            found = alert["diaSourceId"] == arguments.id
        if found:
            return alert
    wanted = f"index {arguments.index or 0}" if arguments.id is None else f"diaSourceId {arguments.id}"
    raise UnreadableFile(f"{arguments.file}: expected an alert with {wanted}, there is none among {count}")


def listing(alerts: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A heading, and one line an alert."""
    index = -1
    for index, alert in enumerate(alerts):
        if index == 0:
            yield ROW.format(*COLUMNS).rstrip()
        source, association = alert["diaSource"], alert.get("association") or {}
        numbers = (("ra", ".6f"), ("dec", "+.6f"), ("psfFlux", ".6g"), ("snr", ".1f"))
        values = [_number(source.get(name), form) for name, form in numbers]
        owner, kind = source.get("diaObjectId") or "", association.get("kind", "")
        yield ROW.format(index, alert["diaSourceId"], owner, kind, *values, _flags(source)).rstrip()
    if index < 0:
        yield "no alerts"


def fields(record: dict[str, Any], indent: str = "") -> Iterator[str]:
    """One line a field, records inside indented, null and NaN left out."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield f"{indent}{name}"
            yield from fields(value, indent + "  ")
        elif isinstance(value, list):
            yield f"{indent}{name}: {len(value)}"
            for one in value:
                yield f"{indent}  {_moment(one)}"
        elif isinstance(value, bytes):
            yield f"{indent}{name:<26} {_bytes(name, value)}"
        elif value is not None and value == value:
            words = f" ({_flags(record)})" if name == "flags" and value else ""
            text = f"{value:.12g}" if isinstance(value, float) else str(value)
            yield f"{indent}{name:<26} {text}{words}"


def headline(alert: dict[str, Any]) -> str:
    """What the picture is of."""
    source = alert["diaSource"]
    snr, place = _number(source.get("snr"), ".1f"), f"{source['ra']:.6f} {source['dec']:+.6f}"
    return f"diaSourceId {alert['diaSourceId']}   visit {source['visit']}   {place}   snr {snr}"


def _moment(source: dict[str, Any]) -> str:
    """An earlier detection in one line."""
    flux, error = (_number(source.get(name), ".6g") for name in ("psfFlux", "psfFluxErr"))
    band, unit = source.get("band") or "", source.get("fluxUnit", "nJy")
    time = _number(source.get("midpointMjdTai"), ".6f")
    return f"{time} {band:<2} {flux} +- {error} {unit}  visit {source.get('visit')}"


def _bytes(name: str, value: bytes) -> str:
    if not name.startswith("cutout"):
        return value.hex()
    import numpy as np

    from gpudiff.edges.picture_alert import read_cutout

    pixels, unit = read_cutout(value, name)
    finite = pixels[np.isfinite(pixels)]
    span = f"{finite.min():.6g} to {finite.max():.6g} {unit}, " if finite.size else ""
    height, width = pixels.shape
    return f"{width} x {height} px, {span}{pixels.size - finite.size} without a value, {len(value)} bytes"


def _flags(source: dict[str, Any]) -> str:
    from gpudiff.model.tables import flag_names

    return " ".join(flag_names(source.get("flags") or 0))


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
