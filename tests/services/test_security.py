"""Who may send frames and detections, and what a message may not do to the file system."""

import dataclasses
import json
import os
import re
from pathlib import Path

import pytest
from serving import TIMEOUT_S, Raw, Served, SmallAssociator, a_frame, serving, settings_in, until

from gpudiff.edges import keys, wire
from gpudiff.edges.client import FrameClient
from gpudiff.edges.transport import Dealer, Router, wait
from gpudiff.model.config import Security
from gpudiff.model.errors import BadConfiguration, NeighbourLost
from gpudiff.services.differencer import Differencer

PACKAGE = Path(keys.__file__).parents[1]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """(keys of the service, of an allowed camera, of a stranger), each with the service's public key."""
    ours, camera, stranger = (tmp_path_factory.mktemp(name) for name in ("service", "camera", "stranger"))
    keys.make(ours, "service")
    for folder in (camera, stranger):
        keys.make(folder, folder.name.rstrip("0"))
        (folder / "service.key").write_text((ours / "service.key").read_text())
    keys.allow(ours, camera / "camera.key")
    return ours, camera / "camera.key_secret", stranger / "stranger.key_secret"


@pytest.fixture(scope="module")
def guarded(folders, tmp_path_factory):
    """A differencer that anybody can reach, and its associator behind keys too."""
    directory = tmp_path_factory.mktemp("guarded")
    security = Security(keys=str(folders[0]))
    associator = SmallAssociator("tcp://0.0.0.0:*", keys.server_keys(security, "tcp://0.0.0.0:*", "detections"))
    with pytest.MonkeyPatch.context() as patch:
        tests = Path(__file__).parents[1]
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tests), str(tests.parent)]))
        settings = settings_in(directory, here(associator.endpoint))
        configuration = dataclasses.replace(settings.configuration, security=security)
        served = Served(dataclasses.replace(settings, frames="tcp://0.0.0.0:*", configuration=configuration))
        yield served
        served.stop()
    associator.close()


def here(endpoint: str) -> str:
    """The endpoint as this machine reaches it."""
    return endpoint.replace("0.0.0.0", "127.0.0.1")


def test_an_allowed_client_is_served_and_its_detections_reach_a_guarded_associator(guarded, folders):
    with FrameClient(here(guarded.endpoint), timeout_s=TIMEOUT_S, keys=folders[1]) as client:
        assert client.send(a_frame(1)).status == "done"


def test_a_plain_client_is_refused_counted_and_told_why(guarded):
    with (
        FrameClient(here(guarded.endpoint), timeout_s=0.5) as client,
        pytest.raises(NeighbourLost, match="no key"),
    ):
        client.send(a_frame(2))
    until(lambda: guarded.status()["refused"].get("no key"))


def test_an_unknown_key_is_refused_counted_and_told_why(guarded, folders):
    client = FrameClient(here(guarded.endpoint), timeout_s=0.5, keys=folders[2])
    with client, pytest.raises(NeighbourLost, match="unknown key"):
        client.send(a_frame(3))
    until(lambda: guarded.status()["refused"].get("unknown key"))


def test_a_plain_differencer_is_not_heard_by_a_guarded_associator(folders):
    security = Security(keys=str(folders[0]))
    router = Router("tcp://0.0.0.0:*", keys=keys.server_keys(security, "tcp://0.0.0.0:*", "detections"))
    dealer = Dealer(here(router.endpoint))
    dealer.send([b"detections"])
    until(lambda: router.refused()["no key"])
    assert not wait([router], 0.0)
    dealer.close()
    router.close()


def test_a_service_beyond_this_machine_without_keys_does_not_start(tmp_path):
    settings = dataclasses.replace(settings_in(tmp_path, "tcp://127.0.0.1:9"), frames="tcp://0.0.0.0:*")
    with pytest.raises(BadConfiguration, match="gpudiff keys make service"):
        Differencer(settings)


HOSTILE = ["../../x", "/etc/passwd", "..", "a/../../b", "\x00", "x\n", "~", "%2e%2e%2f", 2**40, -1, {"a": 1}]


def test_names_in_messages_never_become_paths(tmp_path):
    associator = SmallAssociator()
    (tmp_path / "night").mkdir()
    with serving(tmp_path / "night", associator) as served:
        raw = Raw(served.endpoint)
        for value in HOSTILE:
            for key in ("visit", "detector", "snap", "band", "unit"):
                parts = list(wire.encode(a_frame(1, unit="adu")))
                parts[1] = json.dumps({**json.loads(parts[1]), key: value}).encode()
                assert raw.ask(parts).status in ("rejected", "done", "duplicate")
        raw.dealer.close()
    associator.close()
    assert [path.name for path in tmp_path.iterdir()] == ["night"]
    letters = {path.name for path in (tmp_path / "night" / "dead").iterdir()}
    assert letters
    assert all(re.fullmatch(r"(\d+-\d+-\d+|unknown-[0-9a-f]{16})-\w+\.(json|gdf)", name) for name in letters)


def test_nothing_unpickles_or_evaluates_what_it_is_sent():
    forbidden = re.compile(r"\b(pickle|cPickle|dill|marshal|shelve|allow_pickle=True|eval\(|exec\(|recv_pyobj)")
    found = [path.name for path in PACKAGE.rglob("*.py") if forbidden.search(path.read_text())]
    assert found == []
