"""Writes a hard scene to disk."""

from pathlib import Path

from gpudiff.edges.fits import write_frame
from gpudiff.edges.sources import write_table
from gpudiff.model.errors import StoreFailed
from gpudiff.model.hard_scene import HardPair, HardScene
from gpudiff.model.scene import Night
from gpudiff.science.hard_pair import hard_pair


def simulate_pair(scene: HardScene, night: Night, size: int, folder: Path) -> HardPair:
    """Write science.fits, template.fits, perfect.fits and truth.ecsv under `folder`.

    Raises BadConfiguration for a size that cannot be, StoreFailed where the folder cannot be written.
    """
    pair = hard_pair(scene, night, size)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreFailed(f"{folder}: cannot be written: {error.strerror}") from None
    write_frame(folder / "science.fits", pair.science)
    write_frame(folder / "template.fits", pair.template)
    write_frame(folder / "perfect.fits", pair.perfect)
    write_table(folder / "truth.ecsv", pair.truth)
    return pair
