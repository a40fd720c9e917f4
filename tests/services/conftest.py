"""What several tests of the services need."""

import pytest
from serving import TIMEOUT_S, Raw, SmallAssociator, serving

from gpudiff.edges.client import FrameClient


@pytest.fixture(scope="module")
def associator():
    """An associator that commits everything, for the tests of one file."""
    associator = SmallAssociator()
    yield associator
    associator.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory, associator):
    """One service that all the bad messages of one file go to: it must go on."""
    with serving(tmp_path_factory.mktemp("service"), associator, lease_s=1.0) as served:
        yield served


@pytest.fixture
def client(service):
    with FrameClient(service.endpoint, timeout_s=TIMEOUT_S) as client:
        yield client


@pytest.fixture
def raw(service):
    raw = Raw(service.endpoint)
    yield raw
    raw.dealer.close()
