from html.parser import HTMLParser

import numpy as np
import pytest

from gpudiff.edges.page import completeness, context, write_page
from gpudiff.model.demo import Demo, FilterRecord, FrameRecord, Replayed, Review, Verified
from gpudiff.model.recovery import PUBLISHED
from gpudiff.model.scene import Night, grid
from gpudiff.model.tables import Table, concatenate, flag
from gpudiff.science.expose import frame
from gpudiff.science.night import catalogue, visits
from gpudiff.science.recovery import recover

NIGHT, PLANE = Night(visits=2, seed=2), grid(2, 256)
VOID = {"meta", "img", "br", "circle", "path", "polygon"}


class Page(HTMLParser):
    """Elements must nest; every src and href is kept."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text, self.count = [], [], "", 0

    def handle_starttag(self, tag, attributes):
        self.count += 1
        self.sources += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.count += 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def demo():
    """Two visits of two detectors, of whose changes the brighter half were found, and one false alert each."""
    planned, sky = visits(NIGHT), {d.number: catalogue(NIGHT, 0, d) for d in PLANE.detectors}
    truth = concatenate([frame(NIGHT, PLANE, sky[d.number], v, d)[1] for v in planned for d in PLANE.detectors])
    seen = [row for row in truth.rows() if row["kind"] != "cosmic-ray" and row["snr"] > 12]
    rows = [
        {
            **row,
            "diaSourceId": n + 1,
            "diaObjectId": row["objectId"],
            "isNegative": row["flux"] < 0,
            "flagged": n % 7 == 0,
        }
        for n, row in enumerate(seen)
    ]
    rows += [{"visit": v.number, "x": 1.0, "y": 2.0, "snr": 6.0, "flags": flag("CENTROID")} for v in planned]
    alerts = Table(PUBLISHED, {c.name: [row.get(c.name, 0) for row in rows] for c in PUBLISHED})
    frames = tuple(FrameRecord(v.number, d.number, "done", 1, 1, 1.0) for v in planned for d in PLANE.detectors)
    frames = (*frames[:-1], FrameRecord(planned[1].number, 1, "rejected", 0, 0, 1.0, "NoStars <b>& more</b>"))
    cutouts = [(None, None, None)] * len(rows)
    seconds, found = {"simulation": 1.0}, recover(truth, alerts)
    return Demo(NIGHT, PLANE, tuple(planned), frames, found, cutouts, seconds, 0, len(rows), reviewed(alerts))


def reviewed(alerts):
    """A filter at its quota, an alert whose last step differs, a replay that lost one."""
    passed = tuple(alerts["diaSourceId"][:2].tolist())
    bright = FilterRecord("bright", "a@b.c", "snr < 9 & more", 2, 30, 2, 28, "", passed)
    steps = ({"step": "detect", "version": "1", "inputs": ["0123456789abcdef"], "fingerprint": "ab" * 16},)
    wrong = ("detect: its fingerprint does not follow",)
    return Review(
        (bright,), Verified(passed[0], "ab" * 16, steps, ("template",), wrong), Replayed(9, 8, 0, 1, 0, 0.5)
    )


@pytest.fixture(scope="module")
def page(demo, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(path, demo)
    parser = Page()
    parser.feed(path.read_text(encoding="utf-8"))
    parser.html = path.read_text(encoding="utf-8")
    return parser


def test_the_page_is_well_formed(page):
    assert page.open == []
    assert page.count > 100


def test_the_page_needs_nothing_but_itself(page):
    assert page.sources
    assert all(source.startswith("data:") for source in page.sources)
    assert "http:" not in page.html.replace("http://www.w3.org", "")
    assert "https:" not in page.html
    assert "url(" not in page.html


def test_the_page_says_what_the_summary_says(demo, page):
    assert f"{demo.recovery.share_found:.1%}" in page.text
    assert "This run failed." in page.text


def test_what_the_service_said_is_shown_as_text(page):
    assert "NoStars <b>& more</b>" in page.text


def test_every_missed_change_is_listed_with_a_reason(demo):
    shown = context(demo)["missed"]
    r = demo.recovery
    assert len(shown) == (r.detectable & ~r.found).sum()
    assert all(row["why"] for row in shown)
    assert any(row["why"].startswith("seen, but flagged") for row in shown)


def test_every_object_found_has_one_card(demo):
    groups = context(demo)["groups"]
    r = demo.recovery
    assert sum(group["found"] for group in groups) == len(np.unique(r.truth["objectId"][r.alert_of >= 0]))
    assert sum(len(group["cards"]) for group in groups) == sum(group["found"] for group in groups)


def test_the_false_alerts_are_shown_with_their_flags(demo):
    shown = context(demo)
    assert shown["false_total"] == 2
    assert shown["false_cards"][0]["names"] == "CENTROID"


def test_the_page_names_the_false_alerts(page):
    assert "2 unflagged alerts where nothing was put in." in page.text
    assert page.text.count("CENTROID") == 2


def test_the_completeness_counts_every_change_once(demo):
    rows = completeness(demo.recovery)
    assert sum(row["total"] for row in rows) == len(demo.recovery.truth)
    assert all(sum(row["share"]) == pytest.approx(100) for row in rows if row["total"])


def test_the_maps_hold_every_find_and_every_miss(demo):
    marks = [mark for one in context(demo)["maps"] for mark in one["marks"]]
    r = demo.recovery
    for kind, expected in [("found", r.found), ("missed", r.missed), ("seen", r.only_flagged)]:
        assert sum(mark["kind"] == kind for mark in marks) == expected.sum()
    assert all(abs(float(mark[axis])) < 100 for mark in marks for axis in "xy")


def test_a_filter_is_shown_with_its_counts_and_the_first_cutouts(demo, page):
    (shown,) = context(demo)["filters"]
    assert [card["id"] for card in shown["cards"]] == [1, 2]
    assert (round(shown["share"], 1), round(shown["over_share"], 1)) == (6.7, 93.3)
    assert "snr < 9 & more" in page.text
    assert "28 over the quota" in " ".join(page.text.split())


def test_the_steps_of_an_alert_and_what_differs_are_shown(page):
    for said in ("Alert 1: differs", "detect: its fingerprint does not follow", "ab" * 16, "0123456789ab"):
        assert said in page.text


def test_the_replay_is_shown_with_what_is_missing(page):
    text = " ".join(page.text.split())
    assert "8 of 9 alerts came again" in text
    assert "16 alerts/s" in text
    assert "1 are missing" in text
