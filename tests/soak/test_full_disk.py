"""A disk that is full, under ledger and archive or under the archive: the associator ends, nothing is lost."""

from pathlib import Path

import pytest
from killing import Service, filmed
from serving import until
from small_disk import SmallDisk

SIZE, LEFT = 64 << 20, 64 << 10


@pytest.fixture
def disk(tmp_path, request):
    """On the store, or on a folder of it."""
    store = tmp_path / "store"
    try:
        made = SmallDisk(store, store / request.param, SIZE)
    except OSError as error:
        pytest.skip(f"a disk of one's own is not permitted here (it needs user namespaces): {error}")
    yield made
    made.close()


def fill(directory: Path, disk: SmallDisk, times: int) -> None:
    """Let the disk run full, make room, go on, so many times; then check."""
    service = Service(directory, disk=disk)
    with filmed(service) as camera:
        for number in range(times):
            camera.wait_for(1, 0.0)
            disk.fill(LEFT * number)
            until(lambda: service.associator.process.poll() is not None)
            assert service.associator.process.returncode == 4
            assert "StoreFailed" in service.associator.log.read_text().splitlines()[-1]
            disk.make_room()
            service.associator.start()


@pytest.mark.parametrize("disk", ["", "alerts"], indirect=True)
def test_a_full_disk_ends_the_associator_and_loses_nothing(tmp_path, disk):
    fill(tmp_path / "night", disk, 1)


@pytest.mark.soak
@pytest.mark.parametrize("disk", ["", "alerts"], indirect=True)
def test_a_disk_that_is_full_again_and_again_loses_nothing(tmp_path, disk):
    fill(tmp_path / "night", disk, 12)
