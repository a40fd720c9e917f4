"""Who may send frames and detections, and what a message may not do to the file system."""

import dataclasses
import itertools
import json
import os
import re
import threading
import urllib.request
from pathlib import Path

import pytest
from batches import a_batch
from outgoing import an_outgoing
from serving import TIMEOUT_S, Raw, Served, SmallAssociator, a_frame, serving, settings_in, until
from sinking import free_ports, subscriber

from gpudiff.__main__ import main
from gpudiff.edges import keys, wire
from gpudiff.edges.client import FrameClient
from gpudiff.edges.transport import Dealer, Router, wait
from gpudiff.model.config import Configuration, Security, override
from gpudiff.model.errors import BadConfiguration, NeighbourLost
from gpudiff.services.associator_loop import serve
from gpudiff.services.differencer import Differencer
from gpudiff.services.handover import Handover
from gpudiff.services.outlets import sinks_of

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


def test_several_guarded_associators_each_get_their_own_sky(folders, tmp_path, monkeypatch):
    tests = Path(__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tests), str(tests.parent)]))
    security = Security(keys=str(folders[0]))
    made = [
        SmallAssociator("tcp://0.0.0.0:*", keys.server_keys(security, "tcp://0.0.0.0:*", "detections"))
        for _ in range(2)
    ]
    halves = [f"{here(one.endpoint)} ra {zone}" for one, zone in zip(made, ("0 180", "180 360"), strict=True)]
    settings = settings_in(tmp_path, "", associators=halves)
    configuration = dataclasses.replace(settings.configuration, security=security)
    served = Served(dataclasses.replace(settings, configuration=configuration))
    with FrameClient(served.endpoint, timeout_s=TIMEOUT_S, keys=folders[1]) as client:
        for visit, ra in ((1, 10.0), (2, 190.0)):
            observation = dataclasses.replace(a_frame(visit).observation, boresight_ra=ra, boresight_dec=0.0)
            assert client.send(dataclasses.replace(a_frame(visit), observation=observation)).status == "done"
    served.stop()
    for one in made:
        one.close()
    assert [[frame.visit for frame in one.batches] for one in made] == [[1], [2]]


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


def test_a_key_is_allowed_and_taken_back_while_clients_are_connected(guarded, folders):
    public, there = folders[2].with_name("stranger.key"), here(guarded.endpoint)
    with (
        FrameClient(there, timeout_s=TIMEOUT_S, keys=folders[1]) as camera,
        FrameClient(there, timeout_s=0.5, keys=folders[2]) as stranger,
    ):
        assert camera.send(a_frame(4)).status == "done"
        with pytest.raises(NeighbourLost, match="unknown key"):
            stranger.send(a_frame(5))
        kept = keys.allow(folders[0], public)
        stranger.timeout_s = TIMEOUT_S
        assert stranger.send(a_frame(5)).status == "done"
        kept.unlink()
        assert stranger.send(a_frame(6)).status == "done"  # its connection is open
        assert camera.send(a_frame(7)).status == "done"
    with (
        FrameClient(there, timeout_s=0.5, keys=folders[2]) as late,
        pytest.raises(NeighbourLost, match="unknown key"),
    ):
        late.send(a_frame(8))


def test_a_plain_differencer_is_not_heard_by_a_guarded_associator(folders):
    security = Security(keys=str(folders[0]))
    router = Router("tcp://0.0.0.0:*", keys=keys.server_keys(security, "tcp://0.0.0.0:*", "detections"))
    dealer = Dealer(here(router.endpoint))
    dealer.send([b"detections"])
    until(lambda: router.refused()["no key"])
    assert not wait([router], 0.0)
    dealer.close()
    router.close()


@pytest.fixture
def published(folders, tmp_path):
    """A real associator whose sink anybody can reach: (its directory, the sink, where batches go, its metrics)."""
    keys.allow(folders[0], folders[1].with_name("camera.key"), "alerts")
    port, other = free_ports(2)
    sink, metrics = f"tcp://0.0.0.0:{port}", f"127.0.0.1:{other}"
    configuration = override(Configuration(), "service", sinks=[f"zmq+{sink}"])
    configuration = override(configuration, "security", keys=str(folders[0]))
    bound, stop = [], threading.Event()
    arguments = (tmp_path, "tcp://127.0.0.1:0", configuration, bound.append, stop.is_set, metrics)
    thread = threading.Thread(target=serve, args=arguments, daemon=True)
    thread.start()
    until(lambda: bound)
    yield tmp_path, here(sink), bound[0], metrics
    stop.set()
    thread.join(TIMEOUT_S)


def test_alerts_reach_an_allowed_subscriber_and_a_plain_one_is_refused_and_counted(published, folders):
    directory, sink, detections, metrics = published
    pair, server = keys.read(folders[1]), keys.read(folders[0] / "service.key").public
    handover = Handover(detections, keys=keys.associator_keys(Security(keys=str(folders[0]))))
    with subscriber(sink) as stranger, subscriber(sink, keys=(server, pair.public, pair.secret)) as friend:
        for visit in itertools.count(1):
            handover.commit(a_batch(1, visit=visit))
            if friend.poll(50):
                break
        until(
            lambda: "refused alerts: no key" in json.loads((directory / "associator.json").read_text())["counts"]
        )
        assert not stranger.poll(0)
    handover.close()
    said = urllib.request.urlopen(f"http://{metrics}/metrics", timeout=TIMEOUT_S).read().decode()
    assert re.search(r'connections_refused_total\{door="alerts",reason="no key"\} [1-9]', said)


def test_a_filters_sink_asks_for_keys_too_and_its_refusals_are_counted(folders, tmp_path):
    (tmp_path / "filters.toml").write_text(
        '[[filter]]\nname = "all"\nowner = "me"\nwhere = "snr > -1"\nsink = "zmq+tcp://0.0.0.0:0"\n'
    )
    configuration = override(Configuration(), "security", keys=str(folders[0]))
    configuration = override(configuration, "broker", filters=str(tmp_path / "filters.toml"))
    (broker,) = sinks_of(configuration, tmp_path)
    broker.publish(an_outgoing(1))
    with subscriber(here(broker.running["all"].sink.endpoint)):
        until(lambda: broker.refused()["no key"])
    broker.close()


@pytest.mark.parametrize("url", ["zmq+tcp://0.0.0.0:0", "zmq+tcp://[::]:0?tier=notice"])
def test_a_sink_beyond_this_machine_without_keys_is_refused_by_name(url, tmp_path, capsys):
    with pytest.raises(BadConfiguration, match="gpudiff keys make service"):
        sinks_of(override(Configuration(), "service", sinks=[url]), tmp_path)
    (tmp_path / "night" / "alerts").mkdir(parents=True)
    assert main(["replay", str(tmp_path / "night"), "--sink", url]) == 3
    assert "gpudiff keys make service" in capsys.readouterr().err
    (tmp_path / "gpudiff.toml").write_text(f'[service]\nsinks = ["{url}"]\n')
    words = ["--directory", str(tmp_path / "night"), "--config", str(tmp_path / "gpudiff.toml")]
    assert main(["associator", *words]) == 3
    assert "gpudiff keys make service" in capsys.readouterr().err


def test_a_sink_open_to_everybody_says_so(tmp_path, capsys):
    configuration = override(Configuration(), "service", sinks=["zmq+tcp://0.0.0.0:0"])
    (sink,) = sinks_of(override(configuration, "security", insecure=True), tmp_path)
    sink.close()
    assert "insecure: tcp://0.0.0.0:0 gives alerts to everybody" in capsys.readouterr().err


def test_a_service_beyond_this_machine_without_keys_does_not_start(tmp_path):
    settings = dataclasses.replace(settings_in(tmp_path, "tcp://127.0.0.1:9"), frames="tcp://0.0.0.0:*")
    with pytest.raises(BadConfiguration, match="gpudiff keys make service"):
        Differencer(settings)


HOSTILE = ["../../x", "/etc/passwd", "..", "a/../../b", "\x00", "x\n", "~", "%2e%2e%2f", 2**40, -1, {"a": 1}]


def test_names_in_messages_never_become_paths(tmp_path):
    associator = SmallAssociator()
    (tmp_path / "night" / "alerts").mkdir(parents=True)
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
