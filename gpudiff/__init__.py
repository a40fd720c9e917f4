"""gpudiff: GPU-accelerated, real-time difference imaging for wide-field surveys."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpudiff.edges.client import FrameClient

__version__ = "0.1.0"
__all__ = ["FrameClient", "__version__"]


def __getattr__(name: str) -> Any:
    """FrameClient, imported when first asked for: `import gpudiff` alone stays quick."""
    if name == "FrameClient":
        from gpudiff.edges.client import FrameClient

        return FrameClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
