"""gpudiff ephemerides: where Solar System objects are during a night."""

import argparse
from pathlib import Path
from typing import Any

DESCRIPTION = """\
`build` makes the ephemerides of one night from a table of orbits (.csv, .ecsv, .fits, .parquet) with heliocentric
elements (epoch, a, e, i, node, peri, M) or states (epoch, x, y, z, vx, vy, vz), J2000 ecliptic, AU, days, degrees,
epochs MJD or JD TT; and designation, H, G, error (arcsec) where there are any. ORBITS `sample` is a dozen bright
asteroids with rounded elements. Orbits are integrated to the night with the pull of the planets, at most 400 days.

  gpudiff ephemerides build sample --night 61001.2 --site -70.749 -30.245 2663 --output tonight.sky

`at` lists the objects near a place at a moment.

  gpudiff ephemerides at tonight.sky --mjd 61001.25 --ra 60 --dec 20 --radius 90
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    told: Any = {"description": DESCRIPTION, "formatter_class": parser.formatter_class}
    build = actions.add_parser("build", help="write a night's ephemerides", **told)
    build.add_argument("orbits", metavar="ORBITS", help="table of orbits, or `sample`")
    build.add_argument("--night", type=float, required=True, metavar="MJD", help="middle of the night, MJD TAI")
    build.add_argument("--hours", type=float, default=14.0, help="its length (default: %(default)s)")
    build.add_argument(
        "--site",
        type=float,
        nargs=3,
        metavar=("LON", "LAT", "HEIGHT"),
        help="degrees east, degrees, m (default: the Earth's centre, and errors larger by the parallax)",
    )
    build.add_argument("--faintest", type=float, default=99.0, help="V magnitude (default: all)")
    build.add_argument("--output", "-o", type=Path, required=True, metavar="FILE")
    at = actions.add_parser("at", help="list objects near a place at a moment", **told)
    at.add_argument("file", type=Path, metavar="FILE", help="that `build` wrote")
    at.add_argument("--mjd", type=float, required=True, help="MJD TAI")
    at.add_argument("--ra", type=float, required=True, help="degrees")
    at.add_argument("--dec", type=float, required=True, help="degrees")
    at.add_argument("--radius", type=float, default=1.75, help="degrees (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    return _build(arguments) if arguments.action == "build" else _at(arguments)


def _build(arguments: argparse.Namespace) -> int:
    from gpudiff.edges.orbits import SAMPLE
    from gpudiff.model.errors import BadConfiguration
    from gpudiff.science.ephemerides import Night, Site
    from gpudiff.services.solar_system import build

    if not 0 < arguments.hours <= 24:
        raise BadConfiguration(f"hours: expected more than 0 and at most 24, got {arguments.hours}")
    if arguments.site and not abs(arguments.site[1]) <= 90:
        raise BadConfiguration(f"site: expected a latitude of -90 to 90 degrees, got {arguments.site[1]:g}")
    orbits = SAMPLE if arguments.orbits == "sample" else Path(arguments.orbits)
    site = Site(*arguments.site) if arguments.site else None
    night = Night(arguments.night, arguments.hours)
    count, faint, far = build(orbits, arguments.output, night, site, arguments.faintest)
    print(f"{arguments.output}: {count} objects; left out: {faint} too faint, {far} with an epoch too far away")
    return 0


def _at(arguments: argparse.Namespace) -> int:
    from gpudiff.model.errors import BadConfiguration
    from gpudiff.services.solar_system import SolarSystem

    system = SolarSystem(arguments.file)
    night = system.night
    if not abs(night.scaled(arguments.mjd)) <= 1:
        expected = f"a time within {night.hours / 2:g} h of MJD {night.middle:g}, the middle of {arguments.file}"
        raise BadConfiguration(f"mjd: expected {expected}, got {arguments.mjd:g}")
    found = system.at(arguments.mjd, 60.0, arguments.ra, arguments.dec, arguments.radius)
    print(f"{len(found)} of {len(system)} objects within {arguments.radius:g} degrees at MJD {arguments.mjd} TAI")
    names = system.designations(found["ssObjectId"].tolist())
    for name, row in zip(names, found.rows(), strict=True):
        place = f"{row['ra']:11.6f} {row['dec']:+11.6f} +- {row['error']:.2f} arcsec"
        motion = f"{row['eastTrail']:+.3f} {row['northTrail']:+.3f} arcsec a minute east and north"
        print(f"{name:24s} {place}  V {row['magnitude']:5.2f}  moves {motion}")
    return 0
