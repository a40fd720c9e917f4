"""gpudiff: GPU-accelerated, real-time difference imaging for wide-field surveys."""

__version__ = "0.1.0"
