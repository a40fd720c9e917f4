"""gpudiff.edges.keys: key files, and who may come in."""

import os

import pytest
import zmq.auth

from gpudiff.edges import keys
from gpudiff.model.config import Security
from gpudiff.model.errors import BadConfiguration


def test_a_secret_is_readable_by_nobody_else_and_the_public_half_holds_no_secret(tmp_path):
    secret, public = keys.make(tmp_path / "keys", "camera")
    assert os.stat(secret).st_mode & 0o777 == 0o600
    assert keys.read(secret).public == keys.read(public).public
    assert keys.read(public).secret is None


def test_the_files_are_certificates_that_pyzmq_reads(tmp_path):
    secret, _ = keys.make(tmp_path, "camera")
    pair = keys.read(secret)
    assert zmq.auth.load_certificate(secret) == (pair.public, pair.secret)


def test_a_key_is_never_overwritten(tmp_path):
    keys.make(tmp_path, "camera")
    with pytest.raises(BadConfiguration, match="remove"):
        keys.make(tmp_path, "camera")


@pytest.mark.parametrize("name", ["", "../camera", "a/b", ".hidden", "x" * 65, "a\n"])
def test_a_name_that_is_no_plain_file_name_is_refused(tmp_path, name):
    with pytest.raises(BadConfiguration):
        keys.make(tmp_path / "keys", name)
    assert not (tmp_path / "keys").exists()


def test_a_secret_that_others_can_read_is_refused(tmp_path):
    secret, _ = keys.make(tmp_path, "camera")
    secret.chmod(0o640)
    with pytest.raises(BadConfiguration, match="640"):
        keys.read(secret)


def test_allowing_keeps_the_public_half_only(tmp_path):
    secret, _ = keys.make(tmp_path / "theirs", "camera")
    kept = keys.allow(tmp_path / "ours", secret)
    assert keys.read(kept).secret is None
    assert keys.allowed(tmp_path / "ours", "frames") == {"camera": keys.read(secret).public}
    assert keys.allowed(tmp_path / "ours", "detections") == {}


def test_one_line_with_a_public_key_is_a_key_file(tmp_path):
    public, _ = zmq.curve_keypair()
    (tmp_path / "camera.key").write_text(f'public-key = "{public.decode()}"\n')
    keys.allow(tmp_path, tmp_path / "camera.key")
    assert keys.allowed(tmp_path, "frames") == {"camera": public}
    (tmp_path / "other.key").write_bytes(public)
    with pytest.raises(BadConfiguration, match="a line public-key ="):
        keys.allow(tmp_path, tmp_path / "other.key")


def test_another_key_under_an_allowed_name_is_refused(tmp_path):
    keys.allow(tmp_path, keys.make(tmp_path / "one", "camera")[1])
    with pytest.raises(BadConfiguration, match="another key"):
        keys.allow(tmp_path, keys.make(tmp_path / "two", "camera")[1])


def test_a_file_that_is_no_key_lets_nobody_in(tmp_path):
    folder = tmp_path / "allowed" / "frames"
    folder.mkdir(parents=True)
    (folder / "odd.key").write_text("public-key = 3")
    assert keys.allowed(tmp_path, "frames") == {}


def test_a_key_that_was_being_allowed_when_its_program_was_killed_lets_nobody_in(tmp_path):
    _, public = keys.make(tmp_path, "camera")
    kept = keys.allow(tmp_path, public)
    kept.rename(kept.with_name(f".123.{kept.name}"))
    assert keys.allowed(tmp_path, "frames") == {}


def test_a_service_lets_in_whom_it_allows_without_a_new_start(tmp_path):
    keys.make(tmp_path, "service")
    _, public = keys.make(tmp_path / "theirs", "camera")
    server = keys.server_keys(Security(keys=str(tmp_path)), "tcp://0.0.0.0:5570", "frames")
    assert not server.allowed(keys.read(public).public)
    keys.allow(tmp_path, public)
    assert server.allowed(keys.read(public).public)


def test_an_associator_lets_in_differencers_of_its_own_pair_and_no_camera(tmp_path):
    _, own = keys.make(tmp_path, "service")
    keys.allow(tmp_path, keys.make(tmp_path / "theirs", "camera")[1])
    server = keys.server_keys(Security(keys=str(tmp_path)), "tcp://0.0.0.0:5571", "detections")
    assert server.allowed(keys.read(own).public)
    assert not server.allowed(keys.allowed(tmp_path, "frames")["camera"])


def test_a_differencer_knows_an_associator_with_a_pair_of_its_own(tmp_path):
    keys.make(tmp_path, "service")
    _, other = keys.make(tmp_path / "there", "service")
    other.rename(tmp_path / "associator.key")
    found = keys.associator_keys(Security(keys=str(tmp_path)))
    assert found.server == keys.read(tmp_path / "associator.key").public != found.public


def test_each_of_several_associators_is_known_by_its_own_key(tmp_path):
    keys.make(tmp_path, "service")
    keys.make(tmp_path, "east")
    found = keys.keys_by_endpoint(Security(keys=str(tmp_path)), {"tcp://e:1": "east", "tcp://w:1": ""})
    named = [keys.read(tmp_path / file).public for file in ("east.key", "service.key")]
    assert [found[one].server for one in ("tcp://e:1", "tcp://w:1")] == named


@pytest.mark.parametrize(("folder", "name"), [("", "east"), ("{}", "east"), ("{}", "../east")])
def test_a_key_of_an_associator_that_is_not_there_is_refused(tmp_path, folder, name):
    keys.make(tmp_path, "service")
    with pytest.raises(BadConfiguration, match="east"):
        keys.associator_keys(Security(keys=folder.format(tmp_path)), name)


def test_an_address_beyond_this_machine_needs_keys_and_the_refusal_says_how_to_make_them():
    with pytest.raises(BadConfiguration, match="gpudiff keys make service"):
        keys.server_keys(Security(), "tcp://0.0.0.0:5570", "frames")


def test_without_keys_this_machine_and_a_network_called_trusted_are_taken():
    assert keys.server_keys(Security(), "tcp://127.0.0.1:5570", "frames") is None
    open_to_all = Security(insecure=True)
    assert keys.server_keys(open_to_all, "tcp://0.0.0.0:5570", "frames") is None
    assert "everybody" in keys.warning(open_to_all, "tcp://0.0.0.0:5570")
    assert keys.warning(open_to_all, "tcp://127.0.0.1:5570") == ""
