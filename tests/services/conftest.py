"""What several tests of the services need."""

import pytest
from serving import SmallAssociator


@pytest.fixture(scope="module")
def associator():
    """An associator that commits everything, for the tests of one file."""
    associator = SmallAssociator()
    yield associator
    associator.close()
