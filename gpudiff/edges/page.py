"""The demo's report: one HTML file that needs nothing else, drawn from page.html.j2."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff import __version__
from gpudiff.edges.atomic import atomically
from gpudiff.edges.page_review import filters, replay, verified
from gpudiff.edges.thumbnail import triple
from gpudiff.model.demo import Demo, latency, summary
from gpudiff.model.recovery import Recovery
from gpudiff.model.tables import flag_names

GROUPS = (
    ("transient", "field", "New sources in the field"),
    ("transient", "host", "New sources in a galaxy"),
    ("transient", "near-star", "New sources beside a star"),
    ("vanished", "field", "Vanished sources"),
    ("variable", "", "Variable stars"),
    ("moving", "field", "Moving objects"),
)
SHOWN = 60
"""Cards in a group, at most: the strongest."""
MAPS = 6
BINS = (0.0, 5.0, 6.0, 8.0, 12.0, 20.0, 40.0, float("inf"))


def write_page(path: Path, demo: Demo) -> None:
    """Write the report; raises StoreFailed."""
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    html = environment.get_template("page.html.j2").render(**context(demo))
    with atomically(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def context(demo: Demo) -> dict[str, Any]:
    """What the template shows, as plain values."""
    r = demo.recovery
    unflagged = r.false & ~r.alerts["flagged"]
    order = np.flatnonzero(unflagged)[np.argsort(-r.alerts["snr"][unflagged])]
    return {
        "version": __version__,
        "night": demo.night,
        "detectors": len(demo.plane.detectors),
        "size": _size(demo),
        "problems": demo.problems,
        "headline": _headline(demo),
        "summary": summary(demo),
        "seconds": {name: f"{value:.1f} s" for name, value in demo.seconds.items()},
        "completeness": completeness(r),
        "visits": [_visit(demo, visit) for visit in demo.visits],
        "maps": [_map(demo, visit.number) for visit in demo.visits[:MAPS]],
        "outlines": [_outline(demo, detector) for detector in demo.plane.detectors],
        "groups": [group for group in (_group(demo, *key) for key in GROUPS) if group["total"]],
        "missed": _missed(r),
        "false_cards": [_false_card(demo, n) for n in order[:SHOWN]],
        "false_total": int(unflagged.sum()),
        "false_flagged": _flag_counts(r),
        "filters": filters(demo),
        "verified": verified(demo.review.verified),
        "replay": replay(demo.review.replayed),
        "rejected": [frame for frame in demo.frames if not frame.good],
    }


def completeness(r: Recovery) -> list[dict[str, Any]]:
    """Counts in each range of ideal signal to noise; shares in per cent of the range's total."""
    rows = []
    for low, high in itertools.pairwise(BINS):
        inside = (r.truth["snr"] >= low) & (r.truth["snr"] < high)
        total = int(inside.sum())
        found, flagged = int((inside & r.found).sum()), int((inside & r.only_flagged).sum())
        label = f"{low:g} to {high:g}" if np.isfinite(high) else f"{low:g} or more"
        share = [100 * n / max(total, 1) for n in (found, flagged, total - found - flagged)]
        rows.append({"label": label if low else f"below {high:g}", "total": total, "found": found, "share": share})
    return rows


def _headline(demo: Demo) -> list[dict[str, str]]:
    """The four figures at the top."""
    r = demo.recovery
    median, p98, _ = latency(r.alerts["latency_s"])
    counts = r.counts
    megapixels = sum(d.megapixels() for d in demo.plane.detectors) * len(demo.visits)
    return [
        {
            "value": f"{r.share_found:.1%}",
            "label": "found",
            "note": f"{counts['found']} of {counts['detectable']} detectable changes",
        },
        {
            "value": f"{counts['false']}",
            "label": "false, unflagged",
            "note": f"{counts['false'] / megapixels:.2f} per 1024 x 1024 px",
        },
        {"value": f"{r.right} / {r.right + r.wrong}", "label": "associated right", "note": "of later detections"},
        {"value": f"{median:.2f} s", "label": "last pixel to alert", "note": f"median; 98 % within {p98:.2f} s"},
    ]


def _size(demo: Demo) -> str:
    sizes = sorted({f"{d.width} x {d.height}" for d in demo.plane.detectors})
    return " or ".join(sizes)


def _visit(demo: Demo, visit: Any) -> dict[str, Any]:
    r = demo.recovery.of_visit(visit.number)
    frames = [frame for frame in demo.frames if frame.visit == visit.number]
    median, _, largest = latency(r.alerts["latency_s"])
    return {
        "number": visit.number,
        "seeing": f"{visit.weather.fwhm * demo.night.pixel_scale:.2f}",
        "transparency": f"{visit.weather.transparency:.2f}",
        "frames": f"{sum(frame.good for frame in frames)}/{len(demo.plane.detectors)}",
        **r.counts,
        "share": "" if np.isnan(r.share_found) else f"{r.share_found:.0%}",
        "median": f"{median:.2f}",
        "largest": f"{largest:.2f}",
    }


def _outline(demo: Demo, detector: Any) -> dict[str, Any]:
    """A sensor's corners and label in the map's units: -100 to 100, y down."""
    w, h = detector.width - 0.5, detector.height - 0.5
    x, y = detector.to_focal_plane([-0.5, w, w, -0.5], [-0.5, -0.5, h, h])
    scale = 98 / demo.plane.radius_mm
    points = " ".join(f"{a * scale:.2f},{-b * scale:.2f}" for a, b in zip(x, y, strict=True))
    return {"points": points, "number": detector.number, "x": float(x.min()) * scale, "y": float(-y.max()) * scale}


def _map(demo: Demo, visit: int) -> dict[str, Any]:
    """The marks of one visit on the focal plane."""
    r = demo.recovery.of_visit(visit)
    flagged = r.alerts["flagged"]
    kinds = (
        ("flagged", r.alerts.take(r.false & flagged)),
        ("found", r.truth.take(r.found)),
        ("seen", r.truth.take(r.only_flagged)),
        ("missed", r.truth.take(r.missed)),
        ("false", r.alerts.take(r.false & ~flagged)),
    )
    marks = []
    for name, table in kinds:
        marks += [{"kind": name, **place} for place in _places(demo, table)]
    return {"visit": visit, "marks": marks}


def _places(demo: Demo, table: Any) -> list[dict[str, Any]]:
    by_number = {d.number: d for d in demo.plane.detectors}
    scale = 98 / demo.plane.radius_mm
    out = []
    for row in table.rows():
        x, y = by_number[row["detector"]].to_focal_plane(row["x"], row["y"])
        title = f"{row.get('kind', 'alert')}, detector {row['detector']} ({row['x']:.0f}, {row['y']:.0f})"
        out.append({"x": f"{x * scale:.2f}", "y": f"{-y * scale:.2f}", "title": f"{title}, S/N {row['snr']:.1f}"})
    return out


def _group(demo: Demo, kind: str, place: str, title: str) -> dict[str, Any]:
    """The objects of one kind that were found, strongest first, each at its best."""
    r = demo.recovery
    mine = (r.truth["kind"] == kind) & (r.truth["place"] == place)
    objects = [np.flatnonzero(mine & (r.truth["objectId"] == one)) for one in np.unique(r.truth["objectId"][mine])]
    seen = [rows for rows in objects if (r.alert_of[rows] >= 0).any()]
    best = [max(rows[r.alert_of[rows] >= 0], key=lambda n: r.alerts["snr"][r.alert_of[n]]) for rows in seen]
    order = sorted(range(len(seen)), key=lambda k: -r.alerts["snr"][r.alert_of[best[k]]])
    cards = [_card(demo, int(best[k]), seen[k]) for k in order[:SHOWN]]
    return {"title": title, "total": len(objects), "found": len(seen), "cards": cards}


def _card(demo: Demo, row: int, rows: np.ndarray) -> dict[str, Any]:
    r = demo.recovery
    alert = int(r.alert_of[row])
    t = r.truth.take([row])
    states = {int(r.truth["visit"][n]): _state(r, int(n)) for n in rows}
    return {
        "image": triple(demo.cutouts[alert]),
        "snr": f"{r.alerts['snr'][alert]:.1f}",
        "ideal": f"{t['snr'][0]:.1f}",
        "visit": int(t["visit"][0]),
        "detector": int(t["detector"][0]),
        "x": f"{r.alerts['x'][alert]:.1f}",
        "y": f"{r.alerts['y'][alert]:.1f}",
        "object": int(r.alerts["diaObjectId"][alert]),
        "flags": ", ".join(flag_names(r.alerts["flags"][alert])) if r.alerts["flagged"][alert] else "",
        "trail": f"{t['trailLength'][0]:.1f} px trail" if t["trailLength"][0] >= 1 else "",
        "states": [(visit.number, states.get(visit.number, "absent")) for visit in demo.visits],
    }


def _state(r: Recovery, row: int) -> str:
    if r.found[row]:
        return "found"
    if r.only_flagged[row]:
        return "seen"
    return "missed" if r.detectable[row] else "faint"


def _missed(r: Recovery) -> list[dict[str, Any]]:
    """Detectable changes that no alert, or only a flagged one, saw; the strongest first."""
    rows = np.flatnonzero(r.detectable & ~r.found)
    out = []
    for n in rows[np.argsort(-r.truth["snr"][rows])]:
        flagged = r.only_flagged[n]
        names = ", ".join(flag_names(r.alerts["flags"][r.alert_of[n]])) if flagged else ""
        one = next(iter(r.truth.take([n]).rows()))
        why = f"seen, but flagged: {names}" if flagged else r.why_missed[n]
        out.append({**one, "why": why, "flagged": bool(flagged)})
    return out


def _false_card(demo: Demo, alert: int) -> dict[str, Any]:
    a = next(iter(demo.recovery.alerts.take([alert]).rows()))
    return {
        **a,
        "image": triple(demo.cutouts[alert]),
        "why": demo.recovery.why_false[alert],
        "names": ", ".join(flag_names(a["flags"])),
    }


def _flag_counts(r: Recovery) -> list[tuple[str, int]]:
    """How often each flag is set on the flagged false alerts, most often first."""
    flags = r.alerts["flags"][r.false & r.alerts["flagged"]]
    names = [name for value in flags for name in flag_names(value)]
    return sorted(((name, names.count(name)) for name in set(names)), key=lambda one: (-one[1], one[0]))
