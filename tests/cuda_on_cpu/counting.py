"""An emulated device that counts what crosses to it and back, has so much memory and no more, and can fail."""

import weakref
from typing import Any

import numpy as np
from emulated import Emulated, OnDevice

from gpudiff.model.errors import DeviceFailed, DeviceFull


class Counting(Emulated):
    """up, down : bytes of each transfer; live, peak : bytes of memory in use, and the most there were

    capacity : bytes of memory; fails_after : launches after which the device is gone
    """

    def __init__(self, capacity: int = 1 << 40, fails_after: int = 1 << 40) -> None:
        super().__init__()
        self.capacity, self.fails_after = capacity, fails_after
        self.up: list[int] = []
        self.down: list[int] = []
        self.launches: list[str] = []
        self.live = self.peak = 0

    def free(self) -> int:
        return self.capacity - self.live

    def upload(self, array: Any, dtype: Any) -> OnDevice:
        made = super().upload(array, dtype)
        if made is not array:
            self.up.append(made.nbytes)
        return made if made is array else self._counted(made)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> OnDevice:
        return self._counted(super().empty(shape, dtype))

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> OnDevice:
        return self._counted(super().zeros(shape, dtype))

    def copy(self, array: Any) -> OnDevice:
        return self._counted(super().copy(array))

    def download(self, array: Any) -> np.ndarray:
        self._alive()
        self.down.append(array.nbytes)
        return super().download(array)

    def launch(self, stem: str, kernel: str, *rest: Any, **options: Any) -> None:
        self._alive()
        self.launches.append(kernel)
        super().launch(stem, kernel, *rest, **options)

    def _alive(self) -> None:
        if len(self.launches) >= self.fails_after:
            raise DeviceFailed(f"device {self.name}: an illegal memory access was encountered")

    def _counted(self, array: OnDevice) -> OnDevice:
        """An array of its own, whose bytes count until nobody holds it."""
        self._alive()
        size = array.nbytes
        if self.live + size > self.capacity:
            raise DeviceFull(
                f"device {self.name}: out of memory, {size} bytes of {self.capacity - self.live} free"
            )
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(array, self._released, size)
        return array

    def _released(self, size: int) -> None:
        self.live -= size
