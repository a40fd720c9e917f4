"""gpudiff.services.reception, in whole services: bad messages by name and kept, credit, leases."""

import json
import time

import numpy as np
import pytest
from serving import TIMEOUT_S, Raw, Served, a_frame, serving, until

from gpudiff.edges import control, dead_letters, wire
from gpudiff.model.errors import StoreFailed


def changed(visit: int, attempt: int = 1, plane: dict | None = None, **header) -> list:
    """A frame message with header keys, or its image's description, changed; `...` removes a key."""
    parts = wire.encode(a_frame(visit), attempt)
    values = json.loads(parts[1])
    values["planes"][0].update(plane or {})
    values.update(header)
    kept = {key: value for key, value in values.items() if value is not ...}
    return [parts[0], json.dumps(kept).encode(), *parts[2:]]


def dead(served: Served) -> dict[str, str]:
    """Name of each dead letter -> its error."""
    letters = (served.settings.directory / "dead").glob("*.json")
    return {path.stem: dead_letters.read(path).error for path in letters}


def test_hello_may_be_said_again(raw):
    for _ in range(2):
        raw.dealer.send(control.hello("me"))
        said = control.decode(raw.dealer.receive(TIMEOUT_S))
        assert set(said.pop("ring")) == {"directory", "token"}
        assert said == {"say": "ready", "credit": 4, "lease_s": 1.0, "max_frame_bytes": 1 << 20}


def test_a_client_that_says_no_hello_is_served_too(raw):
    assert raw.ask(wire.encode(a_frame(131))).status == "done"


BAD = {
    "a missing key": (lambda: changed(200, gain=...), "MissingKey"),
    "an unknown dtype": (lambda: changed(201, plane={"dtype": "<f8"}), "BadMessage"),
    "a wrong plane size": (lambda: [*changed(202)[:2], b"short"], "BadMessage"),
    "a wrong shape": (lambda: changed(203, plane={"shape": [1, 1]}), "BadMessage"),
    "a place of half a name": (lambda: changed(204, plane={"shm": {"segment": "x"}}), "MissingKey"),
    "more bytes than allowed": (lambda: [*changed(205)[:2], bytes((1 << 20) + 1)], "BadMessage"),
    "too many parts": (lambda: [*changed(206), *[b""] * 50], "BadMessage"),
    "a third wrong checksum": (lambda: changed(207, 3, plane={"xxh3_128": "0" * 32}), "ChecksumMismatch"),
    "a PSF that is none": (lambda: changed(208, psf=[[1, 2]]), "BadPsf"),
    "a WCS that is none": (lambda: changed(209, wcs={"CTYPE1": 5}), "BadWcs"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_message_is_rejected_by_name_and_kept(what, raw, service):
    message, error = BAD[what]
    receipt = raw.ask(message())
    assert (receipt.status, receipt.error) == ("rejected", error)
    assert dead(service)[f"{receipt.visit}-0-4-{error}"] == error


@pytest.mark.parametrize(
    "parts",
    [
        [b"GDF1", b"{ no JSON", b"12"],
        [b"GDF1"],
        [b""],
        [b"GDF1", b'{"visit": "x"}', b""],
        [b"XXXX", b"{}"],
        [b"GDF1\0"],
    ],
)
def test_a_message_without_identity_is_rejected_with_nulls(parts, raw):
    receipt = raw.ask(parts)
    assert (receipt.status, receipt.error, receipt.frame) == ("rejected", "BadMessage", None)


@pytest.mark.parametrize("text", [b"{", b'{"say": "obey"}', b"[]", b'{"say": 5}'])
def test_a_bad_control_message_is_rejected(text, raw):
    assert raw.ask([b"GDC1", text]).error == "BadMessage"


def test_a_wrong_checksum_fails_and_may_be_sent_again(raw, service):
    receipt = raw.ask(changed(210, plane={"xxh3_128": "0" * 32}))
    assert (receipt.status, receipt.error, receipt.retry) == ("failed", "ChecksumMismatch", True)
    assert raw.ask(changed(210, 2)).status == "done"


def test_a_frame_without_pixels_is_rejected_by_the_subtraction(client, service):
    receipt = client.send(a_frame(211, fill=np.nan))
    assert (receipt.status, receipt.error) == ("rejected", "NoUsablePixels")
    assert dead(service)["211-0-4-NoUsablePixels"] == "NoUsablePixels"


def test_a_frame_that_no_template_covers_is_rejected(client):
    far = {"CRVAL1": 10.0, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL2": 0.0, "CD1_1": 1e-5, "CD2_2": 1e-5}
    parts = json.loads(wire.encode(a_frame(212))[1])
    assert parts["wcs"] != far
    frame = a_frame(212)
    object.__setattr__(frame, "wcs", far)
    assert client.send(frame).error == "NoTemplate"


def test_a_bug_costs_one_frame_after_three_tries(client):
    receipt = client.send(a_frame(213, unit="bug"))
    assert receipt.status == "rejected"
    assert "3 times" in receipt.reason
    assert "ZeroDivisionError: a planted bug" in receipt.reason


def test_the_wrong_moment_is_tried_again(client, tmp_path):
    assert client.send(a_frame(214, unit=f"moment:{tmp_path}/mark")).status == "done"


def test_a_moment_that_stays_wrong_is_a_rejection_by_its_name(client):
    receipt = client.send(a_frame(215, unit="never"))
    assert (receipt.status, receipt.error) == ("rejected", "NeighbourLost")


def test_a_dead_letter_can_be_sent_again(client, raw, service):
    client.send(a_frame(216, fill=np.nan))
    letter = dead_letters.read(service.settings.directory / "dead" / "216-0-4-NoUsablePixels.json")
    assert raw.ask(letter.parts).error == "NoUsablePixels"


def test_after_messages_and_frames_that_are_bad_the_service_goes_on_and_has_counted(client, raw, service):
    before = service.status()
    assert raw.ask([b"XXXX", b"{}"]).error == "BadMessage"
    assert client.send(a_frame(218, fill=np.nan)).error == "NoUsablePixels"
    assert client.send(a_frame(217)).status == "done"
    until(lambda: service.status()["done"] == before["done"] + 1)
    status = service.status()
    assert status["in_flight"] == 0
    for name in ("BadMessage", "NoUsablePixels"):
        assert status["rejected"][name] > before["rejected"].get(name, 0)
    assert status["dead_letters"] == sum(status["rejected"].values())


def test_more_frames_than_the_credit_fail_for_want_of_it(raw, service, tmp_path):
    gate = tmp_path / "gate"
    for visit in range(300, 304):
        raw.dealer.send(wire.encode(a_frame(visit, unit=f"hold:{gate}")))
    receipt = raw.ask(wire.encode(a_frame(304)))
    assert (receipt.visit, receipt.status, receipt.error, receipt.retry) == (304, "failed", "NoCredit", True)
    until(lambda: service.status()["queued"] == 3)
    status = service.status()
    assert {name: status[name] for name in ("busy", "clients", "credit", "away")} == {
        **{"busy": 1, "clients": 1, "credit": 4, "away": 0}
    }
    assert 4 * 4 * 24 * 32 < status["bytes"] < status["room"]
    assert [one["connected"] for one in status["associators"].values()] == [True]
    gate.touch()
    assert sorted(raw.receipt().visit for _ in range(4)) == list(range(300, 304))


def test_a_long_frame_is_said_to_be_in_work_within_its_lease(raw, tmp_path):
    raw.dealer.send(wire.encode(a_frame(310, unit=f"hold:{tmp_path}/gate")))
    heard = [control.decode(raw.dealer.receive(TIMEOUT_S))["status"] for _ in range(3)]
    assert heard == ["accepted", "busy", "busy"]
    (tmp_path / "gate").touch()
    assert raw.receipt().status == "done"


def test_it_is_said_three_times_within_each_lease(raw, tmp_path):
    raw.dealer.send(wire.encode(a_frame(311, unit=f"hold:{tmp_path}/gate")))
    heard = []
    while len(heard) < 8:
        assert raw.dealer.receive(TIMEOUT_S)
        heard.append(time.monotonic())
    (tmp_path / "gate").touch()
    assert raw.receipt().status == "done"
    assert (
        np.median(np.diff(heard[2:])) < 0.42
    )  # of a lease of 1 s: a third, and a quarter of that for a loaded machine


def test_a_dead_letter_that_cannot_be_kept_stops_the_service_and_says_so(tmp_path, associator):
    with serving(tmp_path, associator) as served:
        (tmp_path / "dead").rmdir()
        raw = Raw(served.endpoint)
        receipt = raw.ask(changed(431, gain=...))
        assert (receipt.status, receipt.error, receipt.retry) == ("failed", "StoreFailed", True)
        assert served.joined()
        assert isinstance(served.error, StoreFailed)
        count = served.differencer.metrics.registry.get_sample_value
        assert count("gpudiff_frames_total", {"status": "failed"}) == 1
        raw.dealer.close()
