"""Where the sources of CUDA kernels are, and where compiled ones are kept."""

import importlib.resources
import os
import tempfile
from pathlib import Path

from gpudiff.model.errors import DeviceFailed


def kernel_source(stem: str) -> str:
    """The text of kernels/<stem>.cu, from the installed package or from a checkout.

    Raises DeviceFailed where neither has it.
    """
    installed = Path(str(importlib.resources.files("gpudiff"))) / "kernels"
    folder = installed if installed.is_dir() else installed.parents[1] / "kernels"
    path = folder / f"{stem}.cu"
    if not path.is_file():
        raise DeviceFailed(f"kernel {stem}: expected its source in {path}")
    return path.read_text()


def cache_folder() -> Path:
    """Where compiled kernels are kept between runs, made if it is not there.

    Raises DeviceFailed where it cannot be made.
    """
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = root / "gpudiff"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody's home is known
        said = f"expected a folder that can be written to, set XDG_CACHE_HOME; got: {error}"
        raise DeviceFailed(f"compiled kernels have no place: {said}") from error
    return folder


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file that other processes see whole or not at all, after a power cut too."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)
