"""Copies between pinned memory and a GPU through CuPy, for bench/_gpu_rafts.py.  Not yet run on a GPU."""

from typing import Any

import numpy as np

from gpudiff.arrays.device import Cuda


class CudaStreams(Cuda):
    """`Cuda` with copies that run beside the host's work: a `_gpu_rafts.Streams`."""

    def event(self) -> Any:
        with self.here():
            return self.cupy.cuda.Event(disable_timing=True)

    def send(self, here: np.ndarray, there: Any, stream: Any) -> None:
        with self.here():
            there.data.copy_from_host_async(here.ctypes.data, here.nbytes, stream)

    def fetch(self, there: Any, here: np.ndarray, stream: Any) -> None:
        with self.here():
            there.data.copy_to_host_async(here.ctypes.data, here.nbytes, stream)

    def record(self, event: Any, stream: Any) -> None:
        with self.here():
            event.record(stream)

    def wait(self, stream: Any, event: Any) -> None:
        with self.here():
            stream.wait_event(event)

    def finish(self) -> None:
        """Let the host wait for all that the device was given."""
        with self.here():
            self.device.synchronize()

    def trim(self) -> None:
        """Give back what this process holds of its memory and nothing uses."""
        with self.here():
            self.cupy.get_default_memory_pool().free_all_blocks()

    def used(self) -> int:
        """Bytes of its memory that this process holds."""
        return int(self.cupy.get_default_memory_pool().total_bytes())
