"""gpudiff.services.monitor: metrics and health over HTTP."""

import json
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry
from serving import TIMEOUT_S

from gpudiff.model.errors import BadConfiguration
from gpudiff.services.monitor import Monitor, address


@pytest.fixture
def monitor():
    made = Monitor(CollectorRegistry(), "0", alive=lambda: "", ready=lambda: "no worker is ready")
    yield made
    made.close()


def get(monitor: Monitor, page: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{monitor.port}/{page}", timeout=TIMEOUT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_program_that_is_well_answers_200(monitor):
    status, body = get(monitor, "healthz")
    assert (status, json.loads(body)) == (200, {"ok": True, "why": ""})


def test_one_that_cannot_take_work_answers_503_and_says_why(monitor):
    status, body = get(monitor, "readyz")
    assert (status, json.loads(body)) == (503, {"ok": False, "why": "no worker is ready"})


def test_another_page_is_not_found(monitor):
    assert get(monitor, "other")[0] == 404
    assert get(monitor, "metrics")[0] == 200


@pytest.mark.parametrize("text", ["x", "host:", "127.0.0.1:70000"])
def test_an_address_that_is_none_is_refused(text):
    with pytest.raises(BadConfiguration, match="HOST"):
        address(text)


def test_a_port_alone_is_this_machine_s_and_one_in_use_is_refused(monitor):
    assert address("9100") == ("127.0.0.1", 9100)
    with pytest.raises(BadConfiguration, match="expected a free address"):
        Monitor(CollectorRegistry(), str(monitor.port), lambda: "", lambda: "")
