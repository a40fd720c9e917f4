"""The truth of a simulated night, as an ECSV table."""

from pathlib import Path

from gpudiff.edges.atomic import atomically
from gpudiff.model.errors import UnreadableFile
from gpudiff.model.scene import TRUTH
from gpudiff.model.tables import Table


def write_truth(path: str | Path, truth: Table) -> None:
    """Every row with its columns' units and meanings; raises StoreFailed."""
    from astropy.table import Column
    from astropy.table import Table as AstropyTable

    columns = [
        Column(truth[c.name], name=c.name, unit=c.unit or None, description=c.description) for c in truth.schema
    ]
    with atomically(path) as temporary:
        AstropyTable(columns).write(temporary, format="ascii.ecsv")


def read_truth(path: str | Path) -> Table:
    """What `write_truth` wrote; raises UnreadableFile for anything else."""
    from astropy.table import Table as AstropyTable

    try:
        read = AstropyTable.read(path, format="ascii.ecsv", fill_values=None)
        return Table(TRUTH, {name: read[name] for name in read.colnames})
    except (OSError, ValueError, TypeError) as error:
        raise UnreadableFile(f"{path}: expected a truth table (ECSV): {str(error).splitlines()[0]}") from None
